"""What a request asks for, read alike out of the three dialects, so that the answer to the same words is the same in all of them."""

from typing import Any

import msgspec

CHAT_PATH = "/v1/chat/completions"
RESPONSES_PATH = "/v1/responses"
MESSAGES_PATH = "/v1/messages"

Json = dict[str, Any]


class BadAsk(ValueError):
    """The body is not a request of its dialect: the upstream answers 400."""


class OfferedTool(msgspec.Struct, frozen=True):
    name: str
    schema: Json


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    dialect: str
    model: str
    stream: bool
    include_usage: bool
    last_text: str
    """Text of the last user turn."""
    last_is_tool_result: bool
    tool_results: tuple[str, ...]
    prompt_chars: int
    tools: tuple[OfferedTool, ...]
    tool_choice: str
    """auto, none, required, or a tool's name."""
    parallel: bool
    schema: Json | None
    """Of a structured answer; {} is "any JSON object"."""
    max_tokens: int | None
    thinking: bool


def _text_of(content: Any) -> str:
    """Text of a content field in any dialect: a string, or parts with ``text`` (tool results and images give none)."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))


def _model_of(body: Json) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadAsk("you must provide a model parameter")
    return model


def _turns_of(body: Json, key: str) -> list[Json]:
    turns = body.get(key)
    if isinstance(turns, str):
        return [{"role": "user", "content": turns}]
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        raise BadAsk(f"{key} must be a list of at least one object")
    return turns


def _last_user_text(turns: list[Json]) -> str:
    for turn in reversed(turns):
        if turn.get("role") == "user" and (text := _text_of(turn.get("content"))):
            return text
    return ""


def _choice_of(choice: Any) -> str:
    """``tool_choice`` of any dialect as auto, none, required or a name."""
    if isinstance(choice, str):
        return choice
    if not isinstance(choice, dict):
        return "auto"
    kind = choice.get("type", "auto")
    if kind in ("function", "tool"):
        return str(choice.get("name") or choice.get("function", {}).get("name") or "required")
    return {"any": "required"}.get(kind, str(kind))


def chat_ask(body: Json) -> Asked:
    turns = _turns_of(body, "messages")
    format_ = body.get("response_format") or {}
    schema = None
    if format_.get("type") == "json_schema":
        schema = format_["json_schema"].get("schema", {})
    elif format_.get("type") == "json_object":
        schema = {}
    return Asked(
        dialect="openai-chat",
        model=_model_of(body),
        stream=bool(body.get("stream")),
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        last_text=_last_user_text(turns),
        last_is_tool_result=turns[-1].get("role") == "tool",
        tool_results=tuple(_text_of(turn.get("content")) for turn in turns if turn.get("role") == "tool"),
        prompt_chars=sum(len(_text_of(turn.get("content"))) for turn in turns),
        tools=tuple(OfferedTool(t["function"]["name"], t["function"].get("parameters") or {}) for t in body.get("tools") or ()),
        tool_choice=_choice_of(body.get("tool_choice")),
        parallel=body.get("parallel_tool_calls") is not False,
        schema=schema,
        max_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
        thinking=bool(body.get("reasoning_effort")) and body.get("reasoning_effort") != "none",
    )


def responses_ask(body: Json) -> Asked:
    turns = _turns_of(body, "input")
    outputs = [turn for turn in turns if turn.get("type") == "function_call_output"]
    format_ = (body.get("text") or {}).get("format") or {}
    schema = format_.get("schema", {}) if format_.get("type") in ("json_schema", "json_object") else None
    reasoning = body.get("reasoning") or {}
    return Asked(
        dialect="openai-responses",
        model=_model_of(body),
        stream=bool(body.get("stream")),
        include_usage=True,
        last_text=_last_user_text(turns),
        last_is_tool_result=turns[-1].get("type") == "function_call_output",
        tool_results=tuple(_text_of(turn.get("output")) for turn in outputs),
        prompt_chars=len(body.get("instructions") or "")
        + sum(len(_text_of(turn.get("content") or turn.get("output"))) for turn in turns),
        tools=tuple(
            OfferedTool(t["name"], t.get("parameters") or {}) for t in body.get("tools") or () if t.get("type") == "function"
        ),
        tool_choice=_choice_of(body.get("tool_choice")),
        parallel=body.get("parallel_tool_calls") is not False,
        schema=schema,
        max_tokens=body.get("max_output_tokens"),
        thinking=bool(reasoning.get("effort")) and reasoning.get("effort") != "none",
    )


def messages_ask(body: Json) -> Asked:
    turns = _turns_of(body, "messages")
    results = [
        part
        for turn in turns
        if isinstance(turn.get("content"), list)
        for part in turn["content"]
        if isinstance(part, dict) and part.get("type") == "tool_result"
    ]
    last = turns[-1].get("content")
    system = _text_of(body.get("system"))
    format_ = (body.get("output_config") or {}).get("format") or body.get("output_format") or {}
    choice = body.get("tool_choice") or {}
    return Asked(
        dialect="anthropic",
        model=_model_of(body),
        stream=bool(body.get("stream")),
        include_usage=True,
        last_text=_last_user_text(turns),
        last_is_tool_result=isinstance(last, list) and any(isinstance(p, dict) and p.get("type") == "tool_result" for p in last),
        tool_results=tuple(_text_of(part.get("content")) for part in results),
        prompt_chars=len(system)
        + sum(len(_text_of(turn.get("content"))) for turn in turns)
        + sum(len(_text_of(part.get("content"))) for part in results),
        tools=tuple(OfferedTool(t["name"], t.get("input_schema") or {}) for t in body.get("tools") or () if "name" in t),
        tool_choice=_choice_of(choice),
        parallel=not choice.get("disable_parallel_tool_use", False),
        schema=format_.get("schema") if format_.get("type") == "json_schema" else None,
        max_tokens=body.get("max_tokens"),
        thinking=(body.get("thinking") or {}).get("type") in ("enabled", "adaptive"),
    )


ASK_BY_PATH = {CHAT_PATH: chat_ask, RESPONSES_PATH: responses_ask, MESSAGES_PATH: messages_ask}
