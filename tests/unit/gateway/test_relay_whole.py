"""A whole answer told as the stream it could have been, read back by each dialect's own reader; and what a relay has seen of a stream."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calls.conversation import (
    Answer,
    Conversation,
    Delta,
    DialectName,
    Failed,
    Finished,
    Message,
    PartDelta,
    PartEnded,
    PartStarted,
    Refusal,
    Role,
    Started,
    StopReason,
    Text,
    Thinking,
    ToolUse,
    Usage,
)
from headway.gateway.dialects.registry import REGISTRY
from headway.gateway.relay import TEXTS_KEPT_MAX, TranslateRelay, deltas_of, failure_in
from headway.kernel.errors import UpstreamFailed

ASKED = Conversation(
    model="m",
    messages=(Message(role=Role.USER, parts=(Text(text="hi"),)),),
    stream=True,
    want_stream_usage=True,
)
texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40)
parts = st.lists(
    st.one_of(
        st.builds(Text, text=texts),
        st.builds(ToolUse, id=st.from_regex(r"call_[a-z0-9]{6}", fullmatch=True), name=st.sampled_from(["look", "buy"]), arguments=st.sampled_from(['{"a":1}', "{}", '{"q":"x\\"y"}'])),
    ),
    max_size=5,
    unique_by=lambda p: p.id if isinstance(p, ToolUse) else id(p),
)  # fmt: skip
answers = st.builds(
    Answer,
    id=st.just("a1"),
    model=st.just("m-real"),
    parts=parts.map(tuple),
    stop=st.sampled_from([StopReason.END, StopReason.LENGTH]),
    usage=st.builds(Usage, input_tokens=st.integers(0, 10**6), output_tokens=st.integers(0, 10**6)),
    created_s=st.just(5),
)


def gathered(deltas: list[Delta]) -> tuple[str, list[tuple[str, str, str]], StopReason, Usage]:
    text, tools = "", {}
    kinds: dict[int, str] = {}
    usage, stop = Usage(), StopReason.UNKNOWN
    for delta in deltas:
        match delta:
            case Started():
                usage = usage.merged(delta.usage)
            case PartStarted():
                kinds[delta.index] = delta.kind
                if delta.kind == "tool_use":
                    tools[delta.index] = [delta.id, delta.name, ""]
            case PartDelta():
                if kinds[delta.index] == "tool_use":
                    tools[delta.index][2] += delta.text
                elif kinds[delta.index] in ("text", "refusal"):
                    text += delta.text
            case Finished():
                stop, usage = delta.stop, usage.merged(delta.usage)
            case Failed():
                raise AssertionError(delta)
            case _:
                pass
    return text, [tuple(t) for _, t in sorted(tools.items())], stop, usage  # type: ignore[misc]


@pytest.mark.parametrize("name", list(DialectName))
@settings(max_examples=60, deadline=None)
@given(answer=answers, split=st.integers(1, 60))
def test_a_whole_answer_survives_as_a_stream(name: DialectName, answer: Answer, split: int) -> None:
    codec = REGISTRY[name]
    encoder, decoder = codec.encoder(ASKED), codec.decoder()
    stream = b"".join(encoder.encode(delta) for delta in deltas_of(answer))
    read: list[Delta] = []
    for at in range(0, len(stream), split):
        read += decoder.feed(stream[at : at + split])
    read += decoder.finish()
    text, tools, stop, usage = gathered(read)
    assert text == "".join(p.text for p in answer.parts if isinstance(p, Text))
    assert tools == [(p.id, p.name, p.arguments) for p in answer.parts if isinstance(p, ToolUse)]
    assert (usage.input_tokens, usage.output_tokens) == (answer.usage.input_tokens, answer.usage.output_tokens)
    if not tools:
        assert stop is answer.stop


@pytest.mark.parametrize("name", list(DialectName))
def test_thinking_and_refusals_are_told_in_their_place(name: DialectName) -> None:
    answer = Answer(
        id="a", model="m", parts=(Thinking(text="hmm", signature="sig"), Refusal(text="I cannot")), stop=StopReason.REFUSAL
    )
    codec = REGISTRY[name]
    encoder, decoder = codec.encoder(ASKED), codec.decoder()
    stream = b"".join(encoder.encode(delta) for delta in deltas_of(answer))
    read = [*decoder.feed(stream), *decoder.finish()]
    assert gathered(read)[0] == "I cannot"
    assert b"I cannot" in stream


def test_deltas_of_an_answer_open_and_close_every_part_once() -> None:
    answer = Answer(id="a", model="m", parts=(Text(text="x"), ToolUse(id="t", name="n", arguments="{}")), stop=StopReason.TOOL_USE)
    assert [type(d) for d in deltas_of(answer)] == [
        Started,
        PartStarted,
        PartDelta,
        PartEnded,
        PartStarted,
        PartDelta,
        PartEnded,
        Finished,
    ]


# --- what a relay has seen


def relay() -> TranslateRelay:
    return TranslateRelay(REGISTRY[DialectName.OPENAI_CHAT], REGISTRY[DialectName.ANTHROPIC], ASKED)


def chunk(delta: dict, finish: str | None = None, **more: object) -> bytes:
    body = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
    return f"data: {json.dumps(body)}\n\n".encode()


def test_a_failure_in_the_stream_is_kept_for_the_pipeline_and_not_told() -> None:
    r = relay()
    r.feed(chunk({"content": "a"}))
    out = r.feed(b'data: {"error":{"message":"too busy","type":"overloaded"}}\n\n')
    assert b"too busy" not in out
    assert r.seen.failed
    error = failure_in(r.seen)
    assert isinstance(error, UpstreamFailed)
    assert "too busy" in error.message
    assert b"too busy" in r.error(error)
    assert b"message_stop" not in r.error(error)


def test_a_relay_counts_text_and_hands_each_piece_out_once() -> None:
    r = relay()
    r.feed(chunk({"role": "assistant", "content": ""}))
    assert not r.seen.started
    out = r.feed(chunk({"content": "ab"}) + chunk({"content": "c"}))
    assert (r.seen.started, r.seen.output_chars, r.text_of(out), r.text_of(out)) == (True, 3, "abc", "")
    r.feed(chunk({}, "stop"))
    r.feed(b"data: [DONE]\n\n")
    r.finish()
    assert (r.seen.ended, r.seen.stop) == (True, StopReason.END)


def test_text_that_nobody_reads_is_bounded() -> None:
    r = relay()
    for _ in range(TEXTS_KEPT_MAX + 100):
        r.feed(chunk({"content": "x"}))
    assert r.seen.output_chars == TEXTS_KEPT_MAX + 100
    assert len(r.text_of(b"")) == TEXTS_KEPT_MAX
