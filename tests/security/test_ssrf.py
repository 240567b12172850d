"""No value of a caller decides where a request goes: every route with every payload, a trap that must stay empty, and what the upstream saw.

Routes come from the router, so that a new one is covered by itself; payloads go wherever a value can go.
"""

import asyncio
import json
import re
from typing import Any
from urllib.parse import quote

import pytest
from stage import Line, Stage, Trap, opaque_routes, routes

from headway.prove.product import UPSTREAM_KEY

CANARY = "trapped"
UPSTREAM_PATHS = re.compile(
    r"/v1/(chat/completions|responses|messages(/count_tokens)?|embeddings|completions|moderations|files(/[A-Za-z0-9_-]{1,100}(/content)?)?"
    r"|images/(generations|edits|variations)|audio/(speech|transcriptions|translations))"
    r"|/openai/deployments/([A-Za-z0-9._~-]|%[0-9A-F]{2})+/[a-z/]+\?api-version=2026-01-01"
)
UPSTREAM_HEADERS = {
    "accept": r"application/json|text/event-stream|\*/\*",
    "accept-encoding": r"identity",
    "user-agent": r"headway",
    "content-type": r"[A-Za-z0-9/+.; =_-]+",
    "content-length": r"[0-9]+",
    "authorization": rf"Bearer {UPSTREAM_KEY}",
    "x-api-key": UPSTREAM_KEY,
    "api-key": UPSTREAM_KEY,
    "anthropic-version": r"2023-06-01",
    "host": r"",
    "connection": r"keep-alive",
}
VARIED_HEADERS = (
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-for",
    "forwarded",
    "x-original-url",
    "x-rewrite-url",
    "x-real-ip",
    "x-http-method-override",
    "x-headway-base-url",
    "x-headway-provider",
    "x-headway-run",
    "x-portkey-custom-host",
    "anthropic-beta",
    "anthropic-version",
    "openai-beta",
    "openai-organization",
    "openai-project",
    "referer",
    "origin",
    "content-type",
    "via",
    "te",
)
CALLED = {path for method, path in routes() if method == "POST"} - {"/v1/headway/feedback"}
FIELDS = ("base_url", "api_base", "url", "host", "provider", "endpoint", "proxy", "service_tier", "user")


def payloads(trap: str) -> list[str]:
    """Values as they may stand in JSON and, quoted where need be, in a path. Each holds the canary."""
    return [
        f"#@{trap}/{CANARY}",
        f"@{trap}/{CANARY}",
        f"x@{trap}#{CANARY}",
        f"../../{CANARY}",
        f"..\\..\\{CANARY}",
        f"..%2f..%2f{CANARY}",
        f"%2e%2e/{CANARY}",
        f"%00{CANARY}",
        f"%0d%0ahost:%20{trap}%0d%0ax:%20{CANARY}",
        f"x\r\nhost: {trap}\r\nx-{CANARY}: 1",
        f"x\x00{CANARY}",
        f"?base_url=http://{trap}/{CANARY}",
        f"http://{trap}/{CANARY}",
        f"https://{trap}/{CANARY}",
        f"//{trap}/{CANARY}",
        f"/\\{trap}/{CANARY}",
        f"http://trap/{CANARY}",
        f"http://169.254.169.254/latest/meta-data/{CANARY}",
        f"http://[::1]:{trap.rpartition(':')[2]}/{CANARY}",
        f"http://2130706433:{trap.rpartition(':')[2]}/{CANARY}",
        f"http://10.0.0.1/{CANARY}",
        f"unix:/tmp/{CANARY}",
        f"file:///etc/{CANARY}",
        f"{CANARY}\u2025\uff0f\u2025",
    ]


def on_the_wire(value: str) -> str:
    """The value as it can stand on a request line or in a header: bytes of UTF-8, seen as latin-1."""
    return value.encode().decode("latin-1")


def headers(stage: Stage, *more: tuple[str, str]) -> list[tuple[str, str]]:
    own = [("authorization", f"Bearer {stage.key}")]
    return [*own, *([] if any(name == "content-type" for name, _ in more) else [("content-type", "application/json")]), *more]


def model_for(path: str) -> str:
    if path.startswith("/v1/messages"):
        return "harbour-messages"
    return "harbour-responses" if path == "/v1/responses" else "harbour-chat"


def good_body(path: str, **more: Any) -> bytes:
    """A body that passes at ``path``."""
    value: dict[str, Any] = {
        "model": model_for(path),
        "max_tokens": 5,
        "messages": [{"role": "user", "content": "hi"}],
        "input": "hi",
    }
    if path == "/v1/responses":
        del value["messages"], value["max_tokens"]
    return json.dumps(value | more).encode()


def form(model: str, name: str = "speech.wav") -> tuple[bytes, str]:
    """A multipart body and its content-type."""
    parts = [f'--frontier\r\ncontent-disposition: form-data; name="model"\r\n\r\n{model}\r\n']
    parts.append(f'--frontier\r\ncontent-disposition: form-data; name="file"; filename="{name}"\r\n\r\nRIFF\r\n--frontier--\r\n')
    return "".join(parts).encode(), "multipart/form-data; boundary=frontier"


async def attack(stage: Stage, line: Line, method: str, path: str, payload: str) -> None:
    """One payload in every place that a request to one route has."""
    raw, body = on_the_wire(payload), good_body(path) if method == "POST" else b""
    escaped = quote(payload, safe="")
    for target in (
        f"{path}/{raw}",
        f"{path}{raw}",
        f"{path}/{escaped}",
        f"{path}?model={escaped}&base_url={escaped}",
        f"{path}?{raw}",
    ):
        if not set(target) & set(" \r\n\x00"):
            await line.send(method, target, headers(stage), body)
    for name in VARIED_HEADERS if "\r" not in payload else VARIED_HEADERS[:1]:
        await line.send(method, path, headers(stage, (name, raw)), body)
    if method == "POST":
        for model in (payload, f"chat/{payload}", f"azure/x{payload}"):
            await line.send(method, path, headers(stage), good_body(path, model=model))
        await line.send(method, path, headers(stage), good_body(path, **dict.fromkeys(FIELDS, payload)))
        sent, kind = form(f"chat/{payload}", payload)
        await line.send(method, path, headers(stage, ("content-type", kind)), sent)


def check_seen(stage: Stage, records: list[dict[str, Any]]) -> None:
    """Only configured addresses, only values that match in full."""
    here = stage.upstream.url.removeprefix("http://")
    for record in records:
        assert UPSTREAM_PATHS.fullmatch(record["target"]), record["target"]
        for name, value in record["headers"]:
            pattern = re.escape(here) if name == "host" else UPSTREAM_HEADERS.get(name)
            assert pattern is not None, f"{name}: {value} reached the upstream"
            assert re.fullmatch(pattern, value), f"{name}: {value} reached the upstream"


@pytest.mark.parametrize(("method", "path"), routes(), ids=lambda value: value)
async def test_no_value_of_a_caller_says_where_a_request_goes(stage: Stage, line: Line, method: str, path: str) -> None:
    await stage.upstream.forget()
    with Trap() as trap:
        for payload in payloads(trap.authority):
            await attack(stage, line, method, path, payload)
        assert trap.caught == []
    seen = await stage.seen()
    assert seen or path not in CALLED  # else nothing was tested
    check_seen(stage, seen)
    assert await stage.product.lets_in(stage.key)  # it stands


async def test_forms_of_the_target_that_name_a_host(stage: Stage, line: Line) -> None:
    await stage.upstream.forget()
    with Trap() as trap:
        body = good_body("/v1/chat/completions")
        for target in (
            f"http://{trap.authority}/v1/chat/completions",
            f"//{trap.authority}/v1/chat/completions",
            f"{trap.authority}",
            "*",
        ):
            for method in ("POST", "GET", "CONNECT", "OPTIONS"):
                await line.send(method, target, headers(stage), body if method == "POST" else b"")
        for host in (trap.authority, f"trap\t{trap.authority}", f"{trap.authority}@x", ""):
            await asyncio.wait_for(raw_host(stage, host, body), 20)
        assert trap.caught == []
    check_seen(stage, await stage.seen())


async def raw_host(stage: Stage, host: str, body: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.product.gateway_port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {stage.key}\r\nconnection: close\r\n"
    writer.write(head.encode() + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    await reader.read()
    writer.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_and_not_passed_on(stage: Stage, line: Line, status: int) -> None:
    with Trap() as trap:
        for method, path in [("POST", p) for p in ("/v1/chat/completions", "/v1/responses", "/v1/messages")] + opaque_routes():
            script = {"status": status, "body": "{}", "headers": {"location": f"http://{trap.authority}/{CANARY}"}}
            await stage.upstream.script(script)
            answer = await line.send(method, path, headers(stage), good_body(path) if method == "POST" else b"")
            assert answer is not None
            assert answer.header("location") is None, path
            assert answer.status == 502, path
            assert CANARY not in answer.body.decode(), path
            await stage.upstream.forget()
        assert trap.caught == []


async def test_an_identifier_of_a_file_is_one_segment(stage: Stage, line: Line) -> None:
    """Files pass for the tenant that they are set aside for, and no other path of the provider is within reach of their ids."""
    await stage.upstream.forget()
    good = await line.send("GET", "/v1/files/file-abc_1", headers(stage))
    assert good is not None
    assert good.status == 200
    for id in ("..", ".", "a/../../models", "a%2f..%2fb", "a;x", "a.b", "", "%2e%2e", "a" * 101, "é"):
        answer = await line.send("GET", f"/v1/files/{on_the_wire(id)}/content", headers(stage))
        assert answer is not None
        assert answer.status in (400, 404), id
    assert [record["target"] for record in await stage.seen()] == ["/v1/files/file-abc_1"]
