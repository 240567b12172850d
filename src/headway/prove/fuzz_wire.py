"""Random requests at the running listener: every connection is answered or closed in time, and the gateway stands as before."""

import asyncio
import random

from headway.prove.forms import DIALECTS, PATHS, body_of, headers_of
from headway.prove.fuzz_codecs import mutated
from headway.prove.rawhttp import RawConnection
from headway.prove.world import MODEL_BY_DIALECT, World

ANSWER_WITHIN_S = 20.0
CONFIGURATION = """
[gateway]
[gateway.limits]
head_deadline_ms = 3000
body_deadline_ms = 3000
keep_alive_idle_ms = 1000
"""
_PATHS = (
    "/v1/models",
    "/v1/embeddings",
    "/v1/messages/count_tokens",
    "/v1/images/generations",
    "/health/live",
    "/v1/headway/feedback",
)
_METHODS = ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "post", "TRACE", "CONNECT", "A" * 300)
_TARGETS = (
    "http://evil.example/v1/models",
    "//evil.example/",
    "/v1/../../etc",
    "/v1/%00",
    "/v1/chat/completions?a=b#c",
    "*",
    "/" + "a" * 9_000,
)
_HEADERS = (
    "transfer-encoding: chunked",
    "transfer-encoding: chunked, identity",
    "content-length: 3",
    "content-length: +7",
    "content-length: 99999999999999999999",
    "host: other",
    "connection: close, x-api-key",
    "expect: 100-continue",
    "content-encoding: gzip",
    "upgrade: websocket",
    "x-headway-deadline-ms: -1",
    "x-headway-idempotency-key: " + "k" * 5_000,
    "x y: 1",
    "x: \x00",
    " folded: 1",
)


def request_of(draw: random.Random, key: str) -> bytes:
    """A request that was valid before one to three things happened to it."""
    dialect = draw.choice(DIALECTS)
    body = body_of(dialect, MODEL_BY_DIALECT[dialect], "<<words=3>> hi", stream=draw.random() < 0.5)
    method, target = "POST", PATHS[dialect]
    lines = [f"{name}: {value}" for name, value in headers_of(dialect, key)]
    framed = [f"content-length: {len(body)}"]
    for _ in range(draw.randint(1, 3)):
        match draw.randrange(7):
            case 0:
                body = mutated(draw, body)
                framed = [f"content-length: {len(body)}"]
            case 1:
                framed.append(draw.choice(_HEADERS))
            case 2:
                target = draw.choice((*_PATHS, *_TARGETS))
            case 3:
                method = draw.choice(_METHODS)
            case 4:
                framed = ["transfer-encoding: chunked"]
                body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            case 5:
                lines = draw.sample(lines, draw.randrange(len(lines) + 1))
            case _:
                framed = [draw.choice(_HEADERS)]
    if draw.random() < 0.8:
        lines.append("connection: close")
    head = "\r\n".join([f"{method} {target} HTTP/1.1", "host: 127.0.0.1", *lines, *framed]) + "\r\n\r\n"
    whole = head.encode("latin-1") + body
    return mutated(draw, whole) if draw.random() < 0.3 else whole


async def one_case(stage: World, seed: int, case: int) -> str:
    """What was wrong, or nothing."""
    draw = random.Random(f"{seed}:{case}")
    data = request_of(draw, stage.key)
    connection = await RawConnection.open(stage.product.url)
    try:
        cut = draw.randrange(len(data) + 1) if draw.random() < 0.3 else len(data)
        await connection.send_bytes(data[:cut])
        if cut < len(data):
            await asyncio.sleep(draw.random() * 0.02)
            await connection.send_bytes(data[cut:])
        if not await connection.closed_within(ANSWER_WITHIN_S):
            return f"neither answered nor closed within {ANSWER_WITHIN_S} s: {data[:120]!r}"
    except ConnectionError:
        return ""  # closed while we were sending: a refusal
    finally:
        connection.abort()
    return ""
