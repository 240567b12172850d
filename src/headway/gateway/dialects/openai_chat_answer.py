"""Whole answers of OpenAI's chat dialect, and what whole and streamed answers share: usage, stop reasons, errors."""

from typing import Any, Final

import msgspec

from headway.calls.conversation import Answer, Part, Refusal, StopReason, Text, Thinking, ToolUse, Usage
from headway.gateway.dialects.reading import Fields
from headway.kernel.errors import CallError, UpstreamFailed

Json = dict[str, Any]

_STOPS: dict[str, StopReason] = {
    "stop": StopReason.END,
    "eos": StopReason.END,
    "length": StopReason.LENGTH,
    "tool_calls": StopReason.TOOL_USE,
    "function_call": StopReason.TOOL_USE,
    "content_filter": StopReason.CONTENT_FILTER,
}
_REASONS: dict[StopReason, str] = {
    StopReason.LENGTH: "length",
    StopReason.TOOL_USE: "tool_calls",
    StopReason.CONTENT_FILTER: "content_filter",
    StopReason.REFUSAL: "content_filter",
}


def stop_of(reason: str, *, used_tool: bool = False, refused: bool = False) -> StopReason:
    """A named tool choice ends with "stop" at OpenAI, and several engines say so after any call: a call that was made counts."""
    stop = _STOPS.get(reason, StopReason.UNKNOWN)
    if stop is StopReason.END:
        return StopReason.TOOL_USE if used_tool else StopReason.REFUSAL if refused else stop
    return stop


def reason_of(stop: StopReason, *, used_tool: bool = False, refused: bool = False) -> str:
    if refused and stop is StopReason.REFUSAL:
        return "stop"
    if used_tool and stop in (StopReason.END, StopReason.UNKNOWN):
        return "tool_calls"
    return _REASONS.get(stop, "stop")


# --- usage ---------------------------------------------------------------------------------------------------------------


class _PromptDetails(msgspec.Struct, frozen=True):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _CompletionDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: int | None = None


class RawUsage(msgspec.Struct, frozen=True):
    """The ``usage`` object; every provider adds to it, so unknown members are passed over."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    """DeepSeek's name."""

    def usage(self) -> Usage:
        prompt, completion = self.prompt_tokens_details, self.completion_tokens_details
        reasoning = completion.reasoning_tokens if completion else None
        output = self.completion_tokens
        if output is not None and reasoning and self.total_tokens == (self.prompt_tokens or 0) + output + reasoning:
            output += reasoning  # xAI counts reasoning beside the completion; everywhere else it is inside
        cached = prompt.cached_tokens if prompt else None
        return Usage(
            input_tokens=self.prompt_tokens,
            output_tokens=output,
            cached_tokens=self.prompt_cache_hit_tokens if cached is None else cached,
            cache_write_tokens=prompt.cache_write_tokens if prompt else None,
            reasoning_tokens=reasoning,
        )


_USAGE: Final = msgspec.json.Decoder(RawUsage | None)


def decode_usage(raw: msgspec.Raw | None) -> Usage | None:
    """None when there is none or it is in no form that we know."""
    if raw is None:
        return None
    try:
        found = _USAGE.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return found.usage() if found is not None else None


def encode_usage(usage: Usage) -> Json | None:
    """None when input or output is unknown: the dialect has no word for that, and 0 would be a lie."""
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    made: Json = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    details = {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.cache_write_tokens}
    if known := {name: value for name, value in details.items() if value is not None}:
        made["prompt_tokens_details"] = known
    if usage.reasoning_tokens is not None:
        made["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return made


# --- errors --------------------------------------------------------------------------------------------------------------


def error_object(error: CallError) -> Json:
    return {"message": error.message, "type": error.openai_type, "param": error.param, "code": error.reason}


def failure(raw: bytes | msgspec.Raw) -> tuple[str, str, int | None]:
    """(kind, message, HTTP status where it is said) of the body or event that holds an error; kind "" when it is none.

    Forms met: ``{"error": {...}}``, ``{"error": "text"}``, ``{"object": "error", "message": ...}``, ``{"detail": ...}``, and
    Mistral's and FastAPI's lists of details.
    """
    try:
        top = Fields.parse(raw, fault=UpstreamFailed)
        if "error" in top:
            inner = top.object("error") if not top.is_text("error") else None
            return _kind_of(inner) if inner is not None else ("error", top.text("error"), None)
        if top.text("object") == "error" or ("message" in top and ("type" in top or "code" in top)):
            return _kind_of(top)
        if "detail" in top:
            detail = top.raw("detail")
            return "error", top.text("detail") if top.is_text("detail") else bytes(detail or b"").decode(errors="replace"), None
    except UpstreamFailed:
        pass
    return "", "", None


def _kind_of(error: Fields) -> tuple[str, str, int | None]:
    code = error.raw("code")
    number = int(bytes(code)) if code is not None and bytes(code).isdigit() and len(bytes(code)) <= 6 else None
    kind = (error.text("code") if error.is_text("code") else "") or (error.text("type") if error.is_text("type") else "") or "error"
    message = error.text("message") if error.is_text("message") else bytes(error.raw("message") or b"").decode(errors="replace")
    return kind, message or "The provider gave no reason.", number if number and 400 <= number < 600 else None


# --- answers -------------------------------------------------------------------------------------------------------------


def decode_answer(body: bytes) -> Answer:
    """The first choice. UpstreamFailed when the body is an error or no answer of this dialect."""
    top = Fields.parse(body, "the provider's answer", UpstreamFailed)
    if "error" in top:
        kind, reason, _ = failure(body)
        raise UpstreamFailed(reason, code=kind or None)
    choices = top.objects("choices")
    message = choices[0].object("message") if choices else None
    if message is None:
        raise UpstreamFailed("The provider's answer has no choices.")
    parts = _parts(message)
    used_tool = any(isinstance(part, ToolUse) for part in parts)
    refused = any(isinstance(part, Refusal) for part in parts)
    return Answer(
        id=top.text("id"),
        model=top.text("model"),
        parts=tuple(parts),
        stop=stop_of(choices[0].text("finish_reason"), used_tool=used_tool, refused=refused),
        usage=decode_usage(top.raw("usage")) or Usage(),
        created_s=int(top.maybe("created", float) or 0),
        fingerprint=top.text("system_fingerprint"),
    )


def _parts(message: Fields) -> list[Part]:
    parts: list[Part] = []
    if thought := thought_of(message):
        parts.append(Thinking(text=thought))
    for kind, text in content_of(message):
        parts.append(Thinking(text=text) if kind == "thinking" else Text(text=text))
    if refusal := message.text("refusal"):
        parts.append(Refusal(text=refusal))
    for at, call in enumerate(message.objects("tool_calls")):
        if (function := call.object("function")) is not None:
            name, arguments = function.text("name"), arguments_of(function)
            parts.append(ToolUse(id=call.text("id") or f"call_{at}", name=name, arguments=arguments))
    if (legacy := message.object("function_call")) is not None:
        parts.append(ToolUse(id="call_0", name=legacy.text("name"), arguments=arguments_of(legacy)))
    return parts


def thought_of(fields: Fields) -> str:
    """Reasoning as DeepSeek, SGLang and llama.cpp name it, or as vLLM and OpenRouter do."""
    return fields.text("reasoning_content") or (fields.text("reasoning") if fields.is_text("reasoning") else "")


def arguments_of(function: Fields) -> str:
    """Text; some engines give the object itself."""
    if function.is_text("arguments"):
        return function.text("arguments")
    return bytes(function.raw("arguments") or b"").decode()


def content_of(fields: Fields) -> list[tuple[str, str]]:
    """(kind, text) of the content, which is a string everywhere but at Mistral's reasoning models."""
    if fields.is_text("content"):
        text = fields.text("content")
        return [("text", text)] if text else []
    found: list[tuple[str, str]] = []
    for chunk in fields.objects("content"):
        if chunk.text("type") == "thinking":
            inner = chunk.objects("thinking") if chunk.is_array("thinking") else []
            found.append(
                ("thinking", "".join(piece.text("text") for piece in inner) or (chunk.text("thinking") if not inner else ""))
            )
        elif chunk.text("type") == "text":
            found.append(("text", chunk.text("text")))
    return [(kind, text) for kind, text in found if text]


def encode_answer(answer: Answer, *, model: str) -> bytes:
    texts = [part.text for part in answer.parts if isinstance(part, Text)]
    calls = [part for part in answer.parts if isinstance(part, ToolUse)]
    refusals = [part.text for part in answer.parts if isinstance(part, Refusal)]
    thoughts = [part.text for part in answer.parts if isinstance(part, Thinking) and part.text]
    message: Json = {
        "role": "assistant",
        "content": "".join(texts) if texts or not (calls or refusals) else None,
        "refusal": "".join(refusals) if refusals else None,
    }
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = [tool_call(call) for call in calls]
    reason = reason_of(answer.stop, used_tool=bool(calls), refused=bool(refusals))
    made: Json = {
        "id": answer.id,
        "object": "chat.completion",
        "created": answer.created_s,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
    }
    if (usage := encode_usage(answer.usage)) is not None:
        made["usage"] = usage
    if answer.fingerprint:
        made["system_fingerprint"] = answer.fingerprint
    return msgspec.json.encode(made)


def tool_call(call: ToolUse) -> Json:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
