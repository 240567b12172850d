"""What a chat request asks of the simulated engine: tokens estimated from bytes, and the prompt's blocks hashed for the prefix cache.

The prompt is laid out as a chat template would: tools, then each message's role and text in order. Its bytes divided by ``bytes_a_token``
are its tokens, and each whole block of them has a hash, so that a prompt that grows at its end finds its beginning in the cache.
"""

import hashlib
import json
from typing import Any, Final

import msgspec

NATURAL_TOKENS_MIN: Final = 16
NATURAL_TOKENS_SPAN: Final = 240
"""An answer that is not cut ends by itself between 16 and 255 tokens: which, follows from the prompt."""


class BadAsk(ValueError):
    """The body is not a request that this engine serves: 400."""


class StreamOptions(msgspec.Struct):
    include_usage: bool = False


class ChatBody(msgspec.Struct):
    """The fields that are read; all others are ignored."""

    model: str
    messages: list[dict[str, Any]]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    ignore_eos: bool = False
    priority: int = 0
    n: int | None = 1
    tools: list[Any] | None = None


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """``cut`` is true when the answer ends at the caller's maximum, not by itself."""

    model: str
    stream: bool
    include_usage: bool
    prompt_tokens: int
    output_tokens: int
    cut: bool
    blocks: tuple[int, ...]
    priority: int
    seed: int
    """Of the prompt: what is answered follows from it."""


def read_ask(body: bytes, *, bytes_a_token: int, block_tokens: int, context_tokens_max: int) -> Ask:
    """Raises BadAsk."""
    try:
        asked = msgspec.json.decode(body, type=ChatBody)
    except msgspec.DecodeError as error:
        raise BadAsk(str(error)) from None
    if not asked.messages:
        raise BadAsk("messages must hold at least one message")
    if asked.n not in (None, 1):
        raise BadAsk("n must be 1: this engine gives one choice")
    most = asked.max_completion_tokens if asked.max_completion_tokens is not None else asked.max_tokens
    if most is not None and most < 1:
        raise BadAsk("max_tokens must be at least 1")
    prompt = prompt_bytes(asked)
    tokens = -(-len(prompt) // bytes_a_token)
    room = context_tokens_max - tokens
    if room < (most or 1):
        raise BadAsk(
            f"this engine's context is {context_tokens_max} tokens; {tokens} of prompt and {most or 1} of answer do not fit"
        )
    seed = int.from_bytes(hashlib.blake2b(prompt, digest_size=8).digest(), "big")
    natural = NATURAL_TOKENS_MIN + seed % NATURAL_TOKENS_SPAN
    output = min(room, most or natural) if asked.ignore_eos else min(room, natural, most or natural)
    return Ask(
        model=asked.model,
        stream=bool(asked.stream),
        include_usage=asked.stream_options is not None and asked.stream_options.include_usage,
        prompt_tokens=tokens,
        output_tokens=output,
        cut=asked.ignore_eos or output < natural,
        blocks=block_hashes(prompt, bytes_a_token * block_tokens),
        priority=asked.priority,
        seed=seed,
    )


def prompt_bytes(asked: ChatBody) -> bytes:
    """The prompt as the engine reads it. A longer text in the last message only adds bytes at the end."""
    parts = [json.dumps(asked.tools, sort_keys=True)] if asked.tools else []
    for message in asked.messages:
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str):
            raise BadAsk("every message needs a role")
        parts.append(f"\n{role}\n{_text(content)}")
        if more := {name: value for name, value in message.items() if name not in ("role", "content")}:
            parts.append(json.dumps(more, sort_keys=True))
    return "".join(parts).encode("utf-8", "replace")


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise BadAsk("content must be a string or a list of parts")
    return "".join(
        part["text"] if isinstance(part, dict) and isinstance(part.get("text"), str) else json.dumps(part, sort_keys=True)
        for part in content
    )


def block_hashes(prompt: bytes, block_bytes: int) -> tuple[int, ...]:
    """One for each whole block."""
    ends = range(block_bytes, len(prompt) + 1, block_bytes)
    return tuple(int.from_bytes(hashlib.blake2b(prompt[end - block_bytes : end], digest_size=8).digest(), "big") for end in ends)
