"""What an answer says, whatever its dialect, and whether its stream kept the order that clients rely on."""

import json

import msgspec

from headway.prove.forms import CHAT, MESSAGES, RESPONSES, Json, SseEvent, sse_events


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer says, whatever its dialect: what must survive a translation."""

    text: str
    thinking: str
    calls: tuple[tuple[str, str], ...]
    """Names and arguments as canonical JSON."""
    stop: str
    input_tokens: int | None
    output_tokens: int | None
    model: str


_STOPS = {
    "stop": "end",
    "end_turn": "end",
    "completed": "end",
    "stop_sequence": "end",
    "length": "length",
    "max_tokens": "length",
    "incomplete": "length",
    "tool_calls": "tool_use",
    "tool_use": "tool_use",
}


def _stop(reason: str | None) -> str:
    return _STOPS.get(reason or "", reason or "")


def _canonical(arguments: str) -> str:
    return json.dumps(json.loads(arguments or "{}"), sort_keys=True, ensure_ascii=False)


def told(dialect: str, body: Json) -> Told:
    """Out of a whole answer."""
    return {CHAT: _told_chat, RESPONSES: _told_responses, MESSAGES: _told_messages}[dialect](body)


def _told_chat(body: Json) -> Told:
    choice = body["choices"][0]
    message, usage = choice["message"], body.get("usage") or {}
    return Told(
        text=message.get("content") or "",
        thinking=message.get("reasoning_content") or message.get("reasoning") or "",
        calls=tuple((c["function"]["name"], _canonical(c["function"]["arguments"])) for c in message.get("tool_calls") or ()),
        stop=_stop(choice["finish_reason"]),
        input_tokens=usage.get("prompt_tokens"),
        output_tokens=usage.get("completion_tokens"),
        model=body["model"],
    )


def _told_responses(body: Json) -> Told:
    items, usage = body["output"], body.get("usage") or {}
    calls = tuple((i["name"], _canonical(i["arguments"])) for i in items if i["type"] == "function_call")
    return Told(
        text="".join(p.get("text", "") for i in items if i["type"] == "message" for p in i["content"]),
        thinking="".join(s["text"] for i in items if i["type"] == "reasoning" for s in i.get("summary") or ()),
        calls=calls,
        stop="tool_use" if calls and body["status"] == "completed" else _stop(body["status"]),
        input_tokens=usage.get("input_tokens"),
        output_tokens=usage.get("output_tokens"),
        model=body["model"],
    )


def _told_messages(body: Json) -> Told:
    parts, usage = body["content"], body["usage"]
    counted = [usage.get(name) or 0 for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")]
    return Told(
        text="".join(p["text"] for p in parts if p["type"] == "text"),
        thinking="".join(p["thinking"] for p in parts if p["type"] == "thinking"),
        calls=tuple(
            (p["name"], json.dumps(p["input"], sort_keys=True, ensure_ascii=False)) for p in parts if p["type"] == "tool_use"
        ),
        stop=_stop(body["stop_reason"]),
        input_tokens=sum(counted),
        output_tokens=usage.get("output_tokens"),
        model=body["model"],
    )


def told_stream(dialect: str, stream: bytes) -> Told:
    """Out of a stream that ended well. Raises ValueError for an order that the dialect forbids."""
    return {CHAT: _told_chat_stream, RESPONSES: _told_responses_stream, MESSAGES: _told_messages_stream}[dialect](
        sse_events(stream)
    )


def _told_chat_stream(events: list[SseEvent]) -> Told:
    if [n for n, event in enumerate(events) if event.data == "[DONE]"] != [len(events) - 1]:
        raise ValueError("[DONE] must come exactly once, at the end")
    message: Json = {"content": "", "reasoning_content": "", "tool_calls": []}
    finish, usage, model = "", None, ""
    for event in events[:-1]:
        chunk = event.json()
        model = chunk["model"]
        usage = chunk.get("usage") or usage
        if not isinstance(chunk["choices"], list):
            raise ValueError("choices must be a list in every chunk")
        for choice in chunk["choices"]:
            delta = choice["delta"]
            message["content"] += delta.get("content") or ""
            message["reasoning_content"] += delta.get("reasoning_content") or ""
            for call in delta.get("tool_calls") or ():
                if call["index"] == len(message["tool_calls"]):
                    message["tool_calls"].append({"function": {"name": call["function"]["name"], "arguments": ""}})
                message["tool_calls"][call["index"]]["function"]["arguments"] += call["function"].get("arguments") or ""
            finish = choice["finish_reason"] or finish
    return _told_chat({"model": model, "usage": usage, "choices": [{"message": message, "finish_reason": finish}]})


def _told_responses_stream(events: list[SseEvent]) -> Told:
    bodies = [event.json() for event in events]
    if any(event.event != body["type"] for event, body in zip(events, bodies, strict=True)):
        raise ValueError("the event's name and its type differ")
    if [body["sequence_number"] for body in bodies] != list(range(len(bodies))):
        raise ValueError("sequence numbers must count from 0 without a gap")
    if bodies[0]["type"] != "response.created" or bodies[-1]["type"] not in ("response.completed", "response.incomplete"):
        raise ValueError("a stream begins with response.created and ends with response.completed")
    open_items: set[str] = set()
    text = ""
    for body in bodies:
        if body["type"] == "response.output_item.added":
            open_items.add(body["item"]["id"])
        elif body["type"] == "response.output_item.done":
            open_items.discard(body["item"]["id"])
        elif body["type"].endswith(".delta"):
            if body["item_id"] not in open_items:
                raise ValueError(f"a delta for an item that is not open: {body['item_id']}")
            text += body["delta"] if body["type"] == "response.output_text.delta" else ""
    whole = _told_responses(bodies[-1]["response"])
    if open_items or whole.text != text:
        raise ValueError("items stayed open, or the deltas are not the text of the end")
    return whole


def _told_messages_stream(events: list[SseEvent]) -> Told:
    bodies = [event.json() for event in events]
    if any(event.event != body["type"] for event, body in zip(events, bodies, strict=True)):
        raise ValueError("the event's name and its type differ")
    kinds = [body["type"] for body in bodies if body["type"] != "ping"]
    if kinds[0] != "message_start" or kinds[-2:] != ["message_delta", "message_stop"] or kinds.count("message_start") != 1:
        raise ValueError(f"order of {kinds}")
    message = dict(bodies[0]["message"], content=[])
    open_block: int | None = None
    arguments: dict[int, str] = {}
    for body in bodies:
        if body["type"] == "content_block_start":
            if open_block is not None or body["index"] != len(message["content"]):
                raise ValueError("blocks come one after the other, counted from 0")
            open_block = body["index"]
            message["content"].append(dict(body["content_block"]))
        elif body["type"] == "content_block_delta":
            if body["index"] != open_block:
                raise ValueError("content block not found")
            _grow(message["content"][-1], body["delta"], arguments, body["index"])
        elif body["type"] == "content_block_stop":
            open_block = None
        elif body["type"] == "message_delta":
            message["stop_reason"] = body["delta"]["stop_reason"]
            message["usage"] = message["usage"] | {k: v for k, v in body["usage"].items() if v is not None}
    for index, text in arguments.items():
        message["content"][index]["input"] = json.loads(text or "{}")
    return _told_messages(message)


def _grow(block: Json, delta: Json, arguments: dict[int, str], index: int) -> None:
    kind = delta["type"]
    if kind == "text_delta":
        block["text"] += delta["text"]
    elif kind == "thinking_delta":
        block["thinking"] += delta["thinking"]
    elif kind == "signature_delta":
        block["signature"] = delta["signature"]
    elif kind == "input_json_delta":
        arguments[index] = arguments.get(index, "") + delta["partial_json"]
