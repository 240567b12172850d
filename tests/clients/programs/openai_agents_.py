"""OpenAI Agents over responses (its default) or chat completions; its traces go to the same base URL."""

from typing import Any

import common
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from pydantic import BaseModel

set_tracing_disabled(True)


class Departure(BaseModel):
    time: str
    seats: int


class Timetable(BaseModel):
    port: str
    departures: list[Departure]
    windy: bool


@function_tool
def tide_table(port: str, days: int) -> str:
    """High and low water."""
    return f"{port}: high water 09:15, for {days} days"


def make(order: dict[str, Any]) -> dict[str, Any]:
    client = AsyncOpenAI(base_url=order["base_url"] + "/v1", api_key=order["key"], max_retries=0, timeout=30)
    kind = OpenAIChatCompletionsModel if order["dialect"] == "openai-chat" else OpenAIResponsesModel
    model = kind(model=order["model"], openai_client=client)

    def agent(**more: Any) -> Agent:
        return Agent(name="pilot", instructions="Be brief.", model=model, model_settings=ModelSettings(max_tokens=64), **more)

    async def run(prompt: str, **more: Any) -> Any:
        result = await Runner.run(agent(**more), prompt, max_turns=4)
        responses = [common.dumped({"output": r.output, "usage": _usage(r.usage)}) for r in result.raw_responses]
        return {"output": common.dumped(result.final_output), "responses": responses}

    async def stream(prompt: str) -> Any:
        result = Runner.run_streamed(agent(), prompt, max_turns=4)
        kinds = [
            getattr(event.data, "type", "") if event.type == "raw_response_event" else event.type
            async for event in result.stream_events()
        ]
        return {
            "kinds": kinds,
            "output": common.dumped(result.final_output),
            "usage": [_usage(r.usage) for r in result.raw_responses],
        }

    return {
        "plain": run,
        "stream": stream,
        "agent": lambda prompt: run(prompt, tools=[tide_table]),
        "agent_schema": lambda prompt: run(prompt, output_type=Timetable),
    }


def _usage(usage: Any) -> Any:
    return {name: common.dumped(getattr(usage, name)) for name in ("requests", "input_tokens", "output_tokens", "total_tokens")}


if __name__ == "__main__":
    common.run(make)
