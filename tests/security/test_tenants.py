"""Two tenants through the whole product: what one asks of the other's, on every route of both planes.

The routes of control are walked from its own list, so that a new one is asked too.
"""

import asyncio
import io
import json
from typing import Any

import pyarrow.parquet as parquet
import pytest
from stage import Line, Stage, opaque_routes

from headway.prove.forms import CHAT, DIALECTS, MESSAGES, PATHS, body_of, headers_of
from headway.prove.rawhttp import RawAnswer, request, until

MODELS = {"acme": "harbour-chat", "globex": "harbour-messages"}
"""One feature that each may call; ``TENANT-secret`` is another."""


class Two:
    """A key, a call and its id for each tenant."""

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}
        self.calls: dict[str, str] = {}


@pytest.fixture(scope="module")
def two(stage: Stage) -> Two:
    made = Two()

    async def story() -> None:
        for tenant, model in MODELS.items():
            made.keys[tenant] = await stage.product.new_key(tenant, f"key-of-{tenant}")
            fields = headers_of(
                CHAT, made.keys[tenant], ("x-headway-run", f"run-of-{tenant}"), ("x-headway-prompt", f"prompt-of-{tenant}")
            )
            answer = await request(stage.product.url, "POST", PATHS[CHAT], fields, body_of(CHAT, model, f"words of {tenant}"))
            assert answer.status == 200
            made.calls[tenant] = answer.header("x-headway-call") or ""

        async def both() -> bool:
            page = await stage.product.api_json("/calls?limit=400")
            found: Any = page["calls"]
            return set(made.calls.values()) <= {call["call"] for call in found}

        await until("both calls are known", both, within_s=20)

    asyncio.run(story())
    return made


async def of_control(
    stage: Stage, key: str, method: str, path: str, body: object = None, accept: str = "application/json"
) -> RawAnswer:
    fields = [("authorization", f"Bearer {key}"), ("accept", accept), ("content-type", "application/json")]
    return await request(stage.product.control_url, method, path, fields, b"" if body is None else json.dumps(body).encode())


def of_other(text: str, other: str, two: Two, *, owed: str = "") -> list[str]:
    """What of another tenant stands in a text, but for what the question itself said (``owed``)."""
    words = (
        f"{other}-secret",
        f"key-of-{other}",
        f"run-of-{other}",
        f"prompt-of-{other}",
        f"words of {other}",
        f'"{other}"',
        f">{other}<",
    )
    id_of_key = two.keys[other].split("_")[1]
    return [word for word in (*words, two.calls[other], id_of_key) if word in text and word not in owed]


def _text_of(body: bytes) -> str:
    """What an answer says, rows of Parquet in words."""
    if body.startswith(b"PAR1"):
        return str(parquet.read_table(io.BytesIO(body)).to_pylist())
    return body.decode()


@pytest.mark.parametrize(("me", "other"), [("acme", "globex"), ("globex", "acme")])
async def test_each_route_of_control_asked_by_one_tenant_for_anothers(stage: Stage, two: Two, me: str, other: str) -> None:
    """Every GET of control, with every parameter that narrows it to the other one."""
    document: Any = (await of_control(stage, two.keys[me], "GET", "/api/v1/openapi.json")).json()
    pages = ["/", "/calls", "/calls/{call}", "/settings", "/login"]
    paths = [path for path, methods in document["paths"].items() if "get" in methods and not path.endswith("stream")] + pages
    assert len(paths) > 15
    narrowed = (
        "",
        f"?tenant={other}",
        f"?feature={other}-secret",
        f"?key=key_{two.keys[other].split('_')[1]}",
        "?origin=any",
        "?range=1h",
        "?model=harbour",
    )
    for path in paths:
        asked = path.replace("{call}", two.calls[other])
        for query in narrowed:
            for accept in ("application/json", "text/html"):
                target = f"{asked}{query}" if not path.endswith("/prices") else f"{asked}?model={other}-secret"
                answer = await of_control(stage, two.keys[me], "GET", target, accept=accept)
                assert answer.status < 500, target
                found = of_other(_text_of(answer.body), other, two, owed=target)
                if answer.status == 200 or query == "":
                    assert found == [], f"{target} as {accept} ({answer.status})"


@pytest.mark.parametrize(("me", "other"), [("acme", "globex"), ("globex", "acme")])
async def test_another_tenants_call_does_not_exist(stage: Stage, two: Two, me: str, other: str) -> None:
    mine = await of_control(stage, two.keys[me], "GET", f"/api/v1/calls/{two.calls[me]}")
    theirs = await of_control(stage, two.keys[me], "GET", f"/api/v1/calls/{two.calls[other]}")
    nobodys = await of_control(stage, two.keys[me], "GET", f"/api/v1/calls/{two.calls[other][:-4]}0000")
    assert mine.status == 200
    assert theirs.status == nobodys.status == 404
    assert len(theirs.body) == len(nobodys.body)


@pytest.mark.parametrize("role", ["viewer", "operator", "owner"])
async def test_a_key_of_one_tenant_changes_nothing_of_another(stage: Stage, two: Two, role: str) -> None:
    """Whatever its role: not its keys, not its people, not the configuration."""
    made: Any = (await stage.product.api("POST", "/keys", {"tenant": "acme", "name": f"acme-{role}", "role": role})).json()
    key = made["secret"]
    theirs = f"key_{two.keys['globex'].split('_')[1]}"
    for method, path, body, statuses in (
        ("POST", "/keys", {"tenant": "globex"}, (403,)),
        ("POST", "/keys", {"tenant": ""}, (400, 403)),
        (
            "POST",
            "/keys",
            {"tenant": "acme", "role": "owner"} if role != "owner" else {"tenant": "globex", "role": "owner"},
            (403,),
        ),
        ("DELETE", f"/keys/{theirs}", None, (403, 404)),
        ("POST", "/users", {"name": "eve", "password": "a-long-password-1", "role": "owner"}, (403,)),
        ("DELETE", "/principals/usr_1", None, (403,)),
        ("POST", "/login-links", None, (403,)),
        ("POST", "/generation/reload", None, (403,)),
        ("GET", "/audit", None, (403,)),
        ("GET", "/principals", None, (403,)),
        ("GET", "/generation", None, (403,)),
        ("GET", "/gateways", None, (403,)),
    ):
        answer = await of_control(stage, key, method, f"/api/v1{path}", body)
        assert answer.status in statuses, (method, path, answer.status, answer.body)
    assert await stage.product.lets_in(two.keys["globex"])


async def test_feedback_of_another_tenant_counts_for_nothing(stage: Stage, two: Two) -> None:
    """It is taken, since whether a call exists is nobody else's business, and shown to nobody but its sender's side."""
    note = {"call": two.calls["acme"], "kind": "undone", "note": "feedback of globex"}
    taken = await request(
        stage.product.url, "POST", "/v1/headway/feedback", headers_of(CHAT, two.keys["globex"]), json.dumps(note).encode()
    )
    own = {"call": two.calls["acme"], "kind": "accepted", "note": "feedback of acme"}
    await request(stage.product.url, "POST", "/v1/headway/feedback", headers_of(CHAT, two.keys["acme"]), json.dumps(own).encode())
    assert taken.status == 202

    async def told() -> bool:
        return b"feedback of acme" in (await of_control(stage, two.keys["acme"], "GET", f"/api/v1/calls/{two.calls['acme']}")).body

    await until("the own feedback is stored", told, within_s=20)
    for key in (two.keys["acme"], stage.product.token()):
        for path in ("/api/v1/calls/", "/calls/"):
            assert b"feedback of globex" not in (await of_control(stage, key, "GET", path + two.calls["acme"])).body


@pytest.mark.parametrize(("me", "other"), [("acme", "globex"), ("globex", "acme")])
async def test_models_of_another_tenant_are_neither_listed_nor_called_nor_near(
    stage: Stage, line: Line, two: Two, me: str, other: str
) -> None:
    await stage.upstream.forget()
    key = two.keys[me]
    for fields in (headers_of(CHAT, key), headers_of(MESSAGES, key)):
        listed = await line.send("GET", "/v1/models", fields)
        assert listed is not None
        assert f"{other}-secret" not in listed.body.decode()
        assert f"{me}-secret" in listed.body.decode()
    one = await line.send("GET", f"/v1/models/{other}-secret", headers_of(CHAT, key))
    assert one is not None
    assert one.status == 404
    for dialect in DIALECTS:
        for model in (f"{other}-secret", "chat/harbour-chat", MODELS[other], "filing/harbour-filed"):
            answer = await line.send("POST", PATHS[dialect], headers_of(dialect, key), body_of(dialect, model, "hi"))
            assert answer is not None
            assert answer.status == 403, (model, answer.status)
        near = await line.send("POST", PATHS[dialect], headers_of(dialect, key), body_of(dialect, f"{other}-secre", "hi"))
        assert near is not None
        assert near.status == 404
        assert f"{other}-secret" not in near.body.decode()
    for method, path in opaque_routes():
        body = json.dumps({"model": f"{other}-secret", "input": "hi", "messages": []}).encode() if method == "POST" else b""
        answer = await line.send(method, path, headers_of(CHAT, key), body)
        assert answer is not None
        assert answer.status == 403, (path, answer.status)
    assert await stage.seen() == []


async def test_files_are_for_the_tenant_that_a_provider_is_set_aside_for(stage: Stage, line: Line, two: Two) -> None:
    await stage.upstream.forget()
    for method, path in (route for route in opaque_routes() if "/files" in route[1]):
        for key, status in ((two.keys["acme"], 403), (stage.key, 200)):
            answer = await line.send(method, path, headers_of(CHAT, key), b"{}" if method == "POST" else b"")
            assert answer is not None
            assert answer.status == status, (method, path)
    assert all(record["target"].startswith("/v1/files") for record in await stage.seen())


async def test_a_header_names_no_other_tenant_to_be_charged(stage: Stage, two: Two) -> None:
    """A parent call of another tenant is a word in a row of the caller's own."""
    more = [("x-headway-parent", two.calls["globex"]), ("x-headway-tenant", "globex"), ("x-headway-charge-to", "globex")]
    answer = await request(
        stage.product.url, "POST", PATHS[CHAT], headers_of(CHAT, two.keys["acme"], *more), body_of(CHAT, MODELS["acme"], "hi")
    )
    assert answer.status == 200
    call = answer.header("x-headway-call") or ""

    async def known() -> bool:
        return (await stage.product.api("GET", f"/calls/{call}")).status == 200

    await until("the call is known", known, within_s=20)
    fact: Any = (await stage.product.api("GET", f"/calls/{call}")).json()
    fact = fact["stored"]["fact"]
    assert (fact["tenant"], fact["charged_to"]) == ("acme", "acme")
    theirs = await of_control(stage, two.keys["globex"], "GET", f"/api/v1/calls/{two.calls['globex']}")
    assert call not in theirs.body.decode()


async def test_the_live_stream_is_of_one_tenant(stage: Stage, two: Two) -> None:
    host, port = "127.0.0.1", stage.product.control_port
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(
        f"GET /api/v1/calls/stream HTTP/1.1\r\nhost: {host}:{port}\r\nauthorization: Bearer {two.keys['acme']}\r\n\r\n".encode()
    )
    await asyncio.sleep(0.3)
    for tenant in ("globex", "acme"):
        fields = headers_of(CHAT, two.keys[tenant], ("x-headway-run", f"live-of-{tenant}"))
        assert (await request(stage.product.url, "POST", PATHS[CHAT], fields, body_of(CHAT, MODELS[tenant], "hi"))).status == 200
    seen = b""
    async with asyncio.timeout(10):
        while b"live-of-acme" not in seen:
            piece = await reader.read(65536)
            assert piece
            seen += piece
    writer.close()
    assert b"globex" not in seen
