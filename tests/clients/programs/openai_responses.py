"""The official OpenAI client on responses."""

from typing import Any

import common
from openai import OpenAI

TOOLS = [{"type": "function", "strict": True, **tool} for tool in common.TOOLS]
FORMAT = {"format": {"type": "json_schema", "name": "timetable", "schema": common.SCHEMA, "strict": True}}


def make(order: dict[str, Any]) -> dict[str, Any]:
    client = OpenAI(base_url=order["base_url"] + "/v1", api_key=order["key"], max_retries=0, timeout=30)

    def body(prompt: str, **more: Any) -> dict[str, Any]:
        base = {
            "model": order["model"],
            "instructions": "Be brief.",
            "input": prompt,
            "max_output_tokens": 64,
            "temperature": 0,
            "store": False,
        }
        return {**base, **order.get("extra", {}), **more}

    def accumulated(prompt: str, **more: Any) -> Any:
        with client.responses.stream(**body(prompt, **more)) as events:
            kinds = [event.type for event in events]
            return {"kinds": kinds, "final": common.dumped(events.get_final_response())}

    return {
        "plain": lambda prompt: client.responses.create(**body(prompt)),
        "stream": lambda prompt: list(client.responses.create(**body(prompt, stream=True))),
        "tools": lambda prompt: client.responses.create(**body(prompt, tools=TOOLS)),
        "tools_stream": lambda prompt: accumulated(prompt, tools=TOOLS),
        "schema": lambda prompt: client.responses.create(**body(prompt, text=FORMAT)),
        "schema_stream": lambda prompt: accumulated(prompt, text=FORMAT),
    }


if __name__ == "__main__":
    common.run(make)
