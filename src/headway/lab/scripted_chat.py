"""The scripted answer in the OpenAI chat dialect. Each function gives events in order, as JSON-ready objects."""

from headway.lab.scripted_answer import CREATED_S, FINGERPRINT, ScriptedAnswer
from headway.lab.scripted_ask import Asked, Json
from headway.lab.scripted_script import Script

_STOPS = {"end": "stop", "length": "length", "tool_use": "tool_calls"}


def _usage(answer: ScriptedAnswer) -> Json:
    return {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
        "prompt_tokens_details": {"cached_tokens": answer.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": answer.reasoning_tokens, "audio_tokens": 0},
    }


def plain(answer: ScriptedAnswer, script: Script) -> Json:
    message: Json = {"role": "assistant", "content": answer.text or None, "refusal": None, "annotations": []}
    if answer.thinking:
        message["reasoning_content"] = "".join(answer.thinking)
    if answer.calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in answer.calls
        ]
    whole: Json = {
        "id": f"chatcmpl-{answer.token}",
        "object": "chat.completion",
        "created": CREATED_S,
        "model": answer.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _STOPS[answer.stop]}],
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }
    if script.usage:
        whole["usage"] = _usage(answer)
    return whole


def events(answer: ScriptedAnswer, asked: Asked, script: Script) -> list[Json | str]:
    """Chunks, then ``[DONE]`` as a bare string."""
    frame: Json = {
        "id": f"chatcmpl-{answer.token}",
        "object": "chat.completion.chunk",
        "created": CREATED_S,
        "model": answer.model,
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }
    if asked.include_usage:
        frame["usage"] = None

    def chunk(delta: Json, finish: str | None = None) -> Json:
        return {**frame, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}

    out: list[Json | str] = [chunk({"role": "assistant", "content": None if answer.calls else "", "refusal": None})]
    out += [chunk({"reasoning_content": piece}) for piece in answer.thinking]
    out += [chunk({"content": piece}) for piece in answer.pieces]
    for n, call in enumerate(answer.calls):
        opening = {"index": n, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        out.append(chunk({"tool_calls": [opening]}))
        out += [chunk({"tool_calls": [{"index": n, "function": {"arguments": part}}]}) for part in fragments(call.arguments)]
    out.append(chunk({}, _STOPS[answer.stop]))
    if asked.include_usage and script.usage:
        out.append({**frame, "choices": [], "usage": _usage(answer)})
    out.append("[DONE]")
    return out


def fragments(arguments: str, chars: int = 7) -> list[str]:
    """Arguments as a model streams them: pieces that respect neither words nor JSON."""
    return [arguments[at : at + chars] for at in range(0, len(arguments), chars)]


def error(kind: str, message: str, status: int) -> Json:
    return {"error": {"message": message, "type": kind, "param": None, "code": _CODES.get(status)}}


def error_kind(status: int) -> str:
    return {401: "invalid_request_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error" if status < 500 else "server_error"
    )


_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}


def rate_limit_headers() -> dict[str, str]:
    return {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "3",
        "x-ratelimit-reset-requests": "120ms",
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": "140",
        "x-ratelimit-reset-tokens": "6s",
    }
