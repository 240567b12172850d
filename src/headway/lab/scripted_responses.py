"""The scripted answer in the OpenAI Responses dialect, with the whole event stream."""

from headway.lab.scripted_answer import CREATED_S, ScriptedAnswer
from headway.lab.scripted_ask import Asked, Json
from headway.lab.scripted_chat import fragments
from headway.lab.scripted_script import Script


def _frame(answer: ScriptedAnswer, asked: Asked) -> Json:
    return {
        "id": f"resp_{answer.token}",
        "object": "response",
        "created_at": CREATED_S,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": asked.max_tokens,
        "metadata": {},
        "model": answer.model,
        "output": [],
        "parallel_tool_calls": asked.parallel,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
        "user": None,
    }


def _closed(answer: ScriptedAnswer, asked: Asked, script: Script) -> Json:
    short = answer.stop == "length"
    status = "incomplete" if short else "completed"
    whole = _frame(answer, asked) | {"status": status, "output": [item for item, _ in _items(answer)]}
    if short:
        whole["incomplete_details"] = {"reason": "max_output_tokens"}
    if script.usage:
        whole["usage"] = {
            "input_tokens": answer.input_tokens,
            "input_tokens_details": {"cached_tokens": answer.cached_tokens},
            "output_tokens": answer.output_tokens,
            "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
            "total_tokens": answer.input_tokens + answer.output_tokens,
        }
    return whole


def plain(answer: ScriptedAnswer, asked: Asked, script: Script) -> Json:
    return _closed(answer, asked, script)


def _items(answer: ScriptedAnswer) -> list[tuple[Json, list[str]]]:
    """Output items as they end, with the pieces in which each was streamed."""
    items: list[tuple[Json, list[str]]] = []
    if answer.thinking:
        summary = [{"type": "summary_text", "text": "".join(answer.thinking)}]
        items.append(({"id": f"rs_{answer.token}", "type": "reasoning", "summary": summary}, list(answer.thinking)))
    if answer.pieces:
        part = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
        status = "incomplete" if answer.stop == "length" else "completed"
        message = {"id": f"msg_{answer.token}", "type": "message", "status": status, "role": "assistant", "content": [part]}
        items.append((message, list(answer.pieces)))
    for call in answer.calls:
        item = {
            "id": f"fc_{call.id[5:]}",
            "type": "function_call",
            "status": "completed",
            "arguments": call.arguments,
            "call_id": call.id,
            "name": call.name,
        }
        items.append((item, fragments(call.arguments)))
    return items


def events(answer: ScriptedAnswer, asked: Asked, script: Script) -> list[Json]:
    frame = _frame(answer, asked)
    out: list[Json] = [{"type": "response.created", "response": frame}, {"type": "response.in_progress", "response": frame}]
    for index, (item, pieces) in enumerate(_items(answer)):
        out += _ITEM_EVENTS[item["type"]](index, item, pieces)
    closed = _closed(answer, asked, script)
    out.append({"type": f"response.{closed['status']}", "response": closed})
    return [{**event, "sequence_number": n} for n, event in enumerate(out)]


def _message_events(index: int, item: Json, pieces: list[str]) -> list[Json]:
    at = {"item_id": item["id"], "output_index": index, "content_index": 0}
    part = item["content"][0]
    return [
        {"type": "response.output_item.added", "output_index": index, "item": item | {"status": "in_progress", "content": []}},
        {"type": "response.content_part.added", **at, "part": part | {"text": ""}},
        *({"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []} for piece in pieces),
        {"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []},
        {"type": "response.content_part.done", **at, "part": part},
        {"type": "response.output_item.done", "output_index": index, "item": item},
    ]


def _call_events(index: int, item: Json, pieces: list[str]) -> list[Json]:
    at = {"item_id": item["id"], "output_index": index}
    return [
        {"type": "response.output_item.added", "output_index": index, "item": item | {"status": "in_progress", "arguments": ""}},
        *({"type": "response.function_call_arguments.delta", **at, "delta": piece} for piece in pieces),
        {"type": "response.function_call_arguments.done", **at, "arguments": item["arguments"], "name": item["name"]},
        {"type": "response.output_item.done", "output_index": index, "item": item},
    ]


def _reasoning_events(index: int, item: Json, pieces: list[str]) -> list[Json]:
    at = {"item_id": item["id"], "output_index": index, "summary_index": 0}
    part = item["summary"][0]
    return [
        {"type": "response.output_item.added", "output_index": index, "item": item | {"summary": []}},
        {"type": "response.reasoning_summary_part.added", **at, "part": part | {"text": ""}},
        *({"type": "response.reasoning_summary_text.delta", **at, "delta": piece} for piece in pieces),
        {"type": "response.reasoning_summary_text.done", **at, "text": part["text"]},
        {"type": "response.reasoning_summary_part.done", **at, "part": part},
        {"type": "response.output_item.done", "output_index": index, "item": item},
    ]


_ITEM_EVENTS = {"message": _message_events, "function_call": _call_events, "reasoning": _reasoning_events}
