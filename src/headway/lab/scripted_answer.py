"""The scripted model's answer: a pure function of what was asked and of the script, so that a test can say it beforehand."""

import hashlib
import json
from typing import Any

import msgspec

from headway.lab.scripted_ask import Asked, Json, OfferedTool
from headway.lab.scripted_script import Script

CREATED_S = 1_760_000_000
FINGERPRINT = "fp_scripted"
CHARS_PER_TOKEN = 4
SCHEMA_DEPTH_MAX = 12

_OPENINGS = (
    "This is the scripted model: it stands in until a real one is ready.",
    "A scripted answer, the same for the same question each time.",
    "No model was asked for this: the text follows from your words alone.",
)
_SENTENCES = (
    "The request came in whole and the connection stays open.",
    "Each word is sent as an event of its own, as a model would.",
    "Tokens are counted at four characters each, so the bill is easy to check.",
    "Ask for a tool and it is called with arguments made from its schema.",
    "Ask for a schema and the answer fits it.",
    "The board shows this call with its first-token time and its cost.",
    "Change the base URL back and nothing else about your program changes.",
)


class ToolCall(msgspec.Struct, frozen=True):
    id: str
    name: str
    arguments: str


class ScriptedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What is said, before any dialect. ``pieces`` joined are the text; each is one delta."""

    token: str
    """Hex of the request's hash: ids are made of it."""
    model: str
    pieces: tuple[str, ...]
    thinking: tuple[str, ...]
    calls: tuple[ToolCall, ...]
    stop: str
    """end, length or tool_use."""
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def tokens_of(chars: int) -> int:
    return max(1, -(-chars // CHARS_PER_TOKEN))


def answer_to(asked: Asked, script: Script) -> ScriptedAnswer:
    token = hashlib.blake2b(f"{asked.last_text}\0{len(asked.tool_results)}".encode(), digest_size=12).hexdigest()
    seed = int(token[:8], 16)
    calls = _tool_calls(asked, script, token)
    pieces = () if calls else _pieces(asked, script, seed)
    thinking = ("The question is short. ", "I answer it as written.") if script.thinking or asked.thinking else ()
    stop = "tool_use" if calls else script.stop or "end"
    if asked.max_tokens is not None and len(pieces) > asked.max_tokens:
        pieces, stop = pieces[: asked.max_tokens], "length"
    reasoning = tokens_of(sum(map(len, thinking))) if thinking else 0
    said = sum(map(len, pieces)) + sum(len(call.name) + len(call.arguments) for call in calls)
    return ScriptedAnswer(
        token=token,
        model=script.answered or asked.model.partition("?")[0],
        pieces=pieces,
        thinking=thinking,
        calls=calls,
        stop=stop,
        input_tokens=tokens_of(asked.prompt_chars),
        output_tokens=tokens_of(said) + reasoning,
        cached_tokens=script.cached_tokens,
        reasoning_tokens=reasoning,
    )


def _tool_calls(asked: Asked, script: Script, token: str) -> tuple[ToolCall, ...]:
    """Tools are called when the script, the request's ``tool_choice`` or a tool's name in the last words ask for it, and not twice."""
    if not asked.tools or asked.tool_choice == "none" or asked.last_is_tool_result:
        return ()
    by_name = {tool.name: tool for tool in asked.tools}
    if script.tools is not None:
        wanted = [asked.tools[n % len(asked.tools)] for n in range(script.tools)]
    elif asked.tool_choice in by_name:
        wanted = [by_name[asked.tool_choice]]
    elif named := [tool for tool in asked.tools if tool.name in asked.last_text]:
        wanted = named if asked.parallel else named[:1]
    elif asked.tool_choice == "required":
        wanted = [asked.tools[0]]
    else:
        wanted = []
    return tuple(_call(tool, n, token) for n, tool in enumerate(wanted))


def _call(tool: OfferedTool, n: int, token: str) -> ToolCall:
    arguments = json.dumps(sample(tool.schema, seed=int(token[:6], 16) + n), ensure_ascii=False)
    return ToolCall(f"call_{token[:16]}{n}", tool.name, arguments)


def _pieces(asked: Asked, script: Script, seed: int) -> tuple[str, ...]:
    if script.text is not None:
        text = script.text
    elif script.words is not None:
        return tuple(f"w{n} " for n in range(script.words))
    elif asked.schema is not None:
        text = json.dumps(sample(asked.schema, seed=seed), ensure_ascii=False)
    elif asked.last_is_tool_result:
        text = f"The tool said: {' | '.join(asked.tool_results)}"
    else:
        words = len(asked.last_text.split())
        chosen = [_SENTENCES[(seed + n * 3) % len(_SENTENCES)] for n in range(2 + seed % 3)]
        text = " ".join([_OPENINGS[seed % len(_OPENINGS)], f"You wrote {words} words.", *chosen])
    return tuple(piece for piece in _split_words(text) if piece)


def _split_words(text: str) -> list[str]:
    """Words with the blank that follows them: joined they are ``text`` again."""
    words = text.split(" ")
    return [word + " " for word in words[:-1]] + [words[-1]]


def sample(schema: Json, *, seed: int, root: Json | None = None, depth: int = 0) -> Any:
    """A value that fits ``schema`` (the subset that structured outputs allow), by ``seed``. Optional properties are given too."""
    root = schema if root is None else root
    if depth > SCHEMA_DEPTH_MAX:
        return None
    if isinstance(reference := schema.get("$ref"), str):
        target: Any = root
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
        return sample(target, seed=seed, root=root, depth=depth + 1)
    for fixed in ("const", "default"):
        if fixed in schema:
            return schema[fixed]
    if values := schema.get("enum"):
        return values[seed % len(values)]
    for choice in ("anyOf", "oneOf", "allOf"):
        if options := schema.get(choice):
            return sample(options[0], seed=seed, root=root, depth=depth + 1)
    kind = schema.get("type", "object")
    return _of_kind(kind[0] if isinstance(kind, list) else kind, schema, seed, root, depth)


def _of_kind(kind: str, schema: Json, seed: int, root: Json, depth: int) -> Any:
    if kind == "object":
        properties: Json = schema.get("properties") or {}
        return {
            name: sample(inner, seed=seed + n, root=root, depth=depth + 1) for n, (name, inner) in enumerate(properties.items())
        }
    if kind == "array":
        count = max(1, int(schema.get("minItems", 2)))
        return [sample(schema.get("items") or {"type": "string"}, seed=seed + n, root=root, depth=depth + 1) for n in range(count)]
    if kind in ("integer", "number"):
        low, high = schema.get("minimum", 1), schema.get("maximum", 100)
        value = low + seed % (int(high - low) + 1)
        return value if kind == "integer" else value + 0.5 * (value < high)
    if kind == "boolean":
        return seed % 2 == 0
    if kind == "null":
        return None
    return ("Paris", "Zürich", "naïve café", "東京", 'say "hi"')[seed % 5]
