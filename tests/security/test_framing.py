"""Framing corpus: each case goes through the listener as deployed, and through h11, which is not in the product.

Pass mark: whatever was forwarded is exactly what h11 reads, in order; everything else got a 4xx and its connection was closed.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import h11
import pytest

from headway.config.model import Limits

LIMITS = Limits(head_deadline_ms=400, body_deadline_ms=600, keep_alive_idle_ms=300)
BODY_END = b"0\r\n\r\n"
CHUNKED_5 = b"5\r\nhello\r\n" + BODY_END
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


class Case(NamedTuple):
    name: str
    data: bytes
    valid: bool
    """Whether all of it must be forwarded. Otherwise the first request must be turned away."""


def request(*fields: bytes, line: bytes = b"POST /x HTTP/1.1", host: bytes | None = b"Host: a", body: bytes = b"") -> bytes:
    lines = [line, *([host] if host is not None else []), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def label(data: bytes) -> str:
    return repr(data)[2:-1] or "empty"


def content_lengths() -> list[Case]:
    good = [b"5", b"05", b"0000000005", b" 5", b"5 ", b"\t5", b"5\t ", b"  5"]
    bad = [
        b"+5", b"-5", b"0x5", b"5h", b"5;", b"5,", b",5", b"5,5", b"5, 5", b"5, 6", b"5 5", b"5.0", b"5e0", b"5_0", b"five", b"", b" ", b"\xd9\xa5",
        b"\xb2", b"0b101", b"1" * 20, b"9" * 40, b"\x0b5", b"5\x0c", b"5\x00", b"\x005", b"5\x7f", b"'5'", b'"5"', b"5\xa0", b"%35", b"33554433",
        b"4294967296", b"18446744073709551616", b"18446744073709551621", b"-0", b"+0", b"0x0", b"NaN", b"5\r", b"5\n",
    ]  # fmt: skip
    cases = [Case(f"length {label(v)}", request(b"Content-Length:" + v, body=b"hello"), valid=True) for v in good]
    return cases + [Case(f"length {label(v)}", request(b"Content-Length: " + v, body=b"hello"), valid=False) for v in bad]


def transfer_encodings() -> list[Case]:
    good = [b"chunked", b"Chunked", b"CHUNKED", b"chunKed", b"  chunked", b"chunked ", b"\tchunked "]
    bad = [
        b"chunked,", b",chunked", b"chunked, chunked", b"chunked,chunked", b"identity", b"identity, chunked", b"chunked, identity", b"gzip",
        b"gzip, chunked", b"chunked, gzip", b"chunked;q=1", b"chunked; a", b'"chunked"', b"'chunked'", b"xchunked", b"x-chunked", b"chunkedx", b"chunke",
        b"chunked\t", b"", b" ", b"ch unked", b"chunked trailers", b"trailers", b"\x0bchunked", b"chunked\x0b", b"chunked\x0c", b"\x00chunked", b"chunked\x00",
        b"chunked\x7f", b"\xffchunked", b"chunked\xa0", b"\x85chunked", b"c\xc5\x8bunked", b"chunked\r", b"chunked\n", b"cow", b"deflate", b"br",
        b"compress", b"\x1fchunked", b"chunked\x01", b"chunked/1", b"(chunked)", b"chunked=1", b"chun\tked", b"0", b"true",
    ]  # fmt: skip
    cases = [Case(f"coding {label(v)}", request(b"Transfer-Encoding:" + v, body=CHUNKED_5), valid=True) for v in good]
    return cases + [Case(f"coding {label(v)}", request(b"Transfer-Encoding: " + v, body=CHUNKED_5), valid=False) for v in bad]


def lengths_together() -> list[Case]:
    te, cl = b"Transfer-Encoding: chunked", b"Content-Length: 5"
    pairs: dict[str, tuple[bytes, ...]] = {
        "CL then TE": (cl, te),
        "TE then CL": (te, cl),
        "CL 0 then TE": (b"Content-Length: 0", te),
        "TE then CL of the raw body": (te, b"Content-Length: %d" % len(CHUNKED_5)),
        "CL and TE identity": (cl, b"Transfer-Encoding: identity"),
        "CL and empty TE": (cl, b"Transfer-Encoding:"),
        "CL twice alike": (cl, cl),
        "CL twice apart": (cl, b"Content-Length: 6"),
        "CL twice, apart in case": (cl, b"content-length: 5"),
        "CL twice, a header between": (cl, b"X: y", b"CONTENT-LENGTH: 3"),
        "TE twice": (te, te),
        "TE chunked then identity": (te, b"Transfer-Encoding: identity"),
        "TE identity then chunked": (b"Transfer-Encoding: identity", te),
        "TE chunked then x": (te, b"Transfer-encoding: x"),
        "TE x then chunked": (b"Transfer-encoding: x", te),
        "TE with space before the colon": (b"Transfer-Encoding : chunked",),
        "TE with tab before the colon": (b"Transfer-Encoding\t: chunked",),
        "CL with space before the colon": (b"Content-Length : 5",),
        "CL with a control before the colon": (b"Content-Length\x0b: 5",),
        "TE folded": (b"Transfer-Encoding:\r\n chunked",),
        "TE folded by a tab": (b"Transfer-Encoding:\r\n\tchunked",),
        "CL folded": (b"Content-Length:\r\n 5",),
        "CL folded in the value": (b"Content-Length: 1\r\n 5",),
        "TE behind a fold": (b"X: y\r\n Transfer-Encoding: chunked",),
        "TE behind a bare CR": (b"X: y\rTransfer-Encoding: chunked",),
        "TE behind a bare LF": (b"X: y\nTransfer-Encoding: chunked",),
        "TE behind a NUL": (b"X: y\x00Transfer-Encoding: chunked",),
        "CL behind a bare LF": (b"X: y\nContent-Length: 5",),
        "TE with a leading space": (b" Transfer-Encoding: chunked",),
        "TE after a CR": (b"\rTransfer-Encoding: chunked",),
        "TE in quotes": (b'"Transfer-Encoding": chunked',),
        "CL and folded TE": (cl, b"Transfer-Encoding:\r\n chunked"),
        "CL and TE with vertical tab": (cl, b"Transfer-Encoding: \x0bchunked"),
        "CL and TE in one header": (b"Content-Length: 5, Transfer-Encoding: chunked",),
    }
    return [Case(name, request(*fields, body=CHUNKED_5 + NEXT), valid=False) for name, fields in pairs.items()]


def lookalikes() -> list[Case]:
    """Names that are almost a framing header are ordinary headers, and the request has no body."""
    names = [
        b"Content_Length",
        b"Transfer_Encoding",
        b"Content-Lengt",
        b"Content-Length2",
        b"XTransfer-Encoding",
        b"Transfer-Encodin",
        b"Transfer-Encodings",
    ]
    return [Case(f"lookalike {label(n)}", request(n + b": 5"), valid=True) for n in names]


def chunk_sizes() -> list[Case]:
    good = [b"5", b"05", b"0000000000000005", b"5;a", b"5;a=b", b'5;a="b c"', b"5;a;b;c=d"]
    bad = [
        b"", b" 5", b"\t5", b"+5", b"-5", b"0x5", b"5h", b"g", b"5 ;a", b"5\t;a", b"5,", b"5.", b"5 5", b"FFFFFFFFFFFFFFFF", b"10000000000000005",
        b"00000000000000005", b"5\x00", b"5;\x00", b"5;a\x0b", b"5;a\x7f", b"5\r", b"\r\n5", b"\xb5", b"5\xa0", b"2000001", b"5;" + b"e" * 5000, b"-1",
        b"5;", b"5;;", b"5;\xff", b"5\r;a", b"5;a\rb", b"5:a", b"0x", b"\x0b5", b"5 ", b"5\t",
    ]  # fmt: skip
    made = [(v, True) for v in good] + [(v, False) for v in bad]
    return [
        Case(f"chunk size {label(v[:30])}", request(b"Transfer-Encoding: chunked", body=v + b"\r\nhello\r\n" + BODY_END), valid=ok)
        for v, ok in made
    ]


def chunk_ends() -> list[Case]:
    bodies: dict[str, tuple[bytes, bool]] = {
        "two chunks": (b"3\r\nabc\r\n2\r\nde\r\n" + BODY_END, True),
        "no data": (BODY_END, True),
        "upper-case hexadecimal": (b"A\r\n0123456789\r\n" + BODY_END, True),
        "last chunk of zeros": (b"5\r\nhello\r\n000\r\n\r\n", True),
        "last chunk with an extension": (b"5\r\nhello\r\n0;a=b\r\n\r\n", True),
        "a trailer": (b"5\r\nhello\r\n0\r\nX-A: b\r\n\r\n", True),
        "two trailers": (b"5\r\nhello\r\n0\r\nX-A: b\r\nX-B:\r\n\r\n", True),
        "size line ends in LF": (b"5\nhello\r\n" + BODY_END, False),
        "size line ends in CR": (b"5\rhello\r\n" + BODY_END, False),
        "data ends in LF": (b"5\r\nhello\n" + BODY_END, False),
        "data ends in CR": (b"5\r\nhello\r" + BODY_END, False),
        "data ends in nothing": (b"5\r\nhello" + BODY_END, False),
        "data ends in anything": (b"5\r\nhelloXX" + BODY_END, False),
        "data ends in CR CR LF": (b"5\r\nhello\r\r\n" + BODY_END, False),
        "data ends in LF CR": (b"5\r\nhello\n\r" + BODY_END, False),
        "data longer than its size": (b"5\r\nhello!\r\n" + BODY_END, False),
        "data shorter than its size": (b"6\r\nhello\r\n" + BODY_END, False),
        "last chunk ends in LF": (b"5\r\nhello\r\n0\n\n", False),
        "end line is LF": (b"5\r\nhello\r\n0\r\n\n", False),
        "end line is CR": (b"5\r\nhello\r\n0\r\n\r", False),
        "end line is anything": (b"5\r\nhello\r\n0\r\nXX", False),
        "last chunk is -0": (b"5\r\nhello\r\n-0\r\n\r\n", False),
        "last chunk missing": (b"5\r\nhello\r\n", False),
        "trailer without a colon": (b"5\r\nhello\r\n0\r\nX-A\r\n\r\n", False),
        "trailer without a name": (b"5\r\nhello\r\n0\r\n: b\r\n\r\n", False),
        "trailer with a space before the colon": (b"5\r\nhello\r\n0\r\nX-A : b\r\n\r\n", False),
        "trailer with a NUL": (b"5\r\nhello\r\n0\r\nX-A: \x00\r\n\r\n", False),
        "trailer with a bare CR": (b"5\r\nhello\r\n0\r\nX-A: a\rb\r\n\r\n", False),
        "trailer ends in LF": (b"5\r\nhello\r\n0\r\nX-A: b\n\r\n", False),
        "trailer is folded": (b"5\r\nhello\r\n0\r\nX-A: b\r\n c\r\n\r\n", False),
        "trailer begins with a space": (b"5\r\nhello\r\n0\r\n X-A: b\r\n\r\n", False),
        "trailer Content-Length": (b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n", False),
        "trailer Transfer-Encoding": (b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", False),
        "trailer Host": (b"5\r\nhello\r\n0\r\nHost: b\r\n\r\n", False),
        "trailer Authorization": (b"5\r\nhello\r\n0\r\nAuthorization: Bearer x\r\n\r\n", False),
        "a request in the trailers": (b"5\r\nhello\r\n0\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", False),
        "too many trailers": (b"0\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(150)) + b"\r\n", False),
        "too long trailers": (b"0\r\nX: " + b"y" * 40_000 + b"\r\n\r\n", False),
    }
    return [Case(f"chunks: {name}", request(b"Transfer-Encoding: chunked", body=body), ok) for name, (body, ok) in bodies.items()]


def header_syntax() -> list[Case]:
    cases = [
        Case(f"value with byte {code:02x}", request(b"X-A: a" + bytes([code]) + b"b"), valid=code == 9 or code >= 0x80)
        for code in (*range(0x20), 0x7F, 0x80, 0xA0, 0xFF)
    ]
    separators = b'()<>@,;:\\"/[]?={} \t'
    for code in (*separators, *range(0x20), 0x7F, 0x80, 0xFF):
        if code not in b":\t":
            cases.append(Case(f"name with byte {code:02x}", request(b"X" + bytes([code]) + b"A: b"), valid=False))
    fields: dict[str, tuple[bytes, bool]] = {
        "empty value": (b"X-A:", True),
        "blank value": (b"X-A: \t ", True),
        "spaces around a value": (b"X-A: \t b c \t", True),
        "a colon in a value": (b"X-A: b:c", True),
        "every token character in a name": (b"!#$%&'*+-.^_`|~09azAZ: b", True),
        "no space after the colon": (b"X-A:b", True),
        "the same header twice": (b"X-A: b\r\nX-A: c", True),
        "no colon": (b"X-A", False),
        "no name": (b": b", False),
        "space before the colon": (b"X-A : b", False),
        "tab before the colon": (b"X-A\t: b", False),
        "fold by a space": (b"X-A: b\r\n c", False),
        "fold by a tab": (b"X-A: b\r\n\tc", False),
        "fold to an empty line": (b"X-A: b\r\n \r\nX-B: c", False),
        "line ends in LF": (b"X-A: b\nX-B: c", False),
        "line ends in CR": (b"X-A: b\rX-B: c", False),
        "line ends in CR CR LF": (b"X-A: b\r\r\nX-B: c", False),
        "line ends in LF CR": (b"X-A: b\n\rX-B: c", False),
        "a colon begins": (b":X-A: b", False),
        "too long": (b"X-A: " + b"b" * 33_000, False),
        "too many": (b"\r\n".join(b"X-%d: b" % n for n in range(100)), False),
    }
    return cases + [Case(f"header: {name}", request(field), ok) for name, (field, ok) in fields.items()]


def request_lines() -> list[Case]:
    lines: dict[bytes, bool] = {
        b"GET / HTTP/1.1": True, b"HEAD / HTTP/1.1": True, b"DELETE /a HTTP/1.1": True, b"OPTIONS /a HTTP/1.1": True, b"PUT /a HTTP/1.1": True,
        b"PATCH /a HTTP/1.1": True, b"GET /a?b=c&d HTTP/1.1": True, b"GET /%00%2f%2e%2e HTTP/1.1": True, b"GET //a/../b HTTP/1.1": True,
        b"GET /a|b`c^{}\\ HTTP/1.1": True, b"GET /a;b?c?d HTTP/1.1": True, b"GET /" + b"a" * 8000 + b" HTTP/1.1": True,
        b"GET /" + b"a" * 9000 + b" HTTP/1.1": False, b"GET /a#b HTTP/1.1": False, b"GET a HTTP/1.1": False, b"GET http://a/ HTTP/1.1": False,
        b"GET https://evil/ HTTP/1.1": False, b"GET * HTTP/1.1": False, b"OPTIONS * HTTP/1.1": False, b"CONNECT a:443 HTTP/1.1": False,
        b"CONNECT /a HTTP/1.1": False, b"TRACE / HTTP/1.1": False, b"get / HTTP/1.1": False, b"GeT / HTTP/1.1": False, b"GETX / HTTP/1.1": False,
        b"FOO / HTTP/1.1": False, b"G\x00ET / HTTP/1.1": False, b"G:T / HTTP/1.1": False, b"PRI * HTTP/2.0": False, b"GET  / HTTP/1.1": False,
        b"GET /  HTTP/1.1": False, b"GET / HTTP/1.1 ": False, b" GET / HTTP/1.1": False, b"\tGET / HTTP/1.1": False, b"GET\t/ HTTP/1.1": False,
        b"GET /\tHTTP/1.1": False, b"GET\x0b/ HTTP/1.1": False, b"GET / x HTTP/1.1": False, b"GET /a\tb HTTP/1.1": False, b"GET /\x00 HTTP/1.1": False,
        b"GET /\x7f HTTP/1.1": False, b"GET /\xc3\xa4 HTTP/1.1": False, b"GET /\xff HTTP/1.1": False, b"GET / HTTP/1.2": False,
        b"GET / HTTP/2.0": False, b"GET / HTTP/0.9": False, b"GET / HTTP/1.10": False, b"GET / HTTP/01.1": False, b"GET / HTTP/1.1.1": False,
        b"GET / HTTP/1": False, b"GET / HTTP/11": False, b"GET / HTTP/1,1": False, b"GET / http/1.1": False, b"GET / HTTP /1.1": False,
        b"GET / HTTP/ 1.1": False, b"GET / HTTP/-1.1": False, b"GET / HTTP/1.1x": False, b"GET / HTTPS/1.1": False, b"GET / ICE/1.0": False,
        b"GET / RTSP/1.0": False, b"GET /": False, b"GET": False, b"": False, b"/ HTTP/1.1": False, b"GET / HTTP/1.1\x00": False, b"\x00": False,
        b"GET /\rHTTP/1.1": False, b"GET / HTTP/1.1\r": False, b"\r\nGET / HTTP/1.1": False, b"\nGET / HTTP/1.1": False, b"\r\n\r\nGET / HTTP/1.1": False,
        b"GET / HTTP/1.1\nX: y": False, b"HTTP/1.1 200 OK": False, b"M-SEARCH / HTTP/1.1": False, b"SOURCE / ICE/1.0": False, b"DESCRIBE / RTSP/1.0": False,
    }  # fmt: skip
    return [Case(f"line {label(line[:40])} {len(line)}", request(line=line), ok) for line, ok in lines.items()]


def hosts() -> list[Case]:
    good = [b"a", b"a.example:8080", b"127.0.0.1", b"[::1]", b"[::1]:80", b"a:", b"A-b_c.d", b" a ", b"xn--a", b"a%20b"]
    bad = [
        b"", b" ", b"a b", b"a,b", b"a/b", b"a@b", b"user:x@a", b"http://a", b"a:b", b"a:80:80", b"a:999999", b"[::1", b"::1", b"a\tb", b"a\\b", b"a?b",
        b"a#b", b"\xff", b"a\x00", b'"a"', b"<a>", b"a|b", b"[a", b"a]", b"a:-1", b"a:+1",
    ]  # fmt: skip
    cases = [Case(f"host {label(v)}", request(host=b"Host:" + v), valid=True) for v in good if v != b"a,b"]
    cases += [Case(f"host {label(v)}", request(host=b"Host: " + v), valid=v == b"a,b") for v in bad]
    return [
        *cases,
        Case("no host", request(host=None), valid=False),
        Case("host twice", request(b"Host: a"), valid=False),
        Case("host twice apart", request(b"host: b"), valid=False),
        Case("no host in HTTP/1.0", request(host=None, line=b"GET / HTTP/1.0"), valid=True),
        Case("host in HTTP/1.0", request(line=b"GET / HTTP/1.0"), valid=True),
        Case("host twice in HTTP/1.0", request(b"Host: b", line=b"GET / HTTP/1.0"), valid=False),
    ]


def sequences() -> list[Case]:
    post = request(b"Content-Length: 5", body=b"hello")
    chunked = request(b"Transfer-Encoding: chunked", body=CHUNKED_5)
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    made: dict[str, tuple[bytes, bool]] = {
        "two in one write": (post + NEXT, True),
        "chunked and another": (chunked + NEXT, True),
        "chunked with trailers and another": (request(b"Transfer-Encoding: chunked", body=b"0\r\nX: y\r\n\r\n") + NEXT, True),
        "twenty in one write": ((post + chunked + NEXT) * 7, True),
        "GET with a body": (request(b"Content-Length: 5", line=b"GET / HTTP/1.1", body=b"hello") + NEXT, True),
        "a request as a body": (request(b"Content-Length: %d" % len(smuggled), body=smuggled) + NEXT, True),
        "an empty body": (request(b"Content-Length: 0") + NEXT, True),
        "connection close": (request(b"Connection: close"), True),
        "nothing is read after connection close": (request(b"Connection: close") + smuggled, True),
        "keep-alive asked for": (request(b"Connection: keep-alive, x") + NEXT, True),
        "upgrade to h2c": (request(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: x") + NEXT, True),
        "upgrade with a body": (request(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 5", body=b"hello") + NEXT, True),
        "upgrade to websocket": (request(b"Connection: Upgrade", b"Upgrade: websocket", line=b"GET / HTTP/1.1") + NEXT, True),
        "upgrade with chunks": (request(b"Connection: Upgrade", b"Upgrade: h2c", b"Transfer-Encoding: chunked", body=CHUNKED_5) + NEXT, True),
        "expect": (request(b"Expect: 100-continue", b"Content-Length: 5", body=b"hello") + NEXT, True),
        "expect in another case": (request(b"Expect: 100-CONTINUE", b"Content-Length: 5", body=b"hello") + NEXT, True),
        "expect something else": (request(b"Expect: 200-ok", b"Content-Length: 5", body=b"hello"), False),
        "expect twice, one unknown": (request(b"Expect: 100-continue", b"Expect: x", b"Content-Length: 5", body=b"hello"), False),
        "chunked in HTTP/1.0": (request(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0", body=CHUNKED_5), False),
        "length in HTTP/1.0": (request(b"Content-Length: 5", line=b"POST / HTTP/1.0", body=b"hello"), True),
        "keep-alive in HTTP/1.0 is not kept": (request(b"Connection: keep-alive", line=b"GET / HTTP/1.0"), True),
        "body shorter than its length": (request(b"Content-Length: 6", body=b"hello"), False),
        "body announced, none sent": (request(b"Content-Length: 6"), False),
        "CL.TE": (request(b"Content-Length: 6", b"Transfer-Encoding: chunked", body=b"0\r\n\r\nG") + smuggled, False),
        "TE.CL": (request(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=b"5c\r\n" + smuggled + b"\r\n0\r\n\r\n"), False),
        "TE.TE": (request(b"Transfer-Encoding: chunked", b"Transfer-Encoding: cow", body=b"0\r\n\r\n") + smuggled, False),
        "TE.0": (request(b"Transfer-Encoding: chunked", line=b"OPTIONS / HTTP/1.0", body=b"24\r\n" + smuggled + b"\r\n0\r\n\r\n"), False),
        "CL.0 with two lengths": (request(b"Content-Length: 0", b"Content-Length: 34") + smuggled, False),
        "no end of the head": (b"GET / HTTP/1.1\r\nHost: a\r\n", False),
        "half a line": (b"GET /", False),
        "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50, False),
        "an SSH banner": (b"SSH-2.0-OpenSSH\r\n", False),
        "an HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", False),
        "HTTP/0.9": (b"GET /\r\n", False),
        "a head of bare LF": (b"GET / HTTP/1.1\nHost: a\n\n", False),
        "a head of bare CR": (b"GET / HTTP/1.1\rHost: a\r\r", False),
        "a last line of bare LF": (b"GET / HTTP/1.1\r\nHost: a\r\n\n", False),
        "zeros": (b"\x00" * 100, False),
        "a long line without an end": (b"GET /" + b"a" * 9000, False),
        "a long head without an end": (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 6000, False),
    }  # fmt: skip
    return [Case(f"sequence: {name}", data, ok) for name, (data, ok) in made.items()]


CASES = [
    *content_lengths(), *transfer_encodings(), *lengths_together(), *lookalikes(), *chunk_sizes(), *chunk_ends(), *header_syntax(),
    *request_lines(), *hosts(), *sequences(),
]  # fmt: skip


def normal(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    return name, value.lower() if name == b"transfer-encoding" else value


def second_opinion(data: bytes) -> list[Any]:
    """What h11 reads from ``data``: whole requests, until it needs more, refuses or the connection ends."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    read: list[Any] = []
    head: Any = None
    body = b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return read
        if isinstance(event, h11.Request):
            head, body = event, b""
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            headers = tuple(normal(name, value) for name, value in head.headers if name != b"upgrade")
            read.append((bytes(head.method), bytes(head.target), headers, body))
            connection.send(h11.Response(status_code=404, headers=[(b"content-length", b"0")]))
            connection.send(h11.EndOfMessage())
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return read
            connection.start_next_cycle()
        else:
            return read


class Outcome(NamedTuple):
    forwarded: list[Any]
    statuses: list[int]
    closed: bool


async def play(port: int, data: bytes, by_port: dict[int, list[Any]]) -> Outcome:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    mine = writer.get_extra_info("sockname")[1]
    writer.write(data)
    answer, closed = b"", False
    try:
        async with asyncio.timeout(8):
            while piece := await reader.read(65536):
                answer += piece
            closed = True
    except ConnectionError:
        closed = True
    except TimeoutError:
        pass
    writer.close()
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]
    return Outcome(by_port.get(mine, []), [status for status in statuses if status != 100], closed)


@pytest.fixture(scope="module")
def outcomes(deploy_module: Callable[..., Any]) -> dict[str, Outcome]:
    there = deploy_module(LIMITS)

    async def all_of_them() -> dict[str, Outcome]:
        gate = asyncio.Semaphore(100)

        async def one(case: Case) -> tuple[str, Outcome]:
            async with gate:
                return case.name, await play(there.port, case.data, there.readings.by_port)

        return dict(await asyncio.gather(*[one(case) for case in CASES]))

    return asyncio.run(all_of_them())


def test_the_corpus_is_large_and_its_names_differ() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)
    assert len(CASES) >= 250
    assert sum(case.valid for case in CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_framing(case: Case, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[case.name]
    ours = [
        (method, target, tuple(normal(name, value) for name, value in headers if name != b"upgrade"), body)
        for method, target, headers, body in outcome.forwarded
    ]
    theirs = second_opinion(case.data)
    assert outcome.closed
    assert ours == theirs[: len(ours)], "forwarded something that h11 reads otherwise"
    if case.valid:
        assert len(ours) == len(theirs) >= 1
        assert outcome.statuses == [200] * len(ours)
    else:
        assert ours == []
        assert len(outcome.statuses) == 1
        assert 400 <= outcome.statuses[0] < 500
