"""LangChain's chat model over the OpenAI dialect."""

from typing import Any

import common
from langchain_openai import ChatOpenAI

TOOLS = [{"type": "function", "function": tool} for tool in common.TOOLS]


def shown(message: Any) -> Any:
    seen = common.dumped(message)
    seen.pop("id", None)  # LangChain numbers its runs
    return seen


def make(order: dict[str, Any]) -> dict[str, Any]:
    def model(**more: Any) -> ChatOpenAI:
        settings = {"base_url": order["base_url"] + "/v1", "api_key": order["key"], "model": order["model"]}
        return ChatOpenAI(**settings, max_retries=0, timeout=30, temperature=0, max_completion_tokens=64, **more)

    timetable = {"title": "timetable", "description": "Departures.", **common.SCHEMA}
    return {
        "plain": lambda prompt: shown(model().invoke(prompt)),
        "stream": lambda prompt: [shown(chunk) for chunk in model(stream_usage=True).stream(prompt)],
        "stream_without_usage": lambda prompt: [shown(chunk) for chunk in model(stream_usage=False).stream(prompt)],
        "tools": lambda prompt: shown(model().bind_tools(TOOLS).invoke(prompt)),
        "tools_stream": lambda prompt: [shown(chunk) for chunk in model().bind_tools(TOOLS).stream(prompt)],
        "schema": lambda prompt: model().with_structured_output(timetable, method="json_schema").invoke(prompt),
        "schema_stream": lambda prompt: list(model().with_structured_output(timetable, method="json_schema").stream(prompt)),
    }


if __name__ == "__main__":
    common.run(make)
