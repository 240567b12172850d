"""Pydantic AI over chat completions, responses or messages; ``order["dialect"]`` says which."""

from typing import Any

import common
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, capture_run_messages
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider


class Departure(BaseModel):
    time: str
    seats: int


class Timetable(BaseModel):
    port: str
    departures: list[Departure]
    windy: bool


def model_of(order: dict[str, Any]) -> Any:
    if order["dialect"] == "anthropic":
        return AnthropicModel(order["model"], provider=AnthropicProvider(base_url=order["base_url"], api_key=order["key"]))
    provider = OpenAIProvider(base_url=order["base_url"] + "/v1", api_key=order["key"])
    kind = OpenAIChatModel if order["dialect"] == "openai-chat" else OpenAIResponsesModel
    return kind(order["model"], provider=provider)


def shown(messages: Any) -> Any:
    """Messages without what the framework makes up itself: clocks and run numbers."""
    return _without(common.dumped([_plain(message) for message in messages]))


def _plain(message: Any) -> Any:
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(message)


def _without(value: Any) -> Any:
    dropped = {"timestamp", "run_id", "conversation_id", "provider_url"}
    if isinstance(value, dict):
        return {key: _without(inner) for key, inner in value.items() if key not in dropped}
    return [_without(inner) for inner in value] if isinstance(value, list) else value


def make(order: dict[str, Any]) -> dict[str, Any]:
    model = model_of(order)
    settings: dict[str, Any] = {"max_tokens": 64, "timeout": 30}

    async def run(prompt: str, **more: Any) -> Any:
        agent = Agent(model, model_settings=settings, retries=0, **more)
        result = await agent.run(prompt)
        return {"output": common.dumped(result.output), "messages": shown(result.all_messages())}

    async def stream(prompt: str) -> Any:
        async with Agent(model, model_settings=settings, retries=0).run_stream(prompt) as result:
            pieces = [text async for text in result.stream_text(delta=True, debounce_by=None)]
            return {"pieces": pieces, "messages": shown(result.all_messages())}

    async def tools(prompt: str) -> Any:
        agent = Agent(model, model_settings=settings, retries=0)

        @agent.tool_plain
        def tide_table(port: str, days: int) -> str:
            return f"{port}: high water 09:15, for {days} days"

        with capture_run_messages() as messages:
            result = await agent.run(prompt)
        return {"output": result.output, "messages": shown(messages)}

    return {
        "plain": run,
        "stream": stream,
        "schema": lambda prompt: (
            run(prompt, output_type=NativeOutput(Timetable)) if order["dialect"] != "anthropic" else run(prompt)
        ),
        "agent": tools,
        "agent_schema": lambda prompt: run(prompt, output_type=Timetable),
    }


if __name__ == "__main__":
    common.run(make)
