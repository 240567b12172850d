"""Canaries in every place that holds a secret, calls of every kind and their failures, and then a look into everything that comes out.

Provider keys (from the environment, from a file, in a fixed header), a caller's key, the token of the link, a password, a one-time link, a
session, and the words of a prompt that nobody asked to keep: none is in an answer that does not owe it, a log, a fact, a store, a page.
"""

import asyncio
import json
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from stage import Line, Stage, opaque_routes

from headway.prove.forms import CHAT, DIALECTS, MESSAGES, PATHS, body_of, headers_of
from headway.prove.product import command, free_port
from headway.prove.rawhttp import RawAnswer, request, until
from headway.prove.world import MODEL_BY_DIALECT

ENV_KEY = "Canary/env+0123456789=plain"
"""Without a form that a pattern could know; with characters that JSON and forms may escape."""
FILE_KEY = "Canary-file-9876543210"
HEADER_KEY = "Canary-header-5555566666"
LINK_TOKEN = "Canary-link-7777788888-7777788888"
PASSWORD = "Canary-password-31415926"
PROMPT = "Canary prompt of nobody else"
OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl is needed for the certificate of the link")
PROVIDER_KEYS = (ENV_KEY, FILE_KEY, HEADER_KEY)
MORE = """
[providers.filed]
preset = "openai"
base_url = "{url}/v1"
key = "file:%(folder)s/provider.key"
models = ["harbour-file"]
retries_max = 0
headers = { x-extra-token = "env:CANARY_HEADER" }

[features.kept]
targets = ["chat/harbour-chat"]
record = { text = true }

[gateway]
control = "tls://127.0.0.1:%(port)d"
link_token = "env:CANARY_LINK"
link_ca = "%(folder)s/server.pem"

[control]
link_listen = "tls://127.0.0.1:%(port)d"
link_token = "env:CANARY_LINK"
link_certificate = "%(folder)s/server.pem"
link_key = "%(folder)s/server.key"
"""


class Gathered:
    """What came out, by where it came from. ``secret`` are the canaries that belong nowhere."""

    def __init__(self) -> None:
        self.texts: dict[str, bytes] = {}
        self.answers: list[tuple[str, bytes]] = []
        self.secret: dict[str, str] = {}


def echo(key: str) -> list[dict[str, Any]]:
    """How an upstream may repeat a key in its failure."""
    said = f"Incorrect API key provided: {key}. Authorization: Bearer {key}"
    return [
        {"status": 401, "message": said},
        {"status": 403, "message": said, "kind": "permission_error", "headers": {"x-request-id": f"req-{key}", "openai-note": key}},
        {"status": 400, "message": said, "kind": key},
        {"status": 500, "message": said, "content_type": "text/plain"},
        {"status": 529, "message": said, "retry_after_ms": 1},
        {"status": 302, "body": "{}", "headers": {"location": f"/?key={key}"}},
        {"error_at": 0, "message": said},
        {"error_at": 2, "message": said, "kind": key},
        {"status": 200, "body": f"<html>{said}</html>", "content_type": "text/html", "headers": {"x-request-id": key}},
        {"drop_request": True},
        {"cut_bytes": 40},
        {"garbage_bytes": 300},
    ]


async def calls(stage: Stage, line: Line, out: Gathered) -> None:
    """Calls of every kind, good and failing, each with the prompt that must not be kept."""

    def note(what: str, answer: RawAnswer | None) -> None:
        if answer is not None:
            head = "\n".join(f"{name}: {value}" for name, value in answer.headers)
            out.answers.append((what, head.encode("latin-1") + b"\n\n" + answer.body))

    async def post(what: str, path: str, fields: Any, body: bytes, script: dict[str, Any] | None) -> None:
        if script is not None:
            await stage.upstream.script(script)
        note(what, await line.send("POST", path, fields, body))
        await stage.upstream.forget()

    for dialect in DIALECTS:
        for model, key in [
            *((m, ENV_KEY) for m in MODEL_BY_DIALECT.values()),
            ("filed/harbour-file", FILE_KEY),
            ("filed/harbour-file", HEADER_KEY),
        ]:
            for stream in (False, True):
                body = body_of(dialect, model, PROMPT, stream=stream)
                for script in (None, *echo(key)):
                    await post(f"{dialect} to {model} {script}", PATHS[dialect], headers_of(dialect, stage.key), body, script)
    for method, path in opaque_routes():
        dialect = MESSAGES if "messages" in path else CHAT
        model = MODEL_BY_DIALECT[dialect]
        body = json.dumps(
            {"model": model, "input": PROMPT, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 4}
        ).encode()
        for script in echo(ENV_KEY):
            await stage.upstream.script(script)
            note(
                f"{method} {path} {script}",
                await line.send(method, path, headers_of(dialect, stage.key), body if method == "POST" else b""),
            )
            await stage.upstream.forget()


async def mistakes(stage: Stage, line: Line, out: Gathered) -> None:
    """What callers do wrong with their own key and prompt: nothing of it may stay anywhere."""
    wrong = stage.key[:-4] + "oops"
    out.secret["a wrong key"] = wrong.rpartition("_")[2]
    good = body_of(CHAT, MODEL_BY_DIALECT[CHAT], PROMPT)
    for fields in (headers_of(CHAT, wrong), [("x-api-key", wrong)], [("authorization", f"Basic {stage.key}")], []):
        await line.send("POST", PATHS[CHAT], fields, good)
    for target in (f"/v1/models?key={stage.key}", f"/v1/{stage.key}", f"/{wrong}/chat/completions", f"/v1/files/{stage.key}"):
        await line.send("GET", target, headers_of(CHAT, stage.key))
    for body in (
        good[:-9],
        b'{"model":"nobody","messages":"' + PROMPT.encode() + b'"}',
        PROMPT.encode(),
        good.replace(b'"user"', b'"Canary prompt of role"'),
    ):
        for dialect in DIALECTS:
            await line.send("POST", PATHS[dialect], headers_of(dialect, stage.key), body)


async def people(stage: Stage, out: Gathered) -> None:
    """Somebody signs in, with a password and by a one-time link."""
    product = stage.product
    made = await product.api("POST", "/users", {"name": "ada", "password": PASSWORD, "role": "operator"})
    assert made.status == 201
    form = [("content-type", "application/x-www-form-urlencoded"), ("origin", product.control_url)]
    signed = await request(product.control_url, "POST", "/login", form, f"name=ada&password={PASSWORD}".encode())
    cookie = signed.header("set-cookie")
    assert cookie is not None
    out.secret["a session"] = cookie.partition("=")[2].partition(";")[0]
    wrong = await request(product.control_url, "POST", "/login", form, f"name={PASSWORD}&password={PASSWORD}x".encode())
    assert wrong.status == 401
    link: Any = (await product.api("POST", "/login-links")).json()
    out.secret["a one-time link"] = link["path"].partition("token=")[2]
    assert (await request(product.control_url, "GET", link["path"])).status == 200
    await request(product.control_url, "GET", link["path"])


async def look(stage: Stage, out: Gathered) -> None:
    """Everything that control and the gateway tell of themselves, while they run."""
    product = stage.product
    owner = [("authorization", f"Bearer {product.token()}")]
    page: Any = await product.api_json("/calls?limit=400&origin=any")
    ids = [call["call"] for call in page["calls"]]
    assert len(ids) > 300
    paths = [
        "/",
        "/calls",
        "/settings",
        "/metrics",
        "/health/ready",
        "/api/v1/keys",
        "/api/v1/principals",
        "/api/v1/audit",
        "/api/v1/generation",
    ]
    paths += ["/api/v1/budgets", "/api/v1/gateways", "/api/v1/tenants", "/api/v1/me", "/api/v1/calls?limit=400&origin=any"]
    paths += [f"{where}/{call}" for call in ids[::6] for where in ("/calls", "/api/v1/calls")]
    for path in paths:
        for accept in ("text/html", "application/json"):
            answer = await request(product.control_url, "GET", path, [*owner, ("accept", accept)])
            assert answer.status == 200, (path, answer.status)
            out.texts[f"GET {path} as {accept}"] = answer.body
    for path in ("/metrics", "/health/ready", "/v1/models"):
        out.texts[f"gateway {path}"] = (await request(product.url, "GET", path, headers_of(CHAT, stage.key))).body
    for words in (
        ("check",),
        ("config", "show"),
        ("keys", "list"),
        ("calls", "list"),
        ("calls", "show", ids[0]),
        ("users", "list"),
        (),
    ):
        done = subprocess.run(
            command(*words), cwd=stage.folder, env=product.control.env, capture_output=True, check=False, timeout=60
        )
        out.texts[f"headway {' '.join(words)}"] = done.stdout + done.stderr


def look_into_files(stage: Stage, out: Gathered) -> None:
    """Every file left: raw, and Parquet and SQLite also read out. What holds a secret by its purpose is named here."""
    purpose = {"control.token", "provider.key", "server.key", "server.pem"}
    kinds = set()
    for path in (p for p in stage.folder.rglob("*") if p.is_file() and p.name not in purpose):
        where = str(path.relative_to(stage.folder))
        out.texts[where] = path.read_bytes()
        kinds.add(path.suffix)
        if path.suffix == ".parquet":
            out.texts[f"{where} read"] = repr(pq.read_table(path).to_pylist()).encode()
        elif path.suffix == ".db":
            store = sqlite3.connect(path)
            out.texts[f"{where} read"] = "\n".join(store.iterdump()).encode()
            store.close()
    assert {".parquet", ".db", ".msgpack", ".out"} <= kinds


def certificate(folder: Path) -> None:
    """For 127.0.0.1, signed by itself."""
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=control"]
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "server.key"), "-out", str(folder / "server.pem")]
    subprocess.run([str(OPENSSL), *words, *files], check=True, capture_output=True)
    (folder / "server.key").chmod(0o600)


@pytest.fixture(scope="module")
def gathered(tmp_path_factory: pytest.TempPathFactory) -> Gathered:
    folder = tmp_path_factory.mktemp("secrets")
    certificate(folder)
    (folder / "provider.key").write_text(FILE_KEY + "\n")
    env = {"HEADWAY_UPSTREAM_KEY": ENV_KEY, "CANARY_HEADER": HEADER_KEY, "CANARY_LINK": LINK_TOKEN}
    stage = Stage(folder, more=MORE % {"folder": folder, "port": free_port()}, env=env)
    out = Gathered()
    try:
        stage.start()
        asyncio.run(_story(stage, out))
        stage.product.gateway.stop()
        stage.product.control.stop()
        look_into_files(stage, out)
    finally:
        stage.stop()
    return out


async def _story(stage: Stage, out: Gathered) -> None:
    line = Line(stage.product.url)
    out.secret["a caller's key"] = stage.key.rpartition("_")[2]
    await people(stage, out)
    await mistakes(stage, line, out)
    await calls(stage, line, out)
    line.close()

    async def stored() -> bool:
        return any((stage.product.state / "facts").rglob("*.parquet"))

    await until("facts are stored", stored, within_s=30)
    await asyncio.sleep(1.5)
    await look(stage, out)


def spellings(secret: str) -> set[bytes]:
    """As it stands, and as JSON, HTML or a form would write it."""
    escaped = {
        json.dumps(secret)[1:-1],
        secret.replace("/", "\\/"),
        secret.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
    }
    return {text.encode() for text in {secret, secret.replace("+", "&#43;"), *escaped}}


def where_found(texts: Iterator[tuple[str, bytes]], secret: str) -> list[str]:
    found = []
    for where, text in texts:
        for spelling in spellings(secret):
            at = text.find(spelling)
            if at >= 0:
                found.append(f"{where}: ...{text[max(0, at - 80) : at + 60]!r}")
    return found


@pytest.mark.parametrize("secret", [*PROVIDER_KEYS, LINK_TOKEN, PASSWORD, PROMPT, "Canary prompt of role"])
def test_a_secret_is_in_nothing_that_is_kept_or_shown(gathered: Gathered, secret: str) -> None:
    assert where_found(iter(gathered.texts.items()), secret) == []


@pytest.mark.parametrize("name", ["a caller's key", "a wrong key", "a session", "a one-time link"])
def test_a_credential_of_a_caller_is_in_nothing_that_is_kept_or_shown(gathered: Gathered, name: str) -> None:
    assert where_found(iter(gathered.texts.items()), gathered.secret[name]) == []


@pytest.mark.parametrize("secret", [*PROVIDER_KEYS, LINK_TOKEN])
def test_no_answer_repeats_a_providers_key(gathered: Gathered, secret: str) -> None:
    """Not even where the upstream did."""
    assert len(gathered.answers) > 400
    assert where_found(iter(gathered.answers), secret) == []


def test_what_was_looked_through_is_what_there_is(gathered: Gathered) -> None:
    names = " ".join(gathered.texts)
    for part in (
        "control",
        "gateway",
        "facts/",
        "ledger.db",
        "gateway-snapshot.msgpack",
        "GET /settings",
        "headway check",
        "gateway /metrics",
    ):
        assert part in names, part
    key = gathered.texts["GET /api/v1/keys as application/json"]
    assert b'"key_' in key  # ids may be seen
