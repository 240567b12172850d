"""What stands before every route: host names, origins, headers, sizes."""

import pytest

from headway.control.app import demands
from headway.control.listener import is_loopback
from headway.control.security import host_of

ORIGIN = "http://127.0.0.1:8090"


@pytest.mark.parametrize("host", ["127.0.0.1:8090", "localhost", "localhost:1", "[::1]:8090", "10.1.2.3:8090", "BOARD.example:443"])
async def test_own_names_and_addresses_pass(world, host):
    assert (await world.client(host=host).get("/health/live")).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:8090", "localhost.evil.example", "", "board.example.evil.com"]
)
async def test_rebound_names_are_refused(world, host):
    answer = await world.client(host=host).get("/health/live")
    assert answer.status_code == 421
    assert answer.json()["error"]["code"] == "unknown_host"
    assert "content-security-policy" in answer.headers


def test_host_is_read_without_its_port():
    assert [host_of(h) for h in ("A.b:80", "[::1]:80", "::1", "a", "")] == ["a.b", "::1", "::1", "a", ""]


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "origin": ORIGIN},
        {"origin": ""},
    ],
)
async def test_changes_from_other_sites_are_refused(world, headers):
    client = await world.user("olga")
    client.headers.pop("origin")
    for named in demands(world.app):
        method, path = named.split(" ", 1)
        if method != "GET":
            path = path.replace("{key}", "k").replace("{principal}", "p")
            answer = await client.request(method, path, headers=headers)
            assert answer.status_code == 403, named
            assert "another site" in answer.text


async def test_a_cookie_without_any_origin_changes_nothing(world):
    client = await world.user("olga")
    client.headers.pop("origin")
    assert (await client.post("/settings/reload")).status_code == 403
    assert world.estate.reloads == []
    assert (await client.post("/settings/reload", headers={"sec-fetch-site": "same-origin"})).status_code == 303
    assert world.estate.reloads == [world.users["olga"].id]


async def test_every_answer_carries_the_policy(world):
    client = await world.user("olga")
    for path in (
        "/",
        "/calls",
        "/settings",
        "/login",
        "/nowhere",
        "/api/v1/calls",
        "/api/nowhere",
        "/static/board.css",
        "/metrics",
    ):
        answer = await client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        if not path.startswith("/static"):
            assert answer.headers["cache-control"] == "no-store"


async def test_pages_hold_no_inline_script_style_or_handler(world):
    client = await world.user("olga")
    world.store("call_01jd8zk3m40000000000000000", tenant="acme", requested="m", first_token_ms=100.0)
    for path in ("/", "/calls", "/settings", "/login", "/calls/call_01jd8zk3m40000000000000000"):
        text = (await client.get(path)).text
        assert " style=" not in text
        assert " onclick=" not in text
        for piece in text.split("<script")[1:]:
            assert " src=" in piece.partition(">")[0] or 'type="application/json"' in piece.partition(">")[0]
        assert "https://" not in text.replace("https://127.0.0.1", "")


async def test_a_large_body_is_refused(world):
    owner = await world.bearer()
    answer = await owner.post(
        "/api/v1/keys", content=b'{"tenant": "' + b"a" * 100_000 + b'"}', headers={"content-type": "application/json"}
    )
    assert answer.status_code == 413


async def test_other_media_types_change_nothing(world):
    owner = await world.bearer()
    answer = await owner.post("/api/v1/keys", content=b'{"tenant": "acme"}', headers={"content-type": "text/plain"})
    assert answer.status_code == 415
    assert await owner.get("/api/v1/keys") is not None


async def test_static_files_are_kept_by_their_hash_and_nothing_else_is_served(world):
    client = world.client()
    statics = world.app.state.statics
    named = await client.get(statics.address("board.css"))
    assert named.headers["cache-control"] == "public, max-age=31536000, immutable"
    bare = await client.get("/static/board.css")
    assert bare.headers["cache-control"] == "no-cache"
    assert (await client.get("/static/board.css", headers={"if-none-match": bare.headers["etag"]})).status_code == 304
    for path in ("/static/", "/static/../app.py", "/static/%2e%2e/app.py", "/static/nothing.js"):
        assert (await client.get(path)).status_code == 404


def test_only_loopback_is_taken_for_loopback():
    assert [h for h in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "0.0.0.0", "::", "10.0.0.1", "board") if is_loopback(h)] == [
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "localhost",
    ]
