"""The scripted answer in Anthropic's Messages dialect."""

import json

from headway.lab.scripted_answer import ScriptedAnswer
from headway.lab.scripted_ask import Json
from headway.lab.scripted_chat import fragments
from headway.lab.scripted_script import Script

_STOPS = {"end": "end_turn", "length": "max_tokens", "tool_use": "tool_use"}
PING: Json = {"type": "ping"}


def _input_usage(answer: ScriptedAnswer) -> Json:
    """This dialect counts the cached part apart from the rest."""
    return {
        "input_tokens": answer.input_tokens - min(answer.cached_tokens, answer.input_tokens),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": min(answer.cached_tokens, answer.input_tokens),
        "service_tier": "standard",
    }


def _signature(answer: ScriptedAnswer) -> str:
    return f"sig{answer.token}=="


def plain(answer: ScriptedAnswer, script: Script) -> Json:
    content: list[Json] = []
    if answer.thinking:
        content.append({"type": "thinking", "thinking": "".join(answer.thinking), "signature": _signature(answer)})
    if answer.text:
        content.append({"type": "text", "text": answer.text})
    content += [
        {"type": "tool_use", "id": f"toolu_{c.id[5:]}", "name": c.name, "input": json.loads(c.arguments)} for c in answer.calls
    ]
    return {
        "id": f"msg_{answer.token}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        "stop_reason": _STOPS[answer.stop],
        "stop_sequence": None,
        "usage": {**_input_usage(answer), "output_tokens": answer.output_tokens}
        if script.usage
        else {"input_tokens": 0, "output_tokens": 0},
    }


def events(answer: ScriptedAnswer, script: Script) -> list[Json]:
    opening = plain(answer, script) | {"content": [], "stop_reason": None}
    opening["usage"] = {**_input_usage(answer), "output_tokens": 1}
    out: list[Json] = [{"type": "message_start", "message": opening}]
    index = 0
    if answer.thinking:
        deltas: list[Json] = [{"type": "thinking_delta", "thinking": piece} for piece in answer.thinking]
        out += _block(
            index,
            {"type": "thinking", "thinking": "", "signature": ""},
            [*deltas, {"type": "signature_delta", "signature": _signature(answer)}],
        )
        index += 1
    if answer.pieces:
        out += _block(index, {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in answer.pieces])
        index += 1
    for call in answer.calls:
        start = {"type": "tool_use", "id": f"toolu_{call.id[5:]}", "name": call.name, "input": {}}
        parts = ["", *fragments(call.arguments)]
        out += _block(index, start, [{"type": "input_json_delta", "partial_json": part} for part in parts])
        index += 1
    out.insert(2, PING)
    usage = {**_input_usage(answer), "output_tokens": answer.output_tokens} if script.usage else {"output_tokens": 0}
    out.append({"type": "message_delta", "delta": {"stop_reason": _STOPS[answer.stop], "stop_sequence": None}, "usage": usage})
    out.append({"type": "message_stop"})
    return out


def _block(index: int, start: Json, deltas: list[Json]) -> list[Json]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def error(kind: str, message: str, request_id: str) -> Json:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}


def error_kind(status: int) -> str:
    kinds = {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        529: "overloaded_error",
    }
    return kinds.get(status, "invalid_request_error" if status < 500 else "api_error")


def rate_limit_headers() -> dict[str, str]:
    return {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "3",
        "anthropic-ratelimit-requests-reset": "2026-11-24T12:00:00Z",
        "anthropic-ratelimit-tokens-limit": "40000",
        "anthropic-ratelimit-tokens-remaining": "140",
        "anthropic-ratelimit-tokens-reset": "2026-11-24T12:00:06Z",
    }
