"""The byte-level rules, without a socket: any split gives the same end, and every limit is met before memory is taken."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.config.model import Limits
from headway.gateway.listener.framing import ChunkedBody, FramingError, RequestLine, read_framing, scan_head, scan_partial_head
from headway.kernel.limits import BODY_CHUNKS_MAX, CHUNK_EXTENSION_BYTES_MAX

LIMITS = Limits()
LINE = RequestLine(b"POST", b"/", False)
HOST = (b"host", b"a")
STREAM = b"4\r\nabcd\r\n03;x=y\r\nefg\r\n0\r\nX-A: b\r\nX-B:\r\n\r\n"


def refused(error: pytest.ExceptionInfo[FramingError]) -> tuple[int, str]:
    return error.value.refusal.status, error.value.refusal.code


@pytest.mark.parametrize("at", range(1, len(STREAM)))
def test_a_chunked_body_ends_at_the_same_byte_for_any_split(at: int) -> None:
    body = ChunkedBody(LIMITS)
    used = body.feed(STREAM[:at])
    assert used == at
    assert not body.done
    assert body.feed(STREAM[at:] + b"GET / HTTP/1.1") == len(STREAM) - at
    assert body.done
    assert body.body_bytes == 7


@given(st.lists(st.integers(1, len(STREAM) - 1), max_size=12))
@settings(max_examples=100)
def test_many_splits_change_nothing(cuts: list[int]) -> None:
    edges = [0, *sorted(set(cuts)), len(STREAM)]
    body = ChunkedBody(LIMITS)
    for start, end in zip(edges, edges[1:], strict=False):
        assert body.feed(STREAM[start:end]) == end - start
    assert body.done


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_any_bytes_are_a_body_or_a_framing_error(data: bytes) -> None:
    body = ChunkedBody(LIMITS)
    with contextlib.suppress(FramingError):
        used = body.feed(data)
        assert used == len(data) or body.done


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"1;" + b"e" * CHUNK_EXTENSION_BYTES_MAX + b"\r\n", "chunk_extensions"),
        (b"1;" + b"e" * (2 * CHUNK_EXTENSION_BYTES_MAX), "chunk_line_too_long"),
        (b"1;eeeeeeee\r\na\r\n" * (CHUNK_EXTENSION_BYTES_MAX // 8), "chunk_extensions"),
        (b"1\r\na\r\n" * (BODY_CHUNKS_MAX + 1), "too_many_chunks"),
        (b"%x\r\n" % (LIMITS.body_bytes_max + 1), "body_too_large"),
        (b"ffffffffffffffff\r\n", "body_too_large"),
        (b"0\r\n" + b"X: y\r\n" * (LIMITS.headers_max + 1), "head_too_large"),
        (b"0\r\nX: " + b"y" * LIMITS.head_bytes_max, "chunk_line_too_long"),
    ],
)
def test_a_chunked_body_is_bounded(data: bytes, code: str) -> None:
    body = ChunkedBody(LIMITS)
    with pytest.raises(FramingError) as error:
        body.feed(data)
    assert error.value.refusal.code == code


def test_a_long_chunk_line_in_single_bytes_is_not_kept() -> None:
    body = ChunkedBody(LIMITS)
    body.feed(b"1;")
    for _ in range(CHUNK_EXTENSION_BYTES_MAX):
        body.feed(b"e")
    with pytest.raises(FramingError):
        body.feed(b"e" * 20)


def head(*fields: bytes, line: bytes = b"GET / HTTP/1.1") -> bytes:
    return b"\r\n".join([line, *fields]) + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (head(line=b"GET /" + b"a" * LIMITS.request_line_bytes_max + b" HTTP/1.1"), 414, "request_line_too_long"),
        (head(*[b"X: y"] * (LIMITS.headers_max + 1)), 431, "head_too_large"),
        (head(b"X: " + b"y" * LIMITS.head_bytes_max), 431, "head_too_large"),
        (head(b"X: y\n z"), 400, "bare_cr_or_lf"),
        (head(b"X: y\r\n z"), 400, "folded_header"),
        (head(b"X: \x00"), 400, "control_character"),
        (head(line=b"BREW / HTTP/1.1"), 405, "method_not_allowed"),
        (head(line=b"GET / HTTP/2.0"), 400, "http_version"),
        (head(line=b"GET http://a/ HTTP/1.1"), 400, "bad_target"),
    ],
)
def test_a_head_is_judged_by_its_bytes(data: bytes, status: int, code: str) -> None:
    with pytest.raises(FramingError) as error:
        scan_head(data, LIMITS)
    assert refused(error) == (status, code)


def test_heads_at_their_limits_pass() -> None:
    line = b"GET /" + b"a" * (LIMITS.request_line_bytes_max - len(b"GET / HTTP/1.1\r\n")) + b" HTTP/1.1"
    assert scan_head(head(line=line), LIMITS).method == b"GET"
    assert scan_head(head(*[b"X: y"] * LIMITS.headers_max), LIMITS).http_10 is False
    longest = LIMITS.head_bytes_max - len(head(b"X: "))
    assert scan_head(head(b"X: " + b"y" * longest), LIMITS).target == b"/"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01", 400),
        (b"GET / HTTP/1.1\nHost", 400),
        (b"GET / HTTP/1.1\rHost", 400),
        (b"a" * (LIMITS.request_line_bytes_max + 1), 414),
        (b"GET / HTTP/1.1\r\n" + b"a" * LIMITS.head_bytes_max, 431),
    ],
)
def test_a_hopeless_beginning_is_refused_before_its_end(data: bytes, status: int) -> None:
    with pytest.raises(FramingError) as error:
        scan_partial_head(bytearray(data), 0, LIMITS)
    assert error.value.refusal.status == status


def test_a_cr_at_the_end_of_a_piece_is_not_bare_yet() -> None:
    scan_partial_head(bytearray(b"GET / HTTP/1.1\r"), 0, LIMITS)
    scan_partial_head(bytearray(b"GET / HTTP/1.1\r\nHost"), 15, LIMITS)
    with pytest.raises(FramingError):
        scan_partial_head(bytearray(b"GET / HTTP/1.1\rX"), 15, LIMITS)


def test_framing_of_usual_heads() -> None:
    assert read_framing([HOST, (b"accept", b"*/*")], LINE, LIMITS) == (0, False)
    assert read_framing([HOST, (b"content-length", b"12")], LINE, LIMITS) == (12, False)
    assert read_framing([HOST, (b"transfer-encoding", b"chunked"), (b"expect", b"100-Continue")], LINE, LIMITS) == (None, True)
    assert read_framing([(b"expect", b"100-continue"), (b"content-length", b"1")], LINE._replace(http_10=True), LIMITS) == (
        1,
        False,
    )


def test_a_body_over_its_limit_is_413_before_it_is_read() -> None:
    with pytest.raises(FramingError) as error:
        read_framing([HOST, (b"content-length", b"%d" % (LIMITS.body_bytes_max + 1))], LINE, LIMITS)
    assert refused(error) == (413, "body_too_large")
