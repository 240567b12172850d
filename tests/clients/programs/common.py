"""What every client program shares: scenarios come in on stdin, what the program saw goes out on stdout, both JSON.

In:  {"base_url": "http://127.0.0.1:1234", "key": "...", "model": "...", "scenarios": [{"name", "kind", "prompt"}, ...]}
Out: {NAME: {"saw": anything} or {"raised": {"class", "status", "message"}}}

``kind`` is one of plain, stream, tools, tools_stream, schema, schema_stream; what a program cannot do it leaves out.
"""

import asyncio
import inspect
import json
import sys
from collections.abc import Callable
from typing import Any

TOOLS = [
    {
        "name": "tide_table",
        "description": "High and low water.",
        "parameters": {
            "type": "object",
            "properties": {"port": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["port", "days"],
            "additionalProperties": False,
        },
    },
    {
        "name": "ferry_times",
        "description": "Departures.",
        "parameters": {
            "type": "object",
            "properties": {"from": {"type": "string"}, "return": {"type": "boolean"}},
            "required": ["from", "return"],
            "additionalProperties": False,
        },
    },
]
SCHEMA = {
    "type": "object",
    "properties": {
        "port": {"type": "string"},
        "departures": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"time": {"type": "string"}, "seats": {"type": "integer"}},
                "required": ["time", "seats"],
                "additionalProperties": False,
            },
        },
        "windy": {"type": "boolean"},
    },
    "required": ["port", "departures", "windy"],
    "additionalProperties": False,
}


def dumped(value: Any) -> Any:
    """Models of any library as plain JSON, with every field that they carry."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", warnings=False)
    if isinstance(value, dict):
        return {str(key): dumped(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [dumped(inner) for inner in value]
    return value


def raised(error: BaseException) -> dict[str, Any]:
    message = str(getattr(error, "message", "") or error)
    return {
        "class": type(error).__name__,
        "status": getattr(error, "status_code", None),
        "message": message,
        "body": dumped(getattr(error, "body", None)),
    }


def run(make: Callable[[dict[str, Any]], dict[str, Callable[[str], Any]]]) -> None:
    """``make(order)`` gives for each kind a function of the prompt, sync or async."""
    asyncio.run(_run(make))


async def _run(make: Callable[[dict[str, Any]], dict[str, Callable[[str], Any]]]) -> None:
    order = json.load(sys.stdin)
    kinds = make(order)
    out: dict[str, Any] = {}
    for scenario in order["scenarios"]:
        ask = kinds.get(scenario["kind"])
        if ask is None:
            continue
        try:
            saw = ask(scenario["prompt"])
            out[scenario["name"]] = {"saw": dumped(await saw if inspect.isawaitable(saw) else saw)}
        except Exception as error:  # noqa: BLE001 - whatever a client raises is what it saw
            out[scenario["name"]] = {"raised": raised(error)}
    json.dump(out, sys.stdout, default=repr)
