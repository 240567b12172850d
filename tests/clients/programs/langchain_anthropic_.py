"""LangChain's chat model over the Messages dialect."""

from typing import Any

import common
from langchain_anthropic import ChatAnthropic

TOOLS = [{"name": t["name"], "description": t["description"], "input_schema": t["parameters"]} for t in common.TOOLS]


def shown(message: Any) -> Any:
    seen = common.dumped(message)
    seen.pop("id", None)  # LangChain numbers its runs
    return seen


def make(order: dict[str, Any]) -> dict[str, Any]:
    model = ChatAnthropic(
        base_url=order["base_url"], api_key=order["key"], model=order["model"], max_retries=0, timeout=30, max_tokens=64
    )
    timetable = {"title": "timetable", "description": "Departures.", **common.SCHEMA}
    return {
        "plain": lambda prompt: shown(model.invoke(prompt)),
        "stream": lambda prompt: [shown(chunk) for chunk in model.stream(prompt)],
        "tools": lambda prompt: shown(model.bind_tools(TOOLS).invoke(prompt)),
        "tools_stream": lambda prompt: [shown(chunk) for chunk in model.bind_tools(TOOLS).stream(prompt)],
        "schema": lambda prompt: model.with_structured_output(timetable, method="json_schema").invoke(prompt),
    }


if __name__ == "__main__":
    common.run(make)
