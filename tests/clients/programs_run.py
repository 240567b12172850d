"""Runs the client programs as their users would: each in a process of its own, scenarios in, what it saw out."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
TIMEOUT_S = 240


class Program(NamedTuple):
    name: str
    file: str
    dialect: str
    kinds: tuple[str, ...]
    module: str
    """What must be importable, so that a missing framework is named."""


class Scenario(NamedTuple):
    name: str
    kind: str
    prompt: str


_OFFICIAL = ("plain", "stream", "tools", "tools_stream", "schema", "schema_stream")
_AGENT = ("plain", "stream", "agent", "agent_schema")
PROGRAMS = (
    Program("openai-chat", "programs/openai_chat.py", "openai-chat", (*_OFFICIAL, "stream_without_usage", "embeddings"), "openai"),
    Program("openai-responses", "programs/openai_responses.py", "openai-responses", _OFFICIAL, "openai"),
    Program("anthropic", "programs/anthropic_messages.py", "anthropic", (*_OFFICIAL, "count"), "anthropic"),
    Program(
        "langchain-openai", "programs/langchain_openai_.py", "openai-chat", (*_OFFICIAL, "stream_without_usage"), "langchain_openai"
    ),
    Program("langchain-anthropic", "programs/langchain_anthropic_.py", "anthropic", _OFFICIAL[:5], "langchain_anthropic"),
    Program("pydantic-ai-chat", "programs/pydantic_ai_.py", "openai-chat", (*_AGENT, "schema"), "pydantic_ai"),
    Program("pydantic-ai-responses", "programs/pydantic_ai_.py", "openai-responses", (*_AGENT, "schema"), "pydantic_ai"),
    Program("pydantic-ai-anthropic", "programs/pydantic_ai_.py", "anthropic", _AGENT, "pydantic_ai"),
    Program("openai-agents-responses", "programs/openai_agents_.py", "openai-responses", _AGENT, "agents"),
    Program("openai-agents-chat", "programs/openai_agents_.py", "openai-chat", _AGENT, "agents"),
    Program(
        "vercel-chat", "node/vercel.mjs", "openai-chat", ("plain", "stream", "tools", "tools_stream", "schema", "agent"), "node"
    ),
    Program(
        "vercel-responses",
        "node/vercel.mjs",
        "openai-responses",
        ("plain", "stream", "tools", "tools_stream", "schema", "agent"),
        "node",
    ),
    Program(
        "vercel-anthropic", "node/vercel.mjs", "anthropic", ("plain", "stream", "tools", "tools_stream", "schema", "agent"), "node"
    ),
)

_RECORDED = (
    ("text", ("plain", "stream", "stream_without_usage")),
    ("unicode", ("plain", "stream")),
    ("reasoning", ("plain", "stream")),
    ("unknown_fields", ("plain", "stream")),
    ("length", ("plain", "stream")),
    ("tools", ("tools", "tools_stream")),
    ("schema", ("schema", "schema_stream")),
    ("pinged", ("stream",)),
    ("crlf", ("stream",)),
    *((f"error_{status}", ("plain", "stream")) for status in (400, 401, 404, 429, 500, 529)),
)


def scenarios() -> list[Scenario]:
    """Recordings by name, then answers made on the spot: agents' loops, pings while waiting, bytes split."""
    out = [
        Scenario(f"{name}-{kind}", kind, f"<<recording={name}>> When does it leave?") for name, kinds in _RECORDED for kind in kinds
    ]
    out += [
        Scenario("error_mid-stream", "stream", "<<recording=error_mid delay_ms=10>> When does it leave?"),
        Scenario("agent", "agent", "What does the tide_table say?"),
        Scenario("agent_schema", "agent_schema", "Give me the timetable."),
        Scenario("slow-with-pings", "stream", "<<delay_ms=60 ping_every_ms=25 words=4>> Take your time."),
        Scenario("one-byte-at-a-time", "stream", "<<split_bytes=1 split_pause_ms=0 words=3>> Gently."),
        Scenario("seven-bytes-at-a-time", "tools_stream", "<<split_bytes=7 split_pause_ms=0.2 tools=2>> Both, gently."),
        Scenario("all-at-once", "stream", "<<merge=true words=9>> Quickly."),
        Scenario("embeddings", "embeddings", "words to place"),
        Scenario("count", "count", "How many tokens is this?"),
    ]
    return out


def run(
    program: Program, *, python: str, node: str, base_url: str, key: str, model: str, which: Sequence[Scenario], extra: Any = None
) -> dict[str, Any]:
    """What the program saw, by scenario. Raises RuntimeError with what it printed when it failed as a whole."""
    order = {
        "base_url": base_url,
        "key": key,
        "model": model,
        "dialect": program.dialect,
        "scenarios": [s._asdict() for s in which if s.kind in program.kinds],
        "extra": extra or {},
    }
    words = [node if program.module == "node" else python, str(HERE / program.file)]
    environment = {k: v for k, v in os.environ.items() if not k.endswith(("_API_KEY", "_BASE_URL"))} | {"NO_PROXY": "*"}
    done = subprocess.run(words, input=json.dumps(order), capture_output=True, text=True, timeout=TIMEOUT_S, env=environment)
    if done.returncode:
        raise RuntimeError(f"{program.name} failed:\n{done.stderr[-2000:]}")
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen
