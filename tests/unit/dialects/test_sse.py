"""Server-sent events: any split of the bytes gives the same events, and bytes that pass are not changed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.gateway.dialects import sse
from headway.kernel.errors import UpstreamFailed

STREAM = (
    b"\xef\xbb\xbf: hello\n\n"
    b'data: {"a":1}\n\n'
    b"event: message\r\ndata: one\r\ndata: two\r\n\r\n"
    b"id: 7\nretry: 5\n\n"
    b"data:no space\r\rdata\n\n"
    b"event: ping\ndata: {}\n\n: ping\n"
    b"data: [DONE]\n\n"
)
EVENTS = [("", b'{"a":1}'), ("message", b"one\ntwo"), ("", b"no space"), ("", b""), ("ping", b"{}"), ("", b"[DONE]")]


def _slow(data: bytes) -> list[sse.Event]:
    """The standard's algorithm, line by line over the whole stream."""
    text = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    found, kind, lines = [], "", []
    for line in text.split(b"\n")[:-1]:
        if not line:
            if lines:
                found.append((kind, b"\n".join(lines)))
            kind, lines = "", []
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            lines.append(value)
        elif field == b"event":
            kind = value.decode(errors="replace")
    return found


def _feed(reads: list[bytes]) -> tuple[list[sse.Event], bytes, int]:
    parser, cutter = sse.Parser(), sse.Cutter()
    events, passed = [], b""
    for read in reads:
        events += parser.feed(read)
        whole = cutter.feed(read)
        assert not whole or whole.endswith((b"\n", b"\r"))
        passed += whole
    return events, passed, cutter.events


def test_one_cut_at_every_byte_gives_the_same_events_and_bytes() -> None:
    for at in range(len(STREAM) + 1):
        events, passed, count = _feed([STREAM[:at], STREAM[at:]])
        assert events == EVENTS, at
        assert passed == STREAM
        assert count == 6  # data lines with a value: one event has two, one has none


def test_byte_by_byte() -> None:
    events, passed, _ = _feed([STREAM[i : i + 1] for i in range(len(STREAM))])
    assert events == EVENTS
    assert passed == STREAM


_LINES = st.sampled_from(
    [b"data: x", b"data:", b"data", b"event: e", b"event", b": c", b"id: 1", b"", b"", b"data: y:z", b"datax: 1"]
)
_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(_LINES, _ENDS), max_size=14), st.lists(st.integers(0, 120), max_size=6), st.booleans())
def test_any_lines_in_any_split_agree_with_the_standard(lines: list[tuple[bytes, bytes]], cuts: list[int], bom: bool) -> None:
    stream = (b"\xef\xbb\xbf" if bom else b"") + b"".join(line + end for line, end in lines)
    places = sorted({min(c, len(stream)) for c in cuts} | {0, len(stream)})
    reads = [stream[a:b] for a, b in zip(places, places[1:], strict=False)]
    events, passed, _ = _feed(reads)
    assert events == _slow(stream)
    assert stream.startswith(passed)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text(alphabet=st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20), max_size=8),
    st.integers(1, 9),
)
def test_what_is_written_is_read_back(texts: list[str], step: int) -> None:
    stream = b"".join(sse.write(text.encode(), "kind" if i % 2 else "") for i, text in enumerate(texts))
    events, passed, count = _feed([stream[i : i + step] for i in range(0, len(stream), step)])
    assert events == [("kind" if i % 2 else "", text.encode()) for i, text in enumerate(texts)]
    assert (passed, count) == (stream, len(texts))


@pytest.mark.parametrize(
    ("rest", "passed", "torn"),
    [
        (b"data: x\n", b"data: x\n\n", False),
        (b"data: [DONE]", b"data: [DONE]\n\n", False),
        (b'data: {"a":', b"", True),
        (b"event: done\n", b"", True),
        (b": bye\n", b"", True),
        (b"", b"", False),
    ],
)
def test_the_end_of_a_stream(rest: bytes, passed: bytes, torn: bool) -> None:
    cutter = sse.Cutter()
    assert cutter.feed(b"data: first\n\n" + rest) == b"data: first\n\n"
    assert cutter.finish() == passed
    assert cutter.torn is torn
    assert cutter.events == 1 + bool(passed)


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_an_event_without_end_is_bounded(step: int) -> None:
    cutter = sse.Cutter(bytes_max=1000)
    for _ in range(0, 1001 - step, step):
        assert cutter.feed(b"x" * step) == b""
    with pytest.raises(UpstreamFailed) as caught:
        cutter.feed(b"x" * step)
    assert caught.value.reason == "event_too_large"


def test_comments_are_counted() -> None:
    parser = sse.Parser()
    assert parser.feed(b": one\n\n: two\ndata: x\n: three\n\n") == [("", b"x")]
    assert parser.comments == 3
