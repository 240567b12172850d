"""The application behind its real listener: every route, every refusal, and what never gets out."""

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
from gateway_bench import MINTED
from gateway_served import OTHER, PROVIDER_KEY, Client, Served, configured, served

from headway.config.model import Limits
from headway.facts.model import FeedbackFact
from headway.kernel.instants import MonoNs, mono_ns
from headway.lab.scripted_seen import Record
from headway.ledger.keys import mint

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
MESSAGES = {"model": "deep", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 20}
RESPONSES = {"model": "chat", "input": "hello"}
CALL_ID = "call_" + "0" * 26


@pytest.fixture
async def gw() -> AsyncIterator[Served]:
    async with served() as made:
        yield made


async def until(true: Callable[[], object], timeout_s: float = 3.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not true():
            await asyncio.sleep(0.002)


# --- routes


@pytest.mark.parametrize("base", ["/v1", "", "/v1/v1"])
@pytest.mark.parametrize(
    ("path", "body", "stream"),
    [
        ("/chat/completions", CHAT, False),
        ("/chat/completions", CHAT, True),
        ("/responses", RESPONSES, False),
        ("/responses", RESPONSES, True),
        ("/messages", MESSAGES, False),
        ("/messages", MESSAGES, True),
    ],
)
async def test_calls_are_answered_whatever_the_base_url(gw: Served, base: str, path: str, body: dict, stream: bool) -> None:
    got = await gw.call("POST", base + path, body | {"stream": stream})
    assert got.status == 200, got.body
    assert got.header("content-type").startswith("text/event-stream" if stream else "application/json")
    assert got.header("x-headway-call").startswith("call_")
    assert got.header("x-headway-generation") == "7"
    assert got.header("x-headway-answered") in ("one/m1", "claude/opus")
    fact = gw.facts.call()
    assert (fact.outcome, fact.call, fact.stream) == ("done", got.header("x-headway-call"), stream)
    assert fact.path == "/v1" + path


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/responses", "POST"),
        ("PUT", "/v1/messages", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("DELETE", "/v1/models/chat", "GET, HEAD"),
        ("GET", "/v1/headway/feedback", "POST"),
        ("POST", "/health/live", "GET, HEAD"),
        ("POST", "/health/ready", "GET, HEAD"),
        ("POST", "/metrics", "GET, HEAD"),
        ("GET", "/v1/embeddings", "POST"),
        ("PUT", "/v1/files", "GET, POST"),
        ("POST", "/v1/files/file-1", "GET, DELETE"),
        ("GET", "/v1/messages/count_tokens", "POST"),
    ],
)
async def test_a_known_path_says_what_it_takes(gw: Served, method: str, path: str, allow: str) -> None:
    got = await gw.call(method, path)
    assert (got.status, got.header("allow")) == (405, allow)
    error = got.json()["error"]
    assert allow in error["message"]
    assert ("code" in error) is (not path.startswith("/v1/messages"))


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v1/", "/v2/chat/completions", "/v1/chat", "/v1/chat/completions/x", "/v1/fine_tuning/jobs", "/v1/files/a/b/c",
     "/v1/files/..%2f..%2fmodels", "/v1/%2e%2e/metrics", "/metrics/x", "/health", "/v1/traces/ingest", "/api/v1/calls", "/v1/batches"],
)  # fmt: skip
async def test_unknown_paths_are_404_in_the_dialect_of_who_asks(gw: Served, path: str) -> None:
    got = await gw.call("POST", path, b"{}")
    assert got.status == 404
    assert got.json()["error"]["code"] == "not_found"
    as_anthropic = await gw.call("POST", path, b"{}", anthropic_version="2023-06-01")
    assert as_anthropic.json()["type"] == "error"
    assert as_anthropic.json()["error"]["type"] == "not_found_error"
    assert not gw.scripted.seen.requests


async def test_models_in_both_forms_show_what_the_caller_may_call(gw: Served) -> None:
    openai = (await gw.call("GET", "/v1/models")).json()
    assert openai["object"] == "list"
    assert [m["id"] for m in openai["data"]] == ["chat", "deep", "listen", "vectors"]
    anthropic = (await gw.call("GET", "/models", anthropic_version="2023-06-01")).json()
    assert (anthropic["has_more"], anthropic["first_id"], anthropic["data"][0]["type"]) == (False, "chat", "model")
    unbounded = (await gw.call("GET", "/v1/models", key=OTHER.text)).json()
    assert {"hidden", "one/m1", "claude/opus"} <= {m["id"] for m in unbounded["data"]}


async def test_one_model_by_name(gw: Served) -> None:
    assert (await gw.call("GET", "/v1/models/chat")).json()["id"] == "chat"
    assert (await gw.call("GET", "/v1/models/one%2Fm1", key=OTHER.text)).json()["owned_by"] == "one"
    missing = await gw.call("GET", "/v1/models/hidden")
    assert (missing.status, missing.json()["error"]["code"]) == (404, "model_not_found")
    assert (await gw.call("GET", "/v1/models/x", anthropic_version="1")).json()["error"]["type"] == "not_found_error"
    assert (await gw.call("GET", "/v1/models", key=None)).status == 401


async def test_head_has_no_body_and_the_connection_stays_in_step(gw: Served) -> None:
    async with Client(gw.port) as client:
        for path in ("/v1/models", "/health/live", "/metrics"):
            await client.send("HEAD", path)
            assert (await client.answer("HEAD")).status == 200
        await client.send("GET", "/health/live")
        assert (await client.answer()).json() == {"status": "live"}


async def test_feedback_is_noted_for_the_keys_own_tenant(gw: Served) -> None:
    got = await gw.call("POST", "/v1/headway/feedback", {"call": CALL_ID, "kind": "accepted", "note": "mail a@b.co"})
    assert (got.status, got.json()) == (202, {"call": CALL_ID, "kind": "accepted", "noted": True})
    (fact,) = [r for r in gw.facts.rows if isinstance(r, FeedbackFact)]
    assert (fact.tenant, fact.principal, fact.kind) == ("acme", "usr_1", "accepted")
    assert "a@b.co" not in fact.note


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"call":"x","kind":"accepted"}', json.dumps({"call": CALL_ID, "kind": "liked"}).encode(),
     json.dumps({"call": CALL_ID, "kind": "copied", "tenant": "other"}).encode(), json.dumps({"call": 1, "kind": "copied"}).encode()],
)  # fmt: skip
async def test_feedback_that_cannot_be_used_is_refused(gw: Served, body: bytes) -> None:
    assert (await gw.call("POST", "/v1/headway/feedback", body)).status == 400
    assert not gw.facts.rows


async def test_tokens_are_counted_where_the_provider_can_and_404_elsewhere(gw: Served) -> None:
    body = {"model": "deep", "messages": [{"role": "user", "content": "hello"}]}
    got = await gw.call("POST", "/v1/messages/count_tokens?beta=true", body, anthropic_version="2023-06-01")
    assert got.status == 200
    assert got.json()["input_tokens"] > 0
    assert json.loads(gw.scripted.seen.records[-1].body)["model"] == "opus"
    fact = gw.facts.call()
    assert (fact.wire, fact.cost_nano_usd, fact.charged_nano_usd) == ("opaque", 0, 0)
    clean = await gw.call("POST", "/v1/messages/count_tokens", body | {"model": "chat"})
    assert (clean.status, clean.json()["error"]["type"]) == (404, "not_found_error")


async def test_embeddings_pass_with_the_models_name_spliced(gw: Served) -> None:
    got = await gw.call("POST", "/v1/embeddings", b'{"input": "a b",  "model":"vectors"}', content_type="application/json")
    assert got.status == 200
    assert gw.scripted.seen.records[-1].body == b'{"input": "a b",  "model":"embed"}'
    fact = gw.facts.call()
    assert (fact.wire, fact.routed, fact.usage_source) == ("opaque", "one/embed", "reported")
    assert fact.input_tokens
    refused = await gw.call("POST", "/v1/embeddings", {"model": "deep", "input": "x"})
    assert refused.status == 404


def form(*parts: tuple[str, bytes], boundary: str = "bOuNd") -> bytes:
    out = b""
    for disposition, value in parts:
        out += f"--{boundary}\r\ncontent-disposition: form-data; {disposition}\r\n\r\n".encode() + value + b"\r\n"
    return out + f"--{boundary}--\r\n".encode()


FORM = "multipart/form-data; boundary=bOuNd"
SOUND = ('name="file"; filename="a.wav"', b"RIFF\x00\xff")


async def test_audio_passes_in_a_form_with_the_feature_resolved(gw: Served) -> None:
    got = await gw.call("POST", "/v1/audio/transcriptions", form(SOUND, ('name="model"', b"listen")), content_type=FORM)
    assert got.status == 200
    sent = gw.scripted.seen.records[-1]
    assert sent.body == form(SOUND, ('name="model"', b"whisper"))
    assert dict(sent.headers)["content-type"] == FORM
    fact = gw.facts.call()
    assert (fact.requested, fact.routed, fact.wire) == ("listen", "one/whisper", "opaque")
    assert (fact.usage_source, fact.input_tokens) == ("unknown", None)


@pytest.mark.parametrize(
    "body",
    [
        form(('name="file"; filename="x"', b'name="model"\r\n\r\nlisten\r\n'), ('name="model"', b"hidden")),
        form(('name="file"', b'\r\ncontent-disposition: form-data; name="model"\r\n\r\nlisten\r\n'), ("name=model", b"hidden")),
        form(('name="file"; filename="model"', b"listen"), ('name="model"', b"hidden")),
    ],
)
async def test_nothing_inside_a_file_passes_for_the_model(gw: Served, body: bytes) -> None:
    got = await gw.call("POST", "/v1/audio/transcriptions", body, content_type=FORM)
    assert (got.status, gw.facts.call().requested) == (403, "hidden")
    assert not gw.scripted.seen.requests


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (form(('name="model"', b"listen"), ('name="model"', b"hidden")), FORM),
        (form(("name*=utf-8''model", b"hidden"), ('name="model"', b"listen")), FORM),
        (form(('name="x"; name="model"', b"hidden"), ('name="model"', b"listen")), FORM),
        (b"--bOuNd\r\nx: y\r\n\r\nv\r\n" + form(('name="model"', b"listen")), FORM),
        (form(('name="model"', b"listen"))[:-8], FORM),
        (b"preamble\r\n" + form(('name="model"', b"listen")), FORM),
        (form(('name="model"', b"\xff")), FORM),
        (form(('name="model"', b"x" * 201)), FORM),
        (form(('name="model"', b"")), FORM),
        (form(('name="model"', b"listen")), "multipart/form-data"),
        (form(('name="model"', b"listen")), 'multipart/form-data; boundary=""'),
        (form(*[(f'name="f{i}"', b"") for i in range(300)], ('name="model"', b"listen")), FORM),
        (b'--bOuNd\r\ncontent-disposition: form-data;\r\n name="model"\r\n\r\nlisten\r\n--bOuNd--\r\n', FORM),
        (b'--bOuNd\ncontent-disposition: form-data; name="model"\n\nlisten\n--bOuNd--\n', FORM),
        (b"", FORM),
    ],
)
async def test_a_form_that_two_readers_could_read_differently_is_refused(gw: Served, body: bytes, content_type: str) -> None:
    got = await gw.call("POST", "/v1/audio/transcriptions", body, content_type=content_type)
    assert got.status in (400, 404), got.body
    assert not gw.scripted.seen.requests


async def test_files_belong_to_the_tenant_that_they_are_set_aside_for(gw: Served) -> None:
    for method, path in (("GET", "/v1/files"), ("GET", "/v1/files/file-1"), ("DELETE", "/v1/files/file-1")):
        assert (await gw.call(method, path)).status == 403
        mine = await gw.call(method, path, key=OTHER.text)
        assert mine.status == 200, mine.body
        assert (gw.scripted.seen.records[-1].method, gw.scripted.seen.records[-1].target) == (method, path)
    assert (await gw.call("POST", "/v1/files", form(SOUND), key=OTHER.text, content_type=FORM)).status == 200
    assert (await gw.call("GET", "/v1/files", key=None)).status == 401


# --- health and metrics


async def test_health_tells_live_ready_degraded_starting_draining_and_out_of_grace(gw: Served) -> None:
    assert (await gw.call("GET", "/health/live", key=None)).json() == {"status": "live"}
    ready = await gw.call("GET", "/health/ready", key=None)
    assert (ready.status, ready.json()["status"], ready.json()["generation"]) == (200, "ready", 7)
    gw.state.link_up, gw.state.link_lost_at, gw.state.grace_s = False, mono_ns(), 60
    degraded = await gw.call("GET", "/health/ready", key=None)
    assert (degraded.status, degraded.json()["status"]) == (200, "degraded")
    assert "control" in degraded.json()["degraded"][0]
    assert (await gw.call("POST", "/v1/chat/completions", CHAT)).status == 200, "the grace serves"
    gw.state.link_lost_at = MonoNs(mono_ns() - 61 * 10**9)
    assert (await gw.call("GET", "/health/ready")).status == 503
    late = await gw.call("POST", "/v1/chat/completions", CHAT)
    assert (late.status, late.json()["error"]["code"]) == (503, "out_of_grace")
    assert (await gw.call("GET", "/v1/models")).status == 503
    gw.state.link_up = True
    gw.services.draining = True
    assert (await gw.call("GET", "/health/ready")).json()["status"] == "draining"
    drained = await gw.call("POST", "/v1/chat/completions", CHAT)
    assert (drained.status, drained.header("retry-after"), drained.header("x-should-retry")) == (503, "1", "true")
    gw.services.draining = False
    gw.services.live = None
    starting = await gw.call("GET", "/health/ready")
    assert (starting.status, starting.json()["status"]) == (503, "starting")
    early = await gw.call("POST", "/v1/messages", MESSAGES)
    assert (early.status, early.json()["error"]["type"]) == (503, "overloaded_error")
    assert (await gw.call("GET", "/health/live")).status == 200


async def test_what_never_became_a_call_is_counted_by_its_code(gw: Served) -> None:
    before = gw.metrics.submitted.value
    for _ in range(2):
        await gw.call("GET", "/v1/nothing")
    refused = (await gw.call("GET", "/health/live", x_long="y" * 40_000)).status
    assert refused == 431, "the listener's own, before any route"
    page = (await gw.call("GET", "/metrics", key=None)).body.decode()
    counted = dict(re.findall(r'headway_refused_before_calls_total\{code="(\w+)"\} (\d+)', page))
    assert counted["not_found"] == "2"
    assert sum(map(int, counted.values())) == 3, counted
    assert gw.metrics.submitted.value == before


async def test_metrics_are_for_this_machine_only(gw: Served) -> None:
    got = await gw.call("GET", "/metrics", key=None)
    assert got.header("content-type").startswith("text/plain; version=0.0.4")
    assert b"headway_calls_submitted_total" in got.body
    assert (await gw.call("GET", "/metrics", key=None, x_forwarded_for="203.0.113.9")).status == 404
    scope = {
        "type": "http", "method": "GET", "path": "/metrics", "headers": [], "client": ("203.0.113.9", 1), "extensions": {},
    }  # fmt: skip
    sent: list[dict] = []

    async def send(message: dict) -> None:
        sent.append(message)

    async def receive() -> dict:
        return {"type": "http.request", "body": b"", "more_body": False}

    await gw.app(scope, receive, send)  # type: ignore[arg-type]
    assert sent[0]["status"] == 404


# --- what is refused before it is a call


async def test_bodies_too_large_or_encoded_are_refused_in_the_callers_dialect() -> None:
    async with served(Limits(body_bytes_max=2_000)) as gw:
        big = await gw.call("POST", "/v1/messages", {"model": "deep", "x": "y" * 3_000})
        assert (big.status, big.json()["error"]["type"]) == (413, "request_too_large")
        for encoding in ("gzip", "br", "deflate", "identity, gzip"):
            got = await gw.call("POST", "/v1/chat/completions", CHAT, content_encoding=encoding)
            assert (got.status, got.json()["error"]["code"]) == (415, "unsupported_encoding")
        assert (await gw.call("POST", "/v1/chat/completions", CHAT, content_encoding="identity")).status == 200
        assert gw.scripted.seen.requests == 1


async def test_a_body_too_large_in_pieces_is_refused_before_it_is_kept() -> None:
    async with served(Limits(body_bytes_max=2_000)) as gw, Client(gw.port) as client:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {MINTED.text}\r\ntransfer-encoding: chunked\r\n\r\n"
        client.writer.write(head.encode())
        for _ in range(5):
            client.writer.write(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        got = await client.answer()
        assert (got.status, got.json()["error"]["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("path", "body", "dialect"),
    [("/v1/chat/completions", CHAT, "openai"), ("/v1/responses", RESPONSES, "openai"), ("/v1/messages", MESSAGES, "anthropic")],
)
async def test_errors_are_in_the_dialect_of_the_route(gw: Served, path: str, body: dict, dialect: str) -> None:
    nobody = await gw.call("POST", path, body, key=None)
    unknown = await gw.call("POST", path, body | {"model": "nope"})
    forbidden = await gw.call("POST", path, body | {"model": "hidden"})
    broken = await gw.call("POST", path, b"{")
    gw.script(status=500)
    failed = await gw.call("POST", path, body)
    assert [a.status for a in (nobody, unknown, forbidden, broken, failed)] == [401, 404, 403, 400, 500]
    for got in (nobody, unknown, forbidden, broken, failed):
        error = got.json()["error"]
        assert error["message"]
        if dialect == "anthropic":
            assert got.json()["type"] == "error"
            assert "code" not in error
        else:
            assert "type" not in got.json()
            assert {"message", "type"} <= set(error)
        assert got.header("x-headway-call").startswith("call_")


async def test_stripped_headers_are_counted_and_nothing_of_ours_goes_up(gw: Served) -> None:
    got = await gw.call(
        "POST",
        "/v1/chat/completions",
        CHAT,
        x_headway_tenant="other",
        x_headway_answered="forged",
        x_headway_run="run-1",
        cookie="a=b",
        x_forwarded_for="1.2.3.4",
        te="trailers",
        proxy_authorization="Basic eA==",
    )
    assert got.status == 200
    assert gw.metrics.headers_stripped.value == 2
    sent = dict(gw.scripted.seen.records[-1].headers)
    assert set(sent) == {"host", "accept-encoding", "accept", "content-type", "content-length", "user-agent", "authorization"}
    assert sent["authorization"] == f"Bearer {PROVIDER_KEY}"
    assert gw.facts.call().run == "run-1"
    assert gw.facts.call().tenant == "acme"


async def test_no_header_of_an_upstream_passes_beyond_the_list(gw: Served) -> None:
    gw.script(
        headers={"set-cookie": "a=b", "x-internal": "1", "x-headway-tenant": "t", "openai-organization": "org", "cf-ray": "r"}
    )
    got = await gw.call("POST", "/v1/chat/completions", CHAT)
    names = {n for n, _ in got.headers}
    allowed = ("x-headway-call", "x-headway-answered", "x-headway-generation", "content-type", "content-length", "date", "cf-ray")
    rest = {
        n
        for n in names
        if n not in allowed and not n.startswith(("x-request-id", "openai-processing", "x-ratelimit", "openai-version"))
    }
    assert not rest
    assert got.header("cf-ray") == "r"


async def test_a_redirect_is_an_error_and_is_not_followed(gw: Served) -> None:
    for path, body in (("/v1/chat/completions", CHAT), ("/v1/embeddings", {"model": "vectors", "input": "x"})):
        gw.script(status=200, headers={"location": f"http://127.0.0.1:{gw.port}/metrics"})
        queued = gw.scripted.queue._waiting.pop()[0]
        gw.scripted.queue.add(msgspec.structs.replace(queued, status=307, body="{}"))
        got = await gw.call("POST", path, body)
        assert (got.status, got.header("location")) == (502, "")
        assert "redirect" in got.json()["error"]["message"]


# --- the caller goes


async def closed_after(gw: Served, record: Record) -> float:
    """Milliseconds from now until the upstream saw its connection close."""
    start = time.monotonic_ns()
    await until(lambda: record.ended)
    assert record.ended == "peer_closed"
    assert record.ended_ns is not None
    return (record.ended_ns - start) / 1e6


@pytest.mark.parametrize(
    ("path", "body", "script"),
    [
        ("/v1/chat/completions", CHAT | {"stream": True}, {"words": 500, "delay_ms": 20}),
        ("/v1/messages", MESSAGES | {"stream": True}, {"words": 500, "delay_ms": 20}),
        ("/v1/chat/completions", CHAT | {"stream": True}, {"silence_after": 2}),
        ("/v1/chat/completions", CHAT, {"head_delay_ms": 5_000}),
        ("/v1/responses", RESPONSES | {"stream": True}, {"head_delay_ms": 5_000}),
        ("/v1/embeddings", {"model": "vectors", "input": "x"}, {"head_delay_ms": 5_000}),
        ("/v1/chat/completions", CHAT | {"messages": [{"role": "user", "content": "x" * 300_000}]}, {"head_delay_ms": 5_000}),
    ],
    ids=["stream", "messages stream", "silent stream", "first byte", "first byte of a stream", "opaque", "large body"],
)
async def test_the_upstream_is_closed_within_100_ms_of_the_callers_going(gw: Served, path: str, body: dict, script: dict) -> None:
    gw.script(**script)
    async with Client(gw.port) as client:
        await client.send("POST", path, json.dumps(body).encode(), content_type="application/json")
        await until(lambda: gw.scripted.seen.records)
        record = gw.scripted.seen.records[-1]
        if "head_delay_ms" not in script:
            await client.head()
        else:
            await asyncio.sleep(0.02)
    assert await closed_after(gw, record) <= 100
    await until(lambda: gw.facts.calls())
    fact = gw.facts.call()
    assert fact.outcome == "client_gone"
    assert fact.usage_source in ("estimated", "unknown")


async def test_a_connection_that_ends_inside_its_body_is_no_call(gw: Served) -> None:
    async with Client(gw.port) as client:
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {MINTED.text}\r\ncontent-length: 100\r\n\r\n"
        )
        client.writer.write(head.encode() + b'{"model":')
        await client.writer.drain()
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.05)
    assert not gw.facts.calls()
    assert not gw.scripted.seen.requests


async def test_a_caller_who_went_before_anybody_watched_costs_nothing(gw: Served) -> None:
    """On a server that only tells by ``receive``."""
    said = [{"type": "http.request", "body": json.dumps(CHAT).encode(), "more_body": False}, {"type": "http.disconnect"}]

    async def receive() -> dict:
        return said.pop(0) if said else {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        await asyncio.sleep(0)

    gw.script(head_delay_ms=5_000)
    headers = [(b"authorization", b"Bearer " + MINTED.text.encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers, "client": ("127.0.0.1", 1)}
    async with asyncio.timeout(1):
        await gw.app(scope, receive, send)  # type: ignore[arg-type]
    assert gw.facts.call().outcome == "client_gone"


# --- HTTP/1.0


async def test_an_old_client_gets_a_whole_answer_and_a_close(gw: Served) -> None:
    plain = await gw.call("POST", "/v1/chat/completions", CHAT, version="1.0")
    assert (plain.status, plain.header("transfer-encoding")) == (200, "")
    assert plain.json()["choices"]
    stream = await gw.call("POST", "/v1/chat/completions", CHAT | {"stream": True}, version="1.0")
    assert stream.header("transfer-encoding") == ""
    assert stream.body.endswith(b"data: [DONE]\n\n")


# --- secrets


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/embeddings"])
async def test_no_key_is_ever_told_logged_counted_or_kept(gw: Served, path: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bodies = {"/v1/chat/completions": CHAT, "/v1/messages": MESSAGES, "/v1/embeddings": {"model": "vectors", "input": "x"}}
    wrong = mint(1_700_000_000_000).text
    told = f"Incorrect API key provided: {PROVIDER_KEY}."
    answers = [await gw.call("POST", path, bodies[path]), await gw.call("POST", path, bodies[path], key=wrong)]
    for content_type in ("application/json", "text/plain"):
        gw.script(status=401, message=told, content_type=content_type)
        answers.append(await gw.call("POST", path, bodies[path]))
    crossed = {"/v1/chat/completions": CHAT | {"model": "deep"}, "/v1/messages": MESSAGES | {"model": "chat"}}
    if path in crossed:
        gw.script(status=401, message=told)
        answers.append(await gw.call("POST", path, crossed[path]))
    gw.script(drop_request=True)
    answers.append(await gw.call("POST", path, bodies[path]))
    metrics = await gw.call("GET", "/metrics")
    shown = b"".join(a.body + repr(a.headers).encode() for a in (*answers, metrics))
    kept = msgspec.json.encode(gw.facts.rows)
    for secret in (PROVIDER_KEY, MINTED.text, wrong, MINTED.text.rpartition("_")[2], wrong.rpartition("_")[2]):
        assert secret.encode() not in shown
        assert secret.encode() not in kept
        assert secret not in caplog.text
    assert [a.status for a in answers].count(401) >= 3


async def test_a_missing_secret_is_a_503_that_names_its_reference_and_goes_on_to_the_next_target(gw: Served) -> None:
    base = configured(gw.upstream_port)
    one = msgspec.structs.replace(base.providers["one"], key="env:NOT_SET")
    features = base.features | {"chat": msgspec.structs.replace(base.features["chat"], targets=("one/m1", "claude/opus"))}
    gw.install(msgspec.structs.replace(base, providers=base.providers | {"one": one}, features=features))
    got = await gw.call("POST", "/v1/chat/completions", CHAT)
    assert (got.status, got.header("x-headway-answered")) == (200, "claude/opus")
    alone = await gw.call("POST", "/v1/chat/completions", CHAT | {"model": "one/m1"}, key=OTHER.text)
    assert alone.status == 503
    assert "env:NOT_SET" in alone.json()["error"]["message"]


async def test_calls_past_the_configured_bound_are_told_to_come_again(gw: Served) -> None:
    base = configured(gw.upstream_port)
    limits = msgspec.structs.replace(base.gateway.limits, calls_in_flight_max=2)
    gw.install(msgspec.structs.replace(base, gateway=msgspec.structs.replace(base.gateway, limits=limits)))
    gw.script(head_delay_ms=300, times=10)
    answers = await asyncio.gather(*(gw.call("POST", "/v1/chat/completions", CHAT) for _ in range(5)))
    assert sorted(a.status for a in answers) == [200, 200, 503, 503, 503]


async def test_feedback_that_is_no_text_is_refused_in_words(gw: Served) -> None:
    got = await gw.call("POST", "/v1/headway/feedback", b'{"\xb0":1}')
    assert got.status == 400
    assert b"feedback is" in got.body
