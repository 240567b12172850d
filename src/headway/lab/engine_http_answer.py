"""The simulated engine's answer in the OpenAI chat dialect, as vLLM words it: a whole body, or chunks one token each."""

import json
from typing import Any, Final

from headway.lab.engine_http_ask import Ask

_TEXT: Final = (
    "the simulated engine answers one word for each token and keeps the time that a measured machine would take "
    "while prompts wait for blocks of memory and steps of its batch"
)
WORDS: Final = tuple(_TEXT.split())
DONE: Final = b"data: [DONE]\n\n"
Json = dict[str, Any]


def word(ask: Ask, index: int) -> str:
    """The token at ``index``, with the blank before it."""
    return ("" if index == 0 else " ") + WORDS[(ask.seed + index) % len(WORDS)]


def usage(ask: Ask, output_tokens: int, cached_tokens: int) -> Json:
    return {
        "prompt_tokens": ask.prompt_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": ask.prompt_tokens + output_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    }


def finish_reason(ask: Ask) -> str:
    return "length" if ask.cut else "stop"


def whole(call: str, created_s: int, ask: Ask, cached_tokens: int) -> bytes:
    text = "".join(word(ask, index) for index in range(ask.output_tokens))
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "logprobs": None, "finish_reason": finish_reason(ask)}
    head = {"id": call, "object": "chat.completion", "created": created_s, "model": ask.model}
    return _dumps({**head, "choices": [choice], "usage": usage(ask, ask.output_tokens, cached_tokens)})


class Chunks:
    """Events of one streamed answer."""

    def __init__(self, call: str, created_s: int, ask: Ask) -> None:
        self._ask = ask
        self._head: Json = {"id": call, "object": "chat.completion.chunk", "created": created_s, "model": ask.model}

    def opening(self) -> bytes:
        return self._chunk({"role": "assistant", "content": ""})

    def tokens(self, start: int, end: int) -> bytes:
        """Tokens ``start`` to ``end``, each an event."""
        return b"".join(self._chunk({"content": word(self._ask, index)}) for index in range(start, end))

    def closing(self, cached_tokens: int) -> bytes:
        """The reason, the usage where it was asked for, the end."""
        last = self._chunk({}, finish_reason(self._ask))
        if self._ask.include_usage:
            last += _event({**self._head, "choices": [], "usage": usage(self._ask, self._ask.output_tokens, cached_tokens)})
        return last + DONE

    def _chunk(self, delta: Json, finish: str | None = None) -> bytes:
        return _event({**self._head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]})


def error(status: int, kind: str, message: str) -> bytes:
    return _dumps({"error": {"message": message, "type": kind, "param": None, "code": status}})


def models(name: str, created_s: int, context_tokens_max: int) -> bytes:
    model = {"id": name, "object": "model", "created": created_s, "owned_by": "headway-lab", "max_model_len": context_tokens_max}
    return _dumps({"object": "list", "data": [model]})


def _event(value: Json) -> bytes:
    return b"data: " + _dumps(value) + b"\n\n"


def _dumps(value: Json) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
