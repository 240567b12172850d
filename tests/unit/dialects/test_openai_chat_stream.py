"""Chat streams to and from deltas; what we write is read by the real client library."""

import json

import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk

from headway.calls.conversation import (
    Alive,
    Conversation,
    Delta,
    Failed,
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    StopReason,
    Usage,
)
from headway.gateway.dialects.openai_chat import OpenAIChat
from headway.kernel.errors import Overloaded, UpstreamFailed

CHAT = OpenAIChat()
DONE = b"data: [DONE]\n\n"


def event(data: object) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def chunk(delta: object, reason: str | None = None, **more: object) -> bytes:
    return event(
        {"id": "c1", "created": 7, "model": "gpt-x", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], **more}
    )


def tool(index: int | None, id: str | None = None, name: str | None = None, arguments: str | None = None) -> dict[str, object]:
    call = {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"tool_calls": [{key: value for key, value in call.items() if value is not None}]}


def decode(data: bytes, step: int = 10_000) -> list[Delta]:
    decoder = CHAT.decoder()
    deltas = [delta for at in range(0, len(data), step) for delta in decoder.feed(data[at : at + step])]
    return [*deltas, *decoder.finish()]


STREAM = (
    chunk({"role": "assistant", "content": ""})
    + b": ping\n\n"
    + chunk({"reasoning_content": "mm"})
    + chunk({"reasoning": "hm"})
    + chunk({"content": "Hé"})
    + chunk({"content": "llo"})
    + chunk(tool(0, "a", "f", ""))
    + chunk(tool(0, None, None, '{"x":'))
    + chunk(tool(0, None, None, "1}"))
    + chunk(tool(1, "b", "g", "{}"))
    + chunk({}, "tool_calls")
    + event({"id": "c1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}})
    + DONE
)
DELTAS = [
    Started(id="c1", model="gpt-x", created_s=7),
    PartStarted(index=0, kind="thinking"),
    PartDelta(index=0, text="mm"),
    PartDelta(index=0, text="hm"),
    PartEnded(index=0),
    PartStarted(index=1, kind="text"),
    PartDelta(index=1, text="Hé"),
    PartDelta(index=1, text="llo"),
    PartEnded(index=1),
    PartStarted(index=2, kind="tool_use", id="a", name="f"),
    PartDelta(index=2, text='{"x":'),
    PartDelta(index=2, text="1}"),
    PartStarted(index=3, kind="tool_use", id="b", name="g"),
    PartDelta(index=3, text="{}"),
    PartEnded(index=2),
    PartEnded(index=3),
    Finished(stop=StopReason.TOOL_USE, usage=Usage(input_tokens=3, output_tokens=4)),
]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400))
def test_deltas_at_any_split(step: int) -> None:
    assert [delta for delta in decode(STREAM, step) if not isinstance(delta, Alive)] == DELTAS


def test_a_comment_is_a_sign_of_life() -> None:
    assert decode(b": ping\n\n") == [Alive()]


def test_without_its_end_a_stream_is_not_finished() -> None:
    for at in range(len(STREAM) - len(DONE)):
        decoder = CHAT.decoder()
        deltas = [*decoder.feed(STREAM[:at]), *decoder.finish()]
        assert not any(isinstance(delta, Finished | Failed) for delta in deltas)
    assert decode(DONE) == []


@pytest.mark.parametrize(
    ("calls", "parts"),
    [
        (
            [tool(None, "a", "f", "{}"), tool(None, None, None, " "), tool(None, "b", "g", "{}")],
            [("a", "f", "{} "), ("b", "g", "{}")],
        ),
        ([tool(0, "a", "f", "{}"), tool(0, "b", "g", "{}")], [("a", "f", "{}"), ("b", "g", "{}")]),
        ([tool(0, "a", None, "{"), tool(0, None, "f", "}")], [("a", "f", "{}")]),
        ([tool(0, "a", "f", "{"), tool(0, "a", "", "}")], [("a", "f", "{}")]),
        ([tool(0, None, "f", "{}")], [("call_0", "f", "{}")]),
        ([tool(0, "a", "f", "{}"), tool(1, "b", "g", "{}"), tool(0, None, None, "")], [("a", "f", "{}"), ("b", "g", "{}")]),
        ([{"function_call": {"name": "f", "arguments": "{"}}, {"function_call": {"arguments": "}"}}], [("call_0", "f", "{}")]),
        ([{"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {"x": 1}}}]}], [("a", "f", '{"x": 1}')]),
    ],
)
def test_tool_calls_as_engines_send_them(calls: list[dict[str, object]], parts: list[tuple[str, str, str]]) -> None:
    deltas = decode(b"".join(chunk(call) for call in calls) + chunk({}, "stop") + DONE)
    found: dict[int, tuple[str, str, str]] = {}
    for delta in deltas:
        if isinstance(delta, PartStarted):
            found[delta.index] = (delta.id, delta.name, "")
        elif isinstance(delta, PartDelta):
            id, name, text = found[delta.index]
            found[delta.index] = (id, name, text + delta.text)
    assert list(found.values()) == parts
    assert isinstance(deltas[-1], Finished)
    assert deltas[-1].stop is StopReason.TOOL_USE


def test_arguments_of_parallel_calls_may_come_in_turns() -> None:
    turns = (
        chunk(tool(0, "a", "f", "{"))
        + chunk(tool(1, "b", "g", "["))
        + chunk(tool(0, None, None, "}"))
        + chunk(tool(1, None, None, "]"))
    )
    said = {0: "", 1: ""}
    for delta in decode(turns + DONE):
        if isinstance(delta, PartDelta):
            said[delta.index] += delta.text
    assert said == {0: "{}", 1: "[]"}


@pytest.mark.parametrize(
    ("data", "failed"),
    [
        (b'data: {"error":{"message":"no","code":"overloaded"}}\n\n', Failed(kind="overloaded", message="no")),
        (b'data: {"error":{"message":"no","type":"t","code":503}}\n\n', Failed(kind="t", message="no", status=503)),
        (b'event: error\ndata: {"message":"no","type":"t"}\n\n', Failed(kind="t", message="no")),
        (b'event: error\ndata: gone\n\n', Failed(kind="error", message="")),
    ],
)  # fmt: skip
def test_an_error_ends_it(data: bytes, failed: Failed) -> None:
    assert decode(chunk({"content": "x"}) + data + chunk({"content": "y"}) + DONE)[-1] == failed


def test_an_event_that_is_no_chunk_is_the_upstreams_failure() -> None:
    for data in (b"data: {\n\n", b"data: hello\n\n", b"data: []\n\n"):
        with pytest.raises(UpstreamFailed):
            decode(data)


def test_other_choices_and_odd_ends() -> None:
    other = event({"id": "c1", "choices": [{"index": 1, "delta": {"content": "other"}}]})
    deltas = decode(
        other + chunk({"content": "a"}) + other + chunk({"content": ""}, "") + chunk({"refusal": "no"}) + chunk({}, "stop") + DONE
    )
    assert [delta.text for delta in deltas if isinstance(delta, PartDelta)] == ["a", "no"]
    assert deltas[-1] == Finished(stop=StopReason.REFUSAL)
    assert decode(chunk({"content": "a"}) + DONE)[-1] == Finished(stop=StopReason.UNKNOWN)


# --- out -----------------------------------------------------------------------------------------------------------------


def encoder(usage: bool = False):  # type: ignore[no-untyped-def]
    return CHAT.encoder(Conversation(model="asked", messages=(), stream=True, want_stream_usage=usage))


def read(stream: bytes) -> list[ChatCompletionChunk]:
    """Through the client library, split into small reads."""

    class Body(httpx2.SyncByteStream):
        def __iter__(self):  # type: ignore[no-untyped-def]
            yield from (stream[at : at + 17] for at in range(0, len(stream), 17))

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Body())

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    with openai.OpenAI(api_key="k", base_url="http://test/v1", http_client=http, max_retries=0) as client:
        return list(client.chat.completions.create(model="m", messages=[], stream=True))


def test_the_client_library_reads_what_we_write() -> None:
    out = encoder(usage=True)
    stream = b"".join(out.encode(delta) + out.encode(Alive()) for delta in DELTAS)
    chunks = read(stream)
    for each in chunks:
        ChatCompletionChunk.model_validate(each.model_dump(), strict=True)
    assert {each.model for each in chunks} == {"gpt-x"}
    assert {each.created for each in chunks} == {7}
    assert chunks[0].choices[0].delta.role == "assistant"
    deltas = [each.choices[0].delta for each in chunks if each.choices]
    assert "".join(delta.content or "" for delta in deltas) == "Héllo"
    assert "".join((delta.model_extra or {}).get("reasoning_content", "") for delta in deltas) == "mmhm"
    calls = [call for delta in deltas for call in delta.tool_calls or ()]
    assert [(call.index, call.id, call.function.name, call.function.arguments) for call in calls if call.function] == [
        (0, "a", "f", ""), (0, None, None, '{"x":'), (0, None, None, "1}"), (1, "b", "g", ""), (1, None, None, "{}"),
    ]  # fmt: skip
    assert [each.choices[0].finish_reason for each in chunks if each.choices][-1] == "tool_calls"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 7
    assert b'"choices":[]' in stream
    assert stream.count(b"[DONE]") == 1
    assert stream.endswith(DONE)
    assert stream.count(CHAT.ping()) == len(DELTAS) - 1


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300))
def test_there_and_back(step: int) -> None:
    out = encoder(usage=True)
    stream = b"".join(out.encode(delta) for delta in DELTAS)
    assert decode(stream, step) == DELTAS


def test_usage_only_for_those_who_asked_and_only_when_known() -> None:
    plain = encoder()
    assert b"usage" not in b"".join(plain.encode(delta) for delta in DELTAS)
    unknown = encoder(usage=True)
    stream = b"".join(unknown.encode(delta) for delta in [*DELTAS[:-1], Finished(stop=StopReason.END)])
    assert b"usage" not in stream
    split = encoder(usage=True)
    stream = split.encode(Started(id="a", model="m", usage=Usage(input_tokens=5))) + split.encode(
        Finished(stop=StopReason.END, usage=Usage(output_tokens=2))
    )
    assert read(stream)[-1].usage.total_tokens == 7  # type: ignore[union-attr]


def test_an_error_is_the_last_word() -> None:
    for end in ("error", "failed"):
        out = encoder()
        stream = out.encode(DELTAS[0]) + out.encode(PartStarted(index=0, kind="text")) + out.encode(PartDelta(index=0, text="x"))
        stream += out.error(Overloaded("Busy.")) if end == "error" else out.encode(Failed(kind="overloaded", message="Busy."))
        stream += out.encode(PartDelta(index=0, text="y")) + out.encode(Finished(stop=StopReason.END))
        assert b"[DONE]" not in stream
        assert b'"y"' not in stream
        with pytest.raises(openai.APIError, match="Busy") as caught:
            read(stream)
        assert caught.value.code == "overloaded"


def test_after_the_end_nothing_follows() -> None:
    out = encoder()
    stream = b"".join(out.encode(delta) for delta in DELTAS)
    assert stream.endswith(DONE)
    assert [out.encode(delta) for delta in DELTAS] == [b""] * len(DELTAS)


def test_signatures_are_not_written_and_a_refusal_is() -> None:
    out = encoder()
    stream = b"".join(
        out.encode(delta)
        for delta in [
            Started(id="a", model=""), PartStarted(index=0, kind="thinking"), PartDelta(index=0, signature="sig"), PartEnded(index=0),
            PartStarted(index=1, kind="refusal"), PartDelta(index=1, text="no"), PartEnded(index=1), Finished(stop=StopReason.REFUSAL),
        ]
    )  # fmt: skip
    assert b"sig" not in stream
    chunks = read(stream)
    assert {each.model for each in chunks} == {"asked"}
    assert [each.choices[0].delta.refusal for each in chunks] == [None, "no", None]
    assert chunks[-1].choices[0].finish_reason == "stop"
