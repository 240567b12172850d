"""The official OpenAI client on chat completions."""

from typing import Any

import common
from openai import OpenAI

TOOLS = [{"type": "function", "function": {**tool, "strict": True}} for tool in common.TOOLS]
FORMAT = {"type": "json_schema", "json_schema": {"name": "timetable", "schema": common.SCHEMA, "strict": True}}


def make(order: dict[str, Any]) -> dict[str, Any]:
    client = OpenAI(base_url=order["base_url"] + "/v1", api_key=order["key"], max_retries=0, timeout=30)
    chat = client.chat.completions

    def body(prompt: str, **more: Any) -> dict[str, Any]:
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": prompt}]
        return {"model": order["model"], "messages": messages, "max_tokens": 64, "temperature": 0, **order.get("extra", {}), **more}

    def stream(prompt: str, **more: Any) -> Any:
        return list(chat.create(**body(prompt, stream=True, stream_options={"include_usage": True}, **more)))

    def accumulated(prompt: str, **more: Any) -> Any:
        with chat.stream(**body(prompt, **more)) as events:
            kinds = [event.type for event in events]
            return {"kinds": kinds, "final": common.dumped(events.get_final_completion())}

    return {
        "plain": lambda prompt: chat.create(**body(prompt)),
        "stream": stream,
        "stream_without_usage": lambda prompt: list(chat.create(**body(prompt, stream=True))),
        "tools": lambda prompt: chat.create(**body(prompt, tools=TOOLS)),
        "tools_stream": lambda prompt: accumulated(prompt, tools=TOOLS),
        "schema": lambda prompt: chat.create(**body(prompt, response_format=FORMAT)),
        "schema_stream": lambda prompt: accumulated(prompt, response_format=FORMAT),
        "embeddings": lambda prompt: client.embeddings.create(model=order["model"], input=[prompt, "second"]),
    }


if __name__ == "__main__":
    common.run(make)
