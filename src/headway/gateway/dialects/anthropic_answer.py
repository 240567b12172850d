"""Whole answers of Anthropic's Messages dialect, and what whole and streamed answers share: usage, stop reasons, errors."""

from typing import Any

import msgspec

from headway.calls.conversation import Answer, Part, Refusal, StopReason, Text, Thinking, ToolUse, Usage
from headway.gateway.dialects.anthropic_encode import tool_id, tool_input
from headway.gateway.dialects.openai_chat_answer import failure
from headway.gateway.dialects.reading import Fields
from headway.gateway.dialects.reasoning import is_redacted, signature_for_anthropic_caller
from headway.kernel.errors import CallError, UpstreamFailed

Json = dict[str, Any]

STOPS: dict[str, StopReason] = {
    "end_turn": StopReason.END,
    "max_tokens": StopReason.LENGTH,
    "stop_sequence": StopReason.STOP_SEQUENCE,
    "tool_use": StopReason.TOOL_USE,
    "pause_turn": StopReason.PAUSE,
    "refusal": StopReason.REFUSAL,
    "model_context_window_exceeded": StopReason.LENGTH,
}
_REASONS: dict[StopReason, str] = {
    StopReason.END: "end_turn",
    StopReason.LENGTH: "max_tokens",
    StopReason.STOP_SEQUENCE: "stop_sequence",
    StopReason.TOOL_USE: "tool_use",
    StopReason.PAUSE: "pause_turn",
    StopReason.REFUSAL: "refusal",
    StopReason.CONTENT_FILTER: "refusal",
    StopReason.UNKNOWN: "end_turn",
}

# Kinds that other dialects report, in Anthropic's words. Anything else is an api_error.
_KINDS: dict[str, str] = {
    "rate_limit_exceeded": "rate_limit_error",
    "insufficient_quota": "billing_error",
    "overloaded": "overloaded_error",
    "server_is_overloaded": "overloaded_error",
    "service_unavailable_error": "overloaded_error",
    "invalid_api_key": "authentication_error",
    "model_not_found": "not_found_error",
    "context_length_exceeded": "invalid_request_error",
    "invalid_prompt": "invalid_request_error",
}
_OWN_KINDS = frozenset(
    (
        "api_error",
        "authentication_error",
        "billing_error",
        "gateway_timeout_error",
        "invalid_request_error",
        "not_found_error",
        "overloaded_error",
        "permission_error",
        "rate_limit_error",
        "request_too_large",
        "timeout_error",
    )
)

_OF_STATUS: dict[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_type(kind: str, status: int | None = None) -> str:
    """Anthropic's word for another dialect's kind of error, else for the HTTP status that came with it."""
    return kind if kind in _OWN_KINDS else _KINDS.get(kind) or _OF_STATUS.get(status or 0, "api_error")


def type_of(error: CallError) -> str:
    """The kind of an error of ours; of a provider's refusal handed on with its own status, what its kind or status stands for."""
    if error.http_status == error.status:
        return error.anthropic_type
    return error_type(error.reason, error.http_status)


def stop_reason(stop: StopReason, *, used_tool: bool) -> str:
    """Dialects and engines that report a plain end after tool calls mean tool_use; Anthropic's clients act on the word."""
    if used_tool and stop in (StopReason.END, StopReason.UNKNOWN):
        return "tool_use"
    return _REASONS[stop]


class UsageTally:
    """Anthropic reports the uncached input, cache reads and cache writes apart, and again at the end only what applies. Each field's
    last report counts; the whole prompt is their sum."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def see(self, usage: Fields | None) -> None:
        if usage is None:
            return
        for name in ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
            self._keep(name, usage)
        if (cache := usage.object("cache_creation")) is not None:
            self._keep("ephemeral_1h_input_tokens", cache)
        if (details := usage.object("output_tokens_details")) is not None:
            self._keep("thinking_tokens", details)

    def _keep(self, name: str, fields: Fields) -> None:
        value = fields.maybe(name, int)
        if value is not None:
            self._last[name] = value

    def usage(self) -> Usage:
        last = self._last
        uncached = last.get("input_tokens")
        cached, written = last.get("cache_read_input_tokens"), last.get("cache_creation_input_tokens")
        return Usage(
            input_tokens=None if uncached is None else uncached + (cached or 0) + (written or 0),
            output_tokens=last.get("output_tokens"),
            cached_tokens=cached,
            cache_write_tokens=written,
            cache_write_1h_tokens=last.get("ephemeral_1h_input_tokens"),
            reasoning_tokens=last.get("thinking_tokens"),
        )


def decode_usage(usage: Fields | None) -> Usage:
    tally = UsageTally()
    tally.see(usage)
    return tally.usage()


def encode_usage(usage: Usage) -> Json:
    """The four figures that clients read. The dialect has no word for unknown: it becomes 0."""
    cached, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
    made: Json = {
        "input_tokens": max((usage.input_tokens or 0) - cached - written, 0),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.output_tokens or 0,
    }
    if usage.cache_write_1h_tokens is not None:
        hour = usage.cache_write_1h_tokens
        made["cache_creation"] = {"ephemeral_5m_input_tokens": max(written - hour, 0), "ephemeral_1h_input_tokens": hour}
    if usage.reasoning_tokens is not None:
        made["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return made


def message_id(id: str) -> str:
    return id if id.startswith("msg_") else f"msg_{id}"


def decode_answer(body: bytes) -> Answer:
    top = Fields.parse(body, "the provider's answer", UpstreamFailed)
    if "error" in top:
        kind, reason, _ = failure(body)
        raise UpstreamFailed(reason, code=kind or None)
    if top.maybe("type", str) != "message":
        raise top.wrong("type", 'expected "message": this is no answer of the Messages API')
    reason = top.text("stop_reason")
    return Answer(
        id=top.text("id"),
        model=top.text("model"),
        parts=tuple(part for block in top.objects("content") if (part := _part(block)) is not None),
        stop=STOPS.get(reason, StopReason.UNKNOWN),
        stop_sequence=top.maybe("stop_sequence", str),
        usage=decode_usage(top.object("usage")),
    )


def _part(block: Fields) -> Part | None:
    """None for blocks of hosted tools, which a caller of another dialect cannot have asked for."""
    match block.need("type", str):
        case "text":
            return Text(text=block.text("text"))
        case "tool_use":
            arguments = block.raw("input")
            return ToolUse(
                id=block.need("id", str),
                name=block.need("name", str),
                arguments="{}" if arguments is None else bytes(arguments).decode(),
            )
        case "thinking":
            return Thinking(text=block.text("thinking"), signature=block.text("signature"))
        case "redacted_thinking":
            return Thinking(encrypted=block.text("data"))
    return None


def encode_answer(answer: Answer, *, model: str) -> bytes:
    blocks = [block for part in answer.parts if (block := _block(part)) is not None]
    used_tool = any(isinstance(part, ToolUse) for part in answer.parts)
    refused = any(isinstance(part, Refusal) for part in answer.parts)
    body: Json = {
        "id": message_id(answer.id),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": blocks,
        "stop_reason": "refusal" if refused else stop_reason(answer.stop, used_tool=used_tool),
        "stop_sequence": answer.stop_sequence,
        "usage": encode_usage(answer.usage),
    }
    return msgspec.json.encode(body)


def _block(part: Part) -> Json | None:
    match part:
        case Text() | Refusal():
            return {"type": "text", "text": part.text} if part.text else None
        case ToolUse():
            return {"type": "tool_use", "id": tool_id(part.id), "name": part.name, "input": tool_input(part.arguments)}
        case Thinking() if is_redacted(part):
            return {"type": "redacted_thinking", "data": part.encrypted}
        case Thinking() if (signature := signature_for_anthropic_caller(part)) or part.text:
            return {"type": "thinking", "thinking": part.text, "signature": signature}
    return None


def error_object(kind: str, message: str) -> Json:
    return {"type": "error", "error": {"type": kind, "message": message}}


def error_body(error: CallError, *, request_id: str) -> bytes:
    return msgspec.json.encode({**error_object(type_of(error), error.message), "request_id": request_id})
