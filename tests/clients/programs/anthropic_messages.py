"""The official Anthropic client on messages."""

from typing import Any

import common
from anthropic import Anthropic

TOOLS = [{"name": t["name"], "description": t["description"], "input_schema": t["parameters"]} for t in common.TOOLS]
FORMAT = {"format": {"type": "json_schema", "schema": common.SCHEMA}}


def make(order: dict[str, Any]) -> dict[str, Any]:
    client = Anthropic(base_url=order["base_url"], api_key=order["key"], max_retries=0, timeout=30)

    def body(prompt: str, **more: Any) -> dict[str, Any]:
        base = {"model": order["model"], "system": "Be brief.", "max_tokens": 64, "messages": [{"role": "user", "content": prompt}]}
        return {**base, **order.get("extra", {}), **more}

    def accumulated(prompt: str, **more: Any) -> Any:
        with client.messages.stream(**body(prompt, **more)) as events:
            kinds = [event.type for event in events]
            return {"kinds": kinds, "final": common.dumped(events.get_final_message())}

    return {
        "plain": lambda prompt: client.messages.create(**body(prompt)),
        "stream": lambda prompt: list(client.messages.create(**body(prompt, stream=True))),
        "tools": lambda prompt: client.messages.create(**body(prompt, tools=TOOLS)),
        "tools_stream": lambda prompt: accumulated(prompt, tools=TOOLS),
        "schema": lambda prompt: client.messages.create(**body(prompt, output_config=FORMAT)),
        "schema_stream": lambda prompt: accumulated(prompt, output_config=FORMAT),
        "count": lambda prompt: client.messages.count_tokens(model=order["model"], messages=[{"role": "user", "content": prompt}]),
    }


if __name__ == "__main__":
    common.run(make)
