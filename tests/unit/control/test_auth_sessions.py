"""Signing in and out, and what a credential is worth."""

from headway.kernel.limits import LOGIN_FAILURES_PER_MINUTE_MAX
from headway.ledger.model import Role

ORIGIN = "http://127.0.0.1:8090"
PASSWORD = "correct horse battery"


async def test_password_opens_a_strict_http_only_session(world):
    client = world.client(accept="text/html", origin=ORIGIN)
    answer = await client.post("/login", data={"name": "olga", "password": PASSWORD, "next": "/settings?x=1"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/settings?x=1"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "secure" not in cookie
    assert (await client.get("/api/v1/me")).json() == {"name": "olga", "role": "owner", "tenant": "", "via": "session"}


async def test_cookie_is_secure_behind_tls(world):
    client = world.client(accept="text/html", origin="https://127.0.0.1:8090")
    answer = await client.post("https://127.0.0.1:8090/login", data={"name": "olga", "password": PASSWORD})
    assert "secure" in answer.headers["set-cookie"].lower()


async def test_wrong_password_says_what_to_do_and_sets_nothing(world):
    client = world.client(accept="text/html", origin=ORIGIN)
    answer = await client.post("/login", data={"name": "olga", "password": "wrong"})
    assert answer.status_code == 401
    assert "do not match" in answer.text
    assert "set-cookie" not in answer.headers
    unknown = await client.post("/login", data={"name": "nobody", "password": "wrong"})
    assert "do not match" in unknown.text


async def test_many_failures_wait(world):
    client = world.client(accept="text/html", origin=ORIGIN)
    for _ in range(LOGIN_FAILURES_PER_MINUTE_MAX):
        await client.post("/login", data={"name": "vera", "password": "wrong"})
    answer = await client.post("/login", data={"name": "vera", "password": PASSWORD})
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 60


async def test_next_never_leaves_the_origin(world):
    for address in (
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "/login?next=/login",
        "/a\r\nb: c",
    ):
        client = world.client(accept="text/html", origin=ORIGIN)
        answer = await client.post("/login", data={"name": "olga", "password": PASSWORD, "next": address})
        assert answer.headers["location"] == "/", address


async def test_one_time_link_works_once_and_lands_by_itself(world):
    owner = await world.bearer()
    path = (await owner.post("/api/v1/login-links", json={})).json()["path"]
    browser = world.client(accept="text/html")
    first = await browser.get(path)
    assert first.status_code == 200
    assert 'http-equiv="refresh" content="0; url=/"' in first.text
    assert (await browser.get("/api/v1/me")).json()["role"] == "owner"
    second = await world.client(accept="text/html").get(path)
    assert second.status_code == 401
    assert "used already" in second.text
    assert "set-cookie" not in second.headers


async def test_a_token_in_the_address_is_not_kept_in_links_of_the_page(world):
    answer = await world.client(accept="text/html").get("/login?token=hwl_secretsecret")
    assert "hwl_secretsecret" not in answer.text


async def test_logout_ends_the_session_itself(world):
    client = await world.user("olga")
    token = client.cookies["headway_8090"]
    assert (await client.post("/logout")).status_code == 303
    again = world.client(accept="application/json")
    again.cookies.set("headway_8090", token)
    assert (await again.get("/api/v1/me")).status_code == 401


async def test_disabled_user_is_out_at_once(world):
    vera, owner = await world.user("vera"), await world.bearer()
    assert (await vera.get("/calls")).status_code == 200
    assert (await owner.delete(f"/api/v1/principals/{world.users['vera'].id}")).status_code == 200
    assert (await vera.get("/api/v1/me")).status_code == 401


async def test_bearer_must_be_good_even_beside_a_good_cookie(world):
    client = await world.user("olga")
    for value in ("Bearer hw_wrong", "Bearer ", "Basic b2xnYTp4"):
        answer = await client.get("/api/v1/me", headers={"authorization": value})
        assert answer.status_code == 401, value
        assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_key_bound_to_features_reads_nothing_here(world):
    text = await world.key(Role.VIEWER, "acme", features=("search",))
    answer = await world.client(authorization=f"Bearer {text}").get("/api/v1/me")
    assert answer.status_code == 403
    assert "restricted to features" in answer.json()["error"]["message"]


async def test_a_page_leads_to_the_door_and_back(world):
    answer = await world.client(accept="text/html").get("/calls?state=failed&model=a b")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=%2Fcalls%3Fstate%3Dfailed%26model%3Da%2520b"


async def test_last_owner_stays(world):
    owner = await world.user("olga")
    refused = await owner.request("DELETE", f"/api/v1/principals/{world.users['olga'].id}")
    assert refused.status_code == 400
