"""Headers cross the gateway by name and by pattern, in both directions: nothing else of the one side is seen on the other."""

import asyncio
import json
from typing import Any

import pytest
from stage import Line, Stage

from headway.prove.forms import CHAT, DIALECTS, MESSAGES, PATHS, body_of, headers_of
from headway.prove.world import MODEL_BY_DIALECT

HOP_BY_HOP = ("keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer", "upgrade", "x-named-hop")
NEVER = (
    "cookie",
    "x-forwarded-for",
    "forwarded",
    "x-real-ip",
    "referer",
    "origin",
    "accept-language",
    "x-custom",
    "traceparent",
    "x-stainless-os",
    "openai-organization",
    "openai-project",
    "x-headway-run",
    "x-headway-class",
    "x-headway-anything",
    "x-headway-call",
    "x-headway-answered",
    "idempotency-key",
)


async def one(stage: Stage, dialect: str, *more: tuple[str, str], target: str = "", **fields: Any) -> Any:
    """A call with more headers, and what the upstream saw of it (None when it saw nothing)."""
    await stage.upstream.forget()
    line = Line(stage.product.url)
    body = body_of(dialect, MODEL_BY_DIALECT[target or dialect], "hello", **fields)
    answer = await line.send("POST", PATHS[dialect], headers_of(dialect, stage.key, *more), body)
    line.close()
    seen = await stage.seen()
    return answer, dict(seen[0]["headers"]) if seen else None


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("target", DIALECTS)
async def test_what_is_not_listed_does_not_pass(stage: Stage, dialect: str, target: str, stream: bool) -> None:
    more = [(name, "12345-canary" if name != "x-headway-class" else "batch") for name in (*HOP_BY_HOP, *NEVER)]
    answer, seen = await one(
        stage, dialect, ("connection", "keep-alive, x-named-hop, authorization"), *more, target=target, stream=stream
    )
    assert answer.status == 200
    allowed = {"host", "accept", "accept-encoding", "content-type", "content-length", "user-agent", "connection", "authorization"}
    allowed |= {"x-api-key", "anthropic-version"}
    assert set(seen) <= allowed
    assert "canary" not in json.dumps(seen)
    assert seen.get("connection", "keep-alive") == "keep-alive"
    assert stage.key not in json.dumps(seen)


@pytest.mark.parametrize("value", ["a;b", "a\tb", "<x>", "a" * 201, "é", "a:b", "a\\b", '"a"'])
@pytest.mark.parametrize("name", ["anthropic-beta", "anthropic-version"])
async def test_a_listed_header_passes_only_where_it_matches_in_full(stage: Stage, line: Line, name: str, value: str) -> None:
    fields = [(n, v) for n, v in headers_of(MESSAGES, stage.key) if n != name]
    await stage.upstream.forget()
    body = body_of(MESSAGES, MODEL_BY_DIALECT[MESSAGES], "hello")
    bad = await line.send("POST", PATHS[MESSAGES], [*fields, (name, value)], body)
    assert bad is not None
    assert bad.status == 400
    assert await stage.seen() == []
    good = await line.send("POST", PATHS[MESSAGES], [*fields, (name, "output-128k_2025.02, x=1")], body)
    assert good is not None
    assert good.status == 200


async def test_the_first_of_a_repeated_header_is_judged_and_sent(stage: Stage) -> None:
    """Not one value judged and another one sent."""
    answer, seen = await one(stage, MESSAGES, ("anthropic-beta", "good-1"), ("anthropic-beta", "second"))
    assert (answer.status, seen["anthropic-beta"]) == (200, "good-1")


@pytest.mark.parametrize("byte", ["\r", "\n", "\x00", "\x0b", "\x7f"], ids=ascii)
@pytest.mark.parametrize("name", ["anthropic-beta", "x-headway-run", "authorization", "content-type", "x-anything"])
async def test_a_control_byte_ends_the_request(stage: Stage, line: Line, name: str, byte: str) -> None:
    await stage.upstream.forget()
    fields = [*headers_of(CHAT, stage.key), (name, f"a{byte}x-evil: 1")]
    answer = await line.send("POST", PATHS[CHAT], fields, body_of(CHAT, MODEL_BY_DIALECT[CHAT], "hello"))
    assert answer is not None
    assert answer.status == 400
    assert await stage.seen() == []


FORGED = {
    "x-headway-call": "call_00000000000000000000000000",
    "x-headway-answered": "evil/model",
    "x-headway-generation": "999",
    "x-headway-lost": "everything",
    "X-Headway-Anything": "forged",
    "set-cookie": "a=forged",
    "location": "http://forged/",
    "server": "forged",
    "strict-transport-security": "forged",
    "access-control-allow-origin": "forged",
    "www-authenticate": "forged",
    "connection": "keep-alive, x-request-id",
    "keep-alive": "forged",
    "proxy-authenticate": "forged",
    "trailer": "forged",
    "openai-organization": "forged",
    "openai-project": "forged",
    "anthropic-organization-id": "forged",
}


@pytest.mark.parametrize("status", [200, 429, 500])
@pytest.mark.parametrize("path", [*PATHS.values(), "/v1/embeddings", "/v1/audio/speech", "/v1/messages/count_tokens"])
async def test_an_upstream_cannot_speak_for_the_gateway(stage: Stage, line: Line, path: str, status: int) -> None:
    await stage.upstream.script(
        {"status": status, "headers": FORGED, "body": "{}" if status == 200 and path in PATHS.values() else None}
    )
    dialect = next((d for d, p in PATHS.items() if p == path), MESSAGES if "messages" in path else CHAT)
    body = {**json.loads(body_of(dialect, MODEL_BY_DIALECT[dialect], "hello")), "input": "hello"}
    answer = await line.send("POST", path, headers_of(dialect, stage.key), json.dumps(body).encode())
    await stage.upstream.forget()
    assert answer is not None
    names = [name for name, _ in answer.headers]
    for name in ("x-headway-call", "x-headway-generation", "x-headway-answered"):
        assert names.count(name) == 1, names
    assert "forged" not in str(answer.headers)
    assert "evil" not in str(answer.headers)
    assert not {n for n in names if n.startswith("x-headway-")} - {"x-headway-call", "x-headway-generation", "x-headway-answered"}
    assert answer.header("x-headway-call") != FORGED["x-headway-call"]


@pytest.mark.parametrize(
    "bad", ["a\rx-headway-call: forged", "a\nset-cookie: forged", "a\x00forged", "a\r\n\r\nforged", "a\r\n forged"], ids=ascii
)
@pytest.mark.parametrize("name", ["x-request-id", "content-type", "retry-after", "openai-forged"])
async def test_a_line_break_from_upstream_writes_no_line(stage: Stage, name: str, bad: str) -> None:
    """The upstream's head is refused, or the break is part of its own head; ours stays ours either way."""
    await stage.upstream.script({"headers": {name: bad}})
    answer, _ = await asyncio.wait_for(one(stage, CHAT), 20)
    await stage.upstream.forget()
    assert answer is not None
    names = [found for found, _ in answer.headers]
    assert names.count("x-headway-call") == 1
    assert "set-cookie" not in names
    assert (answer.header("x-headway-call") or "").startswith("call_")
    assert answer.status in (200, 502)


async def test_names_of_what_was_lost_write_no_line(stage: Stage) -> None:
    """Fields that a dialect lacks are named in a header, and the caller chose those names."""
    evil = {"x\r\nset-cookie: forged": 1, "y\nforged: 1": 2, "z\x00": 3, "ü": 4}
    answer, _ = await one(stage, CHAT, target=MESSAGES, **evil)
    assert answer.status == 200
    assert not {"set-cookie", "forged"} & {name for name, _ in answer.headers}
    assert answer.header("x-headway-lost")
