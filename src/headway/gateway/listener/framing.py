"""Where one request ends and the next begins: the byte-level rules, without a socket and without a clock.

A strict reading in front of the parser in use. Both must agree, and where a rule of RFC 9112 leaves room the request is
refused rather than guessed at: what two programs on one path read differently can be smuggled past one of them.

``scan_head`` looks at raw bytes before any parser sees them; ``read_framing`` at the fields that it found; ``ChunkedBody``
follows a chunked body to its end.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from headway.config.model import Limits
from headway.kernel.limits import BODY_CHUNKS_MAX, CHUNK_EXTENSION_BYTES_MAX

Headers = Sequence[tuple[bytes, bytes]]

HEAD_END = b"\r\n\r\n"
METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))

_CONTROLS = bytes(b for b in (*range(0x20), 0x7F) if b not in b"\t\r\n")
_REQUEST_LINE = re.compile(rb"([A-Z]+) (/[!\x22$-~]*) HTTP/1\.([01])\r\n")
_BARE = re.compile(rb"(?<!\r)\n|\r(?=[^\n])")
_HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+,;=-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_DECIDING = frozenset((b"host", b"content-length", b"transfer-encoding", b"expect"))
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_CHUNK_SIZE_LINE_BYTES_MAX = 16 + CHUNK_EXTENSION_BYTES_MAX + 2
_TRAILER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t\x20-\x7e\x80-\xff]*\r\n")
_NOT_IN_TRAILERS = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"connection", b"authorization", b"x-api-key", b"te", b"trailer")
)
_LENGTH_DIGITS_MAX = 19


class Refusal(msgspec.Struct, frozen=True):
    """Why a request is turned away before the application sees it. ``code`` is stable and safe as a metric label."""

    status: int
    code: str
    message: str


class FramingError(Exception):
    """The bytes cannot be used as a request; the connection ends with ``refusal``."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.refusal = Refusal(status, code, message)


class RequestLine(NamedTuple):
    method: bytes
    target: bytes
    http_10: bool


class Framing(NamedTuple):
    """``length`` is None for a chunked body, else its bytes."""

    length: int | None
    expects_continue: bool


def scan_head(head: bytes, limits: Limits) -> RequestLine:
    """A whole head, its blank line included, judged by its bytes. Raises FramingError."""
    ends = head.count(b"\r\n")
    if ends != head.count(b"\n") or ends != head.count(b"\r"):
        raise FramingError(400, "bare_cr_or_lf", "a line of the request head ends in a bare CR or LF; lines end in CR LF")
    line = _REQUEST_LINE.match(head)
    if line is None or line.end() > limits.request_line_bytes_max or line[1] not in METHODS:
        raise _bad_request_line(head, limits)
    if len(head) > limits.head_bytes_max or ends - 2 > limits.headers_max:
        raise head_too_large(limits)
    if b"\r\n " in head or b"\r\n\t" in head:
        raise FramingError(400, "folded_header", "a header is folded over two lines; write it on one")
    if len(head.translate(None, _CONTROLS)) != len(head):
        raise FramingError(400, "control_character", "the request head holds a control character")
    return RequestLine(line[1], line[2], line[3] == b"0")


def scan_partial_head(partial: bytearray, searched: int, limits: Limits) -> None:
    """The beginning of a head that has not ended yet, ``searched`` bytes of it looked at before. Raises FramingError early,
    so that nothing unusable waits for its deadline and nothing too large is kept."""
    if partial[0] == 0x16:
        raise FramingError(400, "tls_on_plain_port", "this port speaks plain HTTP; use an http:// address")
    if _BARE.search(partial, max(0, searched - 1)):
        raise FramingError(400, "bare_cr_or_lf", "a line of the request head ends in a bare CR or LF; lines end in CR LF")
    if len(partial) > limits.request_line_bytes_max and partial.find(b"\n", 0, limits.request_line_bytes_max) < 0:
        raise request_line_too_long(limits)
    if len(partial) > limits.head_bytes_max:
        raise head_too_large(limits)


def read_framing(headers: Headers, line: RequestLine, limits: Limits) -> Framing:
    """What follows the head, by its fields (lower-case names, stripped values). Raises FramingError."""
    hosts, lengths, codings, expects = [], [], [], []
    for name, value in headers:
        if name in _DECIDING:
            if name == b"host":
                hosts.append(value)
            elif name == b"content-length":
                lengths.append(value)
            elif name == b"transfer-encoding":
                codings.append(value)
            else:
                expects.append(value)
    if len(hosts) != 1 or _HOST.fullmatch(hosts[0]) is None:
        _refuse_host(hosts, line)
    expects_continue = bool(expects) and _expects_continue(expects, line)
    if codings:
        _check_codings(codings, lengths, line)
        return Framing(None, expects_continue)
    return Framing(_length(lengths, limits) if lengths else 0, expects_continue)


def body_too_large(limits: Limits) -> FramingError:
    what = f"the body is larger than {limits.body_bytes_max} bytes; send less, or raise [gateway.limits] body_bytes_max"
    return FramingError(413, "body_too_large", what)


def head_too_large(limits: Limits) -> FramingError:
    what = f"the request head has more than {limits.headers_max} headers or {limits.head_bytes_max} bytes"
    return FramingError(431, "head_too_large", what)


def request_line_too_long(limits: Limits) -> FramingError:
    return FramingError(414, "request_line_too_long", f"the request line is longer than {limits.request_line_bytes_max} bytes")


def _bad_request_line(head: bytes, limits: Limits) -> FramingError:
    """Say which part of the first line cannot be used."""
    line = head[: head.find(b"\r\n")]
    if len(line) + 2 > limits.request_line_bytes_max:
        return request_line_too_long(limits)
    if not line:
        return FramingError(400, "bad_request_line", "an empty line stands where a request line should")
    parts = line.split(b" ")
    if len(parts) != 3:
        return FramingError(400, "bad_request_line", "a request line has three words: method, path, version")
    method, target, version = parts
    if re.fullmatch(rb"HTTP/1\.[01]", version) is None:
        return FramingError(400, "http_version", "only HTTP/1.1 and HTTP/1.0 are spoken here")
    if method not in METHODS:
        return FramingError(405, "method_not_allowed", "this method is not served here")
    if not target.startswith(b"/"):
        return FramingError(400, "bad_target", "the request target must be a path that begins with a slash")
    return FramingError(400, "bad_target", "the request target holds a character that must be percent-encoded")


def _refuse_host(hosts: list[bytes], line: RequestLine) -> None:
    if not hosts and line.http_10:
        return
    if len(hosts) != 1:
        raise FramingError(400, "host", "exactly one Host header is needed")
    raise FramingError(400, "host", "the Host header is not a host name with an optional port")


def _expects_continue(expects: list[bytes], line: RequestLine) -> bool:
    if any(value.lower() != b"100-continue" for value in expects):
        raise FramingError(417, "unknown_expectation", "the only expectation that is met is 100-continue")
    return not line.http_10


def _check_codings(codings: list[bytes], lengths: list[bytes], line: RequestLine) -> None:
    if lengths:
        raise FramingError(400, "two_lengths", "Content-Length and Transfer-Encoding exclude each other")
    if line.http_10:
        raise FramingError(400, "transfer_encoding", "HTTP/1.0 has no Transfer-Encoding")
    if len(codings) > 1 or codings[0].lower() != b"chunked":
        raise FramingError(400, "transfer_encoding", "the only Transfer-Encoding read here is one single 'chunked'")


def _length(lengths: list[bytes], limits: Limits) -> int:
    if len(lengths) > 1:
        raise FramingError(400, "two_lengths", "Content-Length stands twice")
    if not lengths[0].isdigit() or len(lengths[0]) > _LENGTH_DIGITS_MAX:
        raise FramingError(400, "content_length", "Content-Length must be a whole number of bytes in plain digits")
    length = int(lengths[0])
    if length > limits.body_bytes_max:
        raise body_too_large(limits)
    return length


class ChunkedBody:
    """Follows one chunked body. ``feed`` says how many of the bytes given belong to it; ``done`` that it has ended.

    A line that has come in part is kept, at most ``CHUNK_EXTENSION_BYTES_MAX`` (sizes) or the head's limit (trailers) of it.
    """

    __slots__ = (
        "_limits",
        "_line",
        "_need",
        "_step",
        "body_bytes",
        "chunks",
        "done",
        "extension_bytes",
        "trailer_bytes",
        "trailers",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._step = self._size_line
        self._line = b""
        self._need = 0
        self.body_bytes = self.chunks = self.extension_bytes = self.trailers = self.trailer_bytes = 0
        self.done = False

    def feed(self, data: bytes) -> int:
        """Bytes used. Raises FramingError."""
        at, end = 0, len(data)
        while at < end and not self.done:
            at = self._step(data, at)
        return at

    def _take_line(self, data: bytes, at: int, longest: int) -> tuple[bytes | None, int]:
        """A whole line and where it ends; None while its end has not come."""
        stop = data.find(b"\n", at, at + longest)
        if stop < 0:
            self._line += data[at:]
            if len(self._line) > longest:
                raise FramingError(400, "chunk_line_too_long", "a line of the chunked body is too long")
            return None, len(data)
        line, self._line = self._line + data[at : stop + 1], b""
        return line, stop + 1

    def _size_line(self, data: bytes, at: int) -> int:
        line, at = self._take_line(data, at, _CHUNK_SIZE_LINE_BYTES_MAX)
        if line is None:
            return at
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise FramingError(400, "chunk_size", "a chunk size is not plain hexadecimal, or its line does not end in CR LF")
        self.chunks += 1
        self.extension_bytes += len(match[2] or b"")
        if self.extension_bytes > CHUNK_EXTENSION_BYTES_MAX:
            raise FramingError(
                400, "chunk_extensions", f"chunk extensions are longer than {CHUNK_EXTENSION_BYTES_MAX} bytes together"
            )
        if self.chunks > BODY_CHUNKS_MAX:
            raise FramingError(400, "too_many_chunks", f"the body comes in more than {BODY_CHUNKS_MAX} chunks; send larger ones")
        self._need = int(match[1], 16)
        self.body_bytes += self._need
        if self.body_bytes > self._limits.body_bytes_max:
            raise body_too_large(self._limits)
        self._step = self._data if self._need else self._trailer_line
        return at

    def _data(self, data: bytes, at: int) -> int:
        used = min(self._need, len(data) - at)
        self._need -= used
        if not self._need:
            self._step = self._data_end
        return at + used

    def _data_end(self, data: bytes, at: int) -> int:
        piece = data[at : at + 2 - len(self._line)]
        self._line += piece
        if not b"\r\n".startswith(self._line):
            raise FramingError(400, "chunk_data", "a chunk is longer than its size says")
        if len(self._line) == 2:
            self._line, self._step = b"", self._size_line
        return at + len(piece)

    def _trailer_line(self, data: bytes, at: int) -> int:
        line, at = self._take_line(data, at, self._limits.head_bytes_max)
        if line is None:
            return at
        if line == b"\r\n":
            self.done = True
            return at
        match = _TRAILER.fullmatch(line)
        if match is None:
            raise FramingError(400, "trailer", "a trailer is not a header line")
        if match[1].lower() in _NOT_IN_TRAILERS:
            raise FramingError(400, "trailer", "a trailer holds a header that only counts before the body")
        self.trailers += 1
        self.trailer_bytes += len(line)
        if self.trailers > self._limits.headers_max or self.trailer_bytes > self._limits.head_bytes_max:
            raise head_too_large(self._limits)
        return at
