"""Streams between all three dialects, and what the official clients make of the bytes that leave."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import anthropic
import httpx2
import msgspec
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calls.conversation import (
    Alive,
    Answer,
    Conversation,
    Delta,
    Failed,
    Finished,
    Image,
    Message,
    Part,
    PartDelta,
    PartEnded,
    PartStarted,
    Refusal,
    Role,
    Started,
    StopReason,
    Text,
    Thinking,
    Tool,
    ToolResult,
    ToolUse,
    Usage,
)
from headway.gateway.dialects.anthropic import AnthropicMessages
from headway.gateway.dialects.openai_chat import OpenAIChat
from headway.gateway.dialects.port import Dialect
from headway.gateway.dialects.responses import OpenAIResponses
from headway.kernel.errors import BudgetExhausted, UpstreamFailed
from headway.kernel.limits import INTERLEAVED_BYTES_MAX

DIALECTS: dict[str, Dialect] = {
    "chat": OpenAIChat(),
    "responses": OpenAIResponses(),
    "anthropic": AnthropicMessages(),
}
PAIRS = [(source, target) for source in DIALECTS for target in DIALECTS]
ASKED = Conversation(
    model="m", messages=(Message(role=Role.USER, parts=(Text(text="hello " * 40),)),), stream=True, want_stream_usage=True
)


def write(name: str, deltas: Sequence[Delta]) -> bytes:
    encoder = DIALECTS[name].encoder(ASKED)
    return b"".join(encoder.encode(delta) for delta in deltas)


def read(name: str, pieces: Sequence[bytes]) -> list[Delta]:
    decoder = DIALECTS[name].decoder()
    return [delta for piece in pieces for delta in decoder.feed(piece)] + list(decoder.finish())


def cut(data: bytes, at: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(a % (len(data) + 1) for a in at), len(data)]
    return [data[a:b] for a, b in zip(edges, edges[1:], strict=False)]


def gathered(deltas: Sequence[Delta]) -> Answer:
    """The whole answer that a stream's deltas tell."""
    started = next(d for d in deltas if isinstance(d, Started))
    finished = next(d for d in deltas if isinstance(d, Finished))
    parts: list[Part] = []
    for start in (d for d in deltas if isinstance(d, PartStarted)):
        mine = [d for d in deltas if isinstance(d, PartDelta) and d.index == start.index]
        text = "".join(d.text for d in mine)
        match start.kind:
            case "tool_use":
                parts.append(ToolUse(id=start.id, name=start.name, arguments=text))
            case "thinking":
                parts.append(
                    Thinking(text=text, signature="".join(d.signature for d in mine), encrypted="".join(d.encrypted for d in mine))
                )
            case "refusal":
                parts.append(Refusal(text=text))
            case _:
                parts.append(Text(text=text))
    usage = started.usage.merged(finished.usage)
    return Answer(
        id=started.id, model=started.model, parts=tuple(parts), stop=finished.stop, usage=usage, created_s=started.created_s
    )


WORDS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
PIECES = st.lists(WORDS, min_size=1, max_size=4)


@st.composite
def streams(draw: st.DrawFn) -> list[Delta]:
    deltas: list[Delta] = [Started(id="msg_1", model="served", created_s=1_700_000_000)]
    kinds = ["thinking"] * draw(st.integers(0, 1)) + ["text"] * draw(st.integers(0, 1)) + ["tool_use"] * draw(st.integers(0, 3))
    for index, kind in enumerate(kinds):
        is_tool = kind == "tool_use"
        deltas.append(PartStarted(index=index, kind=kind, id=f"c{index}" if is_tool else "", name="f" if is_tool else ""))
        arguments = json.dumps(draw(st.dictionaries(WORDS, st.integers(), max_size=3)))
        pieces = [arguments[i : i + 5] for i in range(0, len(arguments), 5)] if is_tool else draw(PIECES)
        for piece in pieces:
            deltas += [Alive()] * draw(st.integers(0, 1))
            deltas.append(PartDelta(index=index, text=piece))
        deltas.append(PartEnded(index=index))
    stop = StopReason.TOOL_USE if "tool_use" in kinds else draw(st.sampled_from([StopReason.END, StopReason.LENGTH]))
    usage = Usage(
        input_tokens=draw(st.integers(100, 999)), output_tokens=draw(st.integers(1, 99)), cached_tokens=draw(st.integers(0, 50))
    )
    return [*deltas, Finished(stop=stop, usage=usage)]


@pytest.mark.parametrize(("source", "target"), PAIRS)
@settings(max_examples=20, deadline=None)
@given(deltas=streams(), cuts=st.lists(st.integers(0, 100_000), max_size=6))
def test_a_stream_says_the_same_in_every_dialect(source: str, target: str, deltas: list[Delta], cuts: list[int]) -> None:
    wanted = gathered(deltas)
    between = read(source, cut(write(source, deltas), cuts))
    back = gathered(read(target, cut(write(target, between), cuts)))
    assert (back.parts, back.stop, back.model) == (wanted.parts, wanted.stop, wanted.model)
    for field in ("input_tokens", "output_tokens", "cached_tokens"):
        assert getattr(back.usage, field) == getattr(wanted.usage, field)


@pytest.mark.parametrize(("source", "target"), PAIRS)
@settings(max_examples=15, deadline=None)
@given(deltas=streams())
def test_a_stream_tells_what_the_whole_answer_would(source: str, target: str, deltas: list[Delta]) -> None:
    between = read(source, [write(source, deltas)])
    whole = DIALECTS[target].decode_answer(DIALECTS[target].encode_answer(gathered(between), model="served"))
    streamed = gathered(read(target, [write(target, between)]))
    parts = tuple(
        Thinking(text=p.text, signature=p.signature, encrypted=p.encrypted) if isinstance(p, Thinking) else p for p in whole.parts
    )
    assert (streamed.parts, streamed.stop) == (parts, whole.stop)


# --- the bytes are valid in themselves -----------------------------------------------------------------------------------


def events(data: bytes) -> list[dict[str, Any]]:
    lines = [line for line in data.decode().split("\n") if line.startswith("data: ") and line != "data: [DONE]"]
    return [json.loads(line[6:]) for line in lines]


INTERLEAVED: list[Delta] = [
    Started(id="1", model="m"),
    PartStarted(index=0, kind="text"),
    PartDelta(index=0, text="I call"),
    PartEnded(index=0),
    PartStarted(index=1, kind="tool_use", id="a", name="f"),
    PartStarted(index=2, kind="tool_use", id="b", name="g"),
    PartDelta(index=2, text='{"y":'),
    PartDelta(index=1, text='{"x":'),
    PartStarted(index=3, kind="tool_use", id="c", name="h"),
    PartDelta(index=2, text="2}"),
    PartEnded(index=2),
    PartDelta(index=3, text="{}"),
    PartDelta(index=1, text="1}"),
    Finished(stop=StopReason.TOOL_USE),
]

PLAIN = [delta for delta in INTERLEAVED if getattr(delta, "index", 0) < 2]
"""The same with one tool call: nothing of it is interleaved."""


@settings(max_examples=40, deadline=None)
@given(deltas=streams() | st.just(INTERLEAVED))
def test_anthropic_blocks_never_overlap_and_deltas_name_an_open_block(deltas: list[Delta]) -> None:
    open_block, opened, names = None, 0, []
    for event in events(write("anthropic", deltas)):
        names.append(event["type"])
        match event["type"]:
            case "content_block_start":
                assert (open_block, event["index"]) == (None, opened)
                open_block, opened = event["index"], opened + 1
            case "content_block_delta":
                assert event["index"] == open_block
            case "content_block_stop":
                assert event["index"] == open_block
                open_block = None
    assert open_block is None
    assert names[0] == "message_start"
    assert names[-2:] == ["message_delta", "message_stop"]
    assert (names.count("message_start"), names.count("message_stop")) == (1, 1)


@settings(max_examples=40, deadline=None)
@given(deltas=streams() | st.just(INTERLEAVED))
def test_responses_items_are_added_before_they_speak_and_the_end_is_last(deltas: list[Delta]) -> None:
    seen = events(write("responses", deltas))
    assert [event["sequence_number"] for event in seen] == list(range(len(seen)))
    assert [event["type"] for event in seen[:2]] == ["response.created", "response.in_progress"]
    assert seen[-1]["type"] in ("response.completed", "response.incomplete")
    added: dict[int, str] = {}
    parts: set[int] = set()
    done: dict[int, Any] = {}
    for event in seen[2:-1]:
        index = event["output_index"]
        if event["type"] == "response.output_item.added":
            assert index == len(added)
            added[index] = event["item"]["id"]
        elif event["type"] == "response.output_item.done":
            done[index] = event["item"]
        else:
            assert event["item_id"] == added[index]
            assert index not in done
            if event["type"].endswith("part.added"):
                parts.add(index)
            elif ".output_text" in event["type"] or ".reasoning" in event["type"]:
                assert index in parts
    assert seen[-1]["response"]["output"] == [done[index] for index in sorted(added)]


@pytest.mark.parametrize("target", ["responses", "anthropic"])
def test_interleaved_tool_calls_lose_no_byte(target: str) -> None:
    answer = gathered(read(target, [write(target, INTERLEAVED)]))
    assert answer.parts == (
        Text(text="I call"),
        ToolUse(id="a", name="f", arguments='{"x":1}'),
        ToolUse(id="b", name="g", arguments='{"y":2}'),
        ToolUse(id="c", name="h", arguments="{}"),
    )


def test_what_waits_for_its_turn_is_bounded() -> None:
    encoder = DIALECTS["anthropic"].encoder(ASKED)
    for delta in INTERLEAVED[:6]:
        encoder.encode(delta)
    half = "x" * (INTERLEAVED_BYTES_MAX // 2 + 1)
    assert encoder.encode(PartDelta(index=2, text=half)) == b""
    with pytest.raises(UpstreamFailed):
        encoder.encode(PartDelta(index=2, text=half))


def test_message_start_has_usage_that_is_not_zero() -> None:
    start = events(write("anthropic", [Started(id="1", model="m")]))[0]["message"]
    assert start["usage"]["input_tokens"] == len("hello " * 40) // 4
    assert start["usage"]["output_tokens"] >= 1
    known = events(write("anthropic", [Started(id="1", model="m", usage=Usage(input_tokens=12, cached_tokens=10))]))[0]["message"]
    assert (known["usage"]["input_tokens"], known["usage"]["cache_read_input_tokens"]) == (2, 10)


def test_the_estimate_counts_all_that_is_said_in_the_prompt() -> None:
    parts = (
        Thinking(text="t" * 40),
        ToolUse(id="1", name="f" * 4, arguments="a" * 36),
        ToolResult(tool_use_id="1", content=(Text(text="r" * 40), Image(url="https://x"))),
    )
    tools = (Tool(name="n" * 4, description="d" * 34, schema=msgspec.Raw(b"{}")),)
    asked = Conversation(model="m", messages=(Message(role=Role.USER, parts=parts),), tools=tools)
    start = events(DIALECTS["anthropic"].encoder(asked).encode(Started(id="1", model="m")))[0]["message"]
    assert start["usage"]["input_tokens"] == 40
    empty = Conversation(model="m", messages=())
    assert (
        events(DIALECTS["anthropic"].encoder(empty).encode(Started(id="1", model="m")))[0]["message"]["usage"]["input_tokens"] == 1
    )


@pytest.mark.parametrize("target", ["responses", "anthropic"])
def test_secrets_of_thinking_leave_with_it(target: str) -> None:
    """Signed, redacted, and another provider's, with and without text."""
    for part in (
        Thinking(text="hm", signature="sig"),
        Thinking(signature="sig"),
        Thinking(encrypted="redacted"),
        Thinking(text="hm", encrypted="theirs", id="rs_1"),
    ):
        deltas: list[Delta] = [Started(id="msg_1", model="m"), PartStarted(index=0, kind="thinking", id=part.id)]
        if part.text:
            deltas.append(PartDelta(index=0, text=part.text))
        deltas += [
            PartDelta(index=0, signature=part.signature, encrypted=part.encrypted),
            PartEnded(index=0),
            Finished(stop=StopReason.END),
        ]
        answer = Answer(id="msg_1", model="m", parts=(part,), stop=StopReason.END)
        whole = json.loads(DIALECTS[target].encode_answer(answer, model="m"))
        streamed = stream_with_client(target, [write(target, deltas)])
        key = "output" if target == "responses" else "content"
        assert comparable({key: streamed[key]}) == comparable({key: whole[key]})


def test_a_refusal_streams_in_the_words_of_the_dialect() -> None:
    deltas = [
        Started(id="1", model="m"),
        PartStarted(index=0, kind="refusal"),
        PartDelta(index=0, text="no"),
        Finished(stop=StopReason.REFUSAL),
    ]
    response = stream_with_client("responses", [write("responses", deltas)])
    assert (response["status"], response["output"][0]["content"]) == ("completed", [{"type": "refusal", "refusal": "no"}])
    message = stream_with_client("anthropic", [write("anthropic", deltas)])
    assert (message["stop_reason"], message["content"][0]["text"]) == ("refusal", "no")


def test_a_stream_that_never_said_it_started_is_still_whole() -> None:
    deltas = [PartStarted(index=0, kind="text"), PartDelta(index=0, text="x"), Finished(stop=StopReason.END)]
    assert stream_with_client("anthropic", [write("anthropic", deltas)])["content"][0]["text"] == "x"
    assert stream_with_client("responses", [write("responses", deltas)])["output"][0]["content"][0]["text"] == "x"


def test_usage_that_never_came_is_estimated_or_null() -> None:
    deltas = [
        Started(id="1", model="m"),
        PartStarted(index=0, kind="text"),
        PartDelta(index=0, text="x" * 40),
        Finished(stop=StopReason.END),
    ]
    usage = events(write("anthropic", deltas))[-2]["usage"]
    assert usage == {"output_tokens": 10}
    assert events(write("responses", deltas))[-1]["response"]["usage"] is None


@pytest.mark.parametrize("target", DIALECTS)
def test_nothing_follows_the_end_or_an_error(target: str) -> None:
    encoder = DIALECTS[target].encoder(ASKED)
    encoder.encode(Started(id="1", model="m"))
    assert encoder.encode(Finished(stop=StopReason.END))
    assert encoder.encode(PartStarted(index=0, kind="tool_use", id="a", name="f")) == b""
    assert encoder.encode(Finished(stop=StopReason.END)) == b""
    encoder = DIALECTS[target].encoder(ASKED)
    assert encoder.error(UpstreamFailed("broken"))
    assert encoder.encode(Finished(stop=StopReason.END)) == b""


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_an_error_in_a_stream_stays_an_error(source: str, target: str) -> None:
    failed = Failed(kind="overloaded_error" if source == "anthropic" else "rate_limit_exceeded", message="too much")
    between = read(source, [write(source, [Started(id="1", model="m"), failed])])
    out = write(target, between)
    assert read(target, [out])[-1].message == "too much"  # type: ignore[union-attr]
    assert b"[DONE]" not in out
    assert b"message_stop" not in out
    assert b"response.completed" not in out


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_stream_cut_after_any_event_has_no_end(source: str, target: str) -> None:
    data = write(source, PLAIN)
    blocks = data.split(b"\n\n")
    for count in range(len(blocks) - 2):
        between = read(source, [b"\n\n".join(blocks[:count]) + b"\n\n"])
        encoder = DIALECTS[target].encoder(ASKED)
        out = b"".join(encoder.encode(delta) for delta in between) + encoder.error(UpstreamFailed("The provider broke off."))
        back = read(target, [out])
        assert not any(isinstance(delta, Finished) for delta in back)
        assert isinstance(back[-1], Failed)


# --- the official clients ------------------------------------------------------------------------------------------------


class Bytes(httpx2.SyncByteStream):
    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces


def transport(pieces: Sequence[bytes], status: int = 200, kind: str = "text/event-stream") -> httpx2.Client:
    answer = lambda _: httpx2.Response(status, headers={"content-type": kind}, stream=Bytes(pieces))  # noqa: E731
    return httpx2.Client(transport=httpx2.MockTransport(answer))


def anthropic_client(pieces: Sequence[bytes], status: int = 200, kind: str = "text/event-stream") -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key="k", http_client=transport(pieces, status, kind), max_retries=0)


def openai_client(pieces: Sequence[bytes], status: int = 200, kind: str = "text/event-stream") -> openai.OpenAI:
    return openai.OpenAI(api_key="k", http_client=transport(pieces, status, kind), max_retries=0)


USER = [{"role": "user", "content": "x"}]


def stream_with_client(name: str, pieces: Sequence[bytes]) -> dict[str, Any]:
    """The final object that a program gets."""
    match name:
        case "anthropic":
            with anthropic_client(pieces).messages.stream(model="m", max_tokens=9, messages=USER) as stream:  # type: ignore[arg-type]
                return stream.get_final_message().to_dict()
        case "responses":
            with openai_client(pieces).responses.stream(model="m", input="x") as stream:
                stream.until_done()
                return _last(stream)
    with openai_client(pieces).chat.completions.stream(model="m", messages=USER) as stream:  # type: ignore[arg-type]
        return stream.get_final_completion().to_dict()


def _last(stream: Any) -> dict[str, Any]:
    return stream.get_final_response().to_dict()  # type: ignore[no-any-return]


def whole_with_client(name: str, body: bytes, status: int = 200) -> dict[str, Any]:
    kind = "application/json"
    match name:
        case "anthropic":
            messages = anthropic_client([body], status, kind).messages
            return messages.create(model="m", max_tokens=9, messages=USER).to_dict()  # type: ignore[arg-type]
        case "responses":
            return openai_client([body], status, kind).responses.create(model="m", input="x").to_dict()
    completions = openai_client([body], status, kind).chat.completions
    return completions.create(model="m", messages=USER).to_dict()  # type: ignore[arg-type]


def comparable(made: dict[str, Any]) -> dict[str, Any]:
    """Without what only one of the two ways has: places that are null or empty, and what the clients add while parsing."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                k: clean(v)
                for k, v in value.items()
                if v not in (None, "") and k not in ("parsed", "parsed_output", "parsed_arguments", "object", "index")
            }
        return [clean(v) for v in value] if isinstance(value, list) else value

    return clean(made)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", DIALECTS)
@settings(max_examples=12, deadline=None)
@given(deltas=streams(), cuts=st.lists(st.integers(0, 100_000), max_size=5))
def test_clients_get_the_same_object_streamed_and_whole(name: str, deltas: list[Delta], cuts: list[int]) -> None:
    deltas = [d for d in deltas if not (isinstance(d, Finished) and d.stop is StopReason.LENGTH)]
    if not isinstance(deltas[-1], Finished):
        deltas.append(Finished(stop=StopReason.END, usage=Usage(input_tokens=100, output_tokens=2, cached_tokens=0)))
    data = write(name, deltas)
    body = DIALECTS[name].encode_answer(gathered(deltas), model="served")
    assert comparable(stream_with_client(name, cut(data, cuts))) == comparable(whole_with_client(name, body))


@pytest.mark.parametrize("name", DIALECTS)
def test_clients_take_any_split_and_a_ping_before_each_event(name: str) -> None:
    data = write(name, PLAIN)
    wanted = stream_with_client(name, [data])
    assert stream_with_client(name, [data[i : i + 1] for i in range(len(data))]) == wanted
    pinged = b"".join(DIALECTS[name].ping() + event + b"\n\n" for event in data.split(b"\n\n")[:-1])
    assert stream_with_client(name, [pinged]) == wanted


def test_clients_read_interleaved_tool_calls() -> None:
    message = stream_with_client("anthropic", [write("anthropic", INTERLEAVED)])
    assert [block.get("input") for block in message["content"]] == [None, {"x": 1}, {"y": 2}, {}]
    response = stream_with_client("responses", [write("responses", INTERLEAVED)])
    assert [item.get("arguments") for item in response["output"]] == [None, '{"x":1}', '{"y":2}', "{}"]


@pytest.mark.parametrize("count", range(len(INTERLEAVED) - 1))
@pytest.mark.parametrize("name", DIALECTS)
def test_clients_raise_when_a_stream_ends_in_an_error(name: str, count: int) -> None:
    encoder = DIALECTS[name].encoder(ASKED)
    data = b"".join(encoder.encode(delta) for delta in INTERLEAVED[: count + 1]) + encoder.error(
        UpstreamFailed("The provider broke off.")
    )
    with pytest.raises((anthropic.APIStatusError, openai.APIError), match="broke off"):
        stream_with_client(name, [data])


@pytest.mark.parametrize("name", DIALECTS)
def test_clients_raise_on_the_error_event_of_a_stream_that_passed(name: str) -> None:
    data = write(name, INTERLEAVED[:3]) + DIALECTS[name].error_event(UpstreamFailed("The provider broke off."))
    with pytest.raises((anthropic.APIStatusError, openai.APIError), match="broke off"):
        stream_with_client(name, [data])


@pytest.mark.parametrize("name", DIALECTS)
def test_clients_read_error_bodies(name: str) -> None:
    body = DIALECTS[name].error_body(BudgetExhausted("The budget is spent."), request_id="r1")
    with pytest.raises((anthropic.RateLimitError, openai.RateLimitError), match="The budget is spent"):
        whole_with_client(name, body, 429)


def test_the_plain_event_loop_of_the_openai_client_reads_a_responses_stream() -> None:
    names = [
        event.type for event in openai_client([write("responses", INTERLEAVED)]).responses.create(model="m", input="x", stream=True)
    ]
    assert names[0] == "response.created"
    assert names[-1] == "response.completed"
    assert len(names) == len(set(zip(names, range(len(names)), strict=True)))


def test_an_incomplete_responses_stream_ends_as_incomplete() -> None:
    deltas = [*INTERLEAVED[:-1], Finished(stop=StopReason.LENGTH)]
    last = list(openai_client([write("responses", deltas)]).responses.create(model="m", input="x", stream=True))[-1]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details is not None
    assert last.response.incomplete_details.reason == "max_output_tokens"
