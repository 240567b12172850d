"""Whole answers of OpenAI's Responses dialect, and what whole and streamed answers share: items, usage, status."""

from typing import Any

import msgspec

from headway.calls.conversation import Answer, Part, Refusal, StopReason, Text, Thinking, ToolUse, Usage
from headway.gateway.dialects import openai_chat_answer
from headway.gateway.dialects.reading import Fields
from headway.gateway.dialects.reasoning import encrypted_for_openai_caller
from headway.kernel.errors import UpstreamFailed

Json = dict[str, Any]

_INCOMPLETE: dict[str, StopReason] = {
    "max_output_tokens": StopReason.LENGTH,
    "content_filter": StopReason.CONTENT_FILTER,
    "steered": StopReason.PAUSE,
}
_REASONS: dict[StopReason, str | None] = {
    StopReason.LENGTH: "max_output_tokens",
    StopReason.CONTENT_FILTER: "content_filter",
    StopReason.REFUSAL: "content_filter",
    StopReason.PAUSE: None,
}
"""Stops that make an answer incomplete. A refusal in the model's own words is a complete answer that holds a refusal."""


# --- reading -------------------------------------------------------------------------------------------------------------


def decode_answer(body: bytes) -> Answer:
    top = Fields.parse(body, "the provider's answer", UpstreamFailed)
    if "error" in top and top.text("object") != "response":
        kind, message, _ = openai_chat_answer.failure(body)
        raise UpstreamFailed(message, code=kind or None)
    if top.maybe("object", str) != "response":
        raise top.wrong("object", 'expected "response": this is no answer of the Responses API')
    status = top.text("status")
    if status == "failed" or status == "cancelled":
        kind, message = failure(top)
        raise UpstreamFailed(f"The provider answered with status {status}: {message or kind or 'no reason given'}.")
    if status in ("in_progress", "queued"):
        raise UpstreamFailed(f"The provider's answer is not finished (status {status}): background answers cannot be translated.")
    parts = tuple(part for item in top.objects("output") for part in _parts(item))
    return Answer(
        id=top.text("id"),
        model=top.text("model"),
        parts=parts,
        stop=stop_of(
            top,
            used_tool=any(isinstance(part, ToolUse) for part in parts),
            refused=any(isinstance(part, Refusal) for part in parts),
        ),
        usage=decode_usage(top.object("usage")),
        created_s=int(top.maybe("created_at", float) or 0),
    )


def stop_of(response: Fields, *, used_tool: bool, refused: bool) -> StopReason:
    if response.text("status") == "incomplete":
        details = response.object("incomplete_details")
        return _INCOMPLETE.get(details.text("reason") if details is not None else "", StopReason.UNKNOWN)
    if used_tool:
        return StopReason.TOOL_USE
    return StopReason.REFUSAL if refused else StopReason.END


def failure(response: Fields) -> tuple[str, str]:
    """(code, message) of a failed response."""
    error = response.object("error")
    return ("", "") if error is None else (error.text("code") or error.text("type"), error.text("message"))


def decode_usage(usage: Fields | None) -> Usage:
    if usage is None:
        return Usage()
    before, after = usage.object("input_tokens_details"), usage.object("output_tokens_details")
    return Usage(
        input_tokens=usage.maybe("input_tokens", int),
        output_tokens=usage.maybe("output_tokens", int),
        cached_tokens=before.maybe("cached_tokens", int) if before is not None else None,
        cache_write_tokens=before.maybe("cache_write_tokens", int) if before is not None else None,
        reasoning_tokens=after.maybe("reasoning_tokens", int) if after is not None else None,
    )


def _parts(item: Fields) -> list[Part]:
    """Empty for items of hosted tools, which a caller of another dialect cannot have asked for."""
    match item.need("type", str):
        case "message":
            return [part for content in item.objects("content") if (part := _said(content)) is not None]
        case "function_call":
            return [ToolUse(id=item.need("call_id", str), name=item.need("name", str), arguments=item.text("arguments"))]
        case "reasoning":
            paragraphs = [part.text("text") for key in ("summary", "content") for part in item.objects(key)]
            return [Thinking(text="\n\n".join(paragraphs), encrypted=item.text("encrypted_content"), id=item.text("id"))]
    return []


def _said(content: Fields) -> Text | Refusal | None:
    match content.need("type", str):
        case "output_text":
            return Text(text=content.text("text"))
        case "refusal":
            return Refusal(text=content.text("refusal"))
    return None


# --- writing -------------------------------------------------------------------------------------------------------------


def encode_answer(answer: Answer, *, model: str) -> bytes:
    id = response_id(answer.id)
    output = [item_of(part, id, index) for index, part in enumerate(filter(_says_something, answer.parts))]
    refused = any(isinstance(part, Refusal) for part in answer.parts)
    return msgspec.json.encode(
        response(
            id=id,
            model=model,
            created_s=answer.created_s,
            status=status_of(answer.stop, refused=refused),
            reason=_REASONS.get(answer.stop),
            output=output,
            usage=encode_usage(answer.usage),
        )
    )


def status_of(stop: StopReason, *, refused: bool) -> str:
    return "incomplete" if stop in _REASONS and not (refused and stop is StopReason.REFUSAL) else "completed"


def reason_of(stop: StopReason) -> str | None:
    return _REASONS.get(stop)


def response_id(id: str) -> str:
    return id if id.startswith("resp_") else f"resp_{id}"


def response(
    *,
    id: str,
    model: str,
    created_s: int,
    status: str,
    output: list[Json],
    usage: Json | None = None,
    reason: str | None = None,
    error: Json | None = None,
) -> Json:
    """The response object with every field that its clients require."""
    return {
        "id": id,
        "object": "response",
        "created_at": created_s,
        "status": status,
        "background": False,
        "error": error,
        "incomplete_details": {"reason": reason} if status == "incomplete" else None,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "model": model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
        "usage": usage,
    }


def encode_usage(usage: Usage) -> Json | None:
    """None when neither side is known: the dialect has a word for it."""
    if usage.input_tokens is None and usage.output_tokens is None:
        return None
    read, written = usage.input_tokens or 0, usage.output_tokens or 0
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens or 0, "cache_write_tokens": usage.cache_write_tokens or 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": read + written,
    }


def item_id(kind: str, response: str, index: int) -> str:
    """Unique within the answer, and the same in each event about the item."""
    return f"{kind}_{response.removeprefix('resp_')}_{index}"


def _says_something(part: Part) -> bool:
    """Empty text and empty thinking become no items, as in a stream."""
    match part:
        case Text() | Refusal():
            return bool(part.text)
        case Thinking():
            return bool(part.text or encrypted_for_openai_caller(part))
    return isinstance(part, ToolUse)


def item_of(part: Part, response: str, index: int) -> Json:
    match part:
        case ToolUse():
            return call_item(item_id("fc", response, index), "completed", part)
        case Thinking():
            return reasoning_item(part.id or item_id("rs", response, index), "completed", part)
        case Refusal():
            content: Json = {"type": "refusal", "refusal": part.text}
        case _:
            content = text_content(part.text if isinstance(part, Text) else "")
    return message_item(item_id("msg", response, index), "completed", [content])


def text_content(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def message_item(id: str, status: str, content: list[Json]) -> Json:
    return {"id": id, "type": "message", "status": status, "role": "assistant", "content": content}


def call_item(id: str, status: str, call: ToolUse) -> Json:
    return {
        "id": id,
        "type": "function_call",
        "status": status,
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
    }


def reasoning_item(id: str, status: str, part: Thinking) -> Json:
    item: Json = {"id": id, "type": "reasoning", "status": status, "summary": []}
    if part.text:
        item["summary"] = [{"type": "summary_text", "text": part.text}]
    if encrypted := encrypted_for_openai_caller(part):
        item["encrypted_content"] = encrypted
    return item
