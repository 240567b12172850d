"""The API noun by noun: what it answers, to whom, and what it refuses."""

import httpx2
import msgspec
import pytest

from headway.control.app import build, demands
from headway.control.auth import Authenticator
from headway.control.late import LateLedger
from headway.control.ports import GatewayView, StoredCall
from headway.facts.model import CallFact
from headway.kernel.ids import new_id
from headway.kernel.instants import WallMs
from headway.ledger.model import BudgetSpec, BudgetUnit
from headway.link.messages import CallOpened, CallSeen

NOW = 1_790_000_000_000


def call_id(ago_ms: int) -> str:
    return new_id("call", WallMs(NOW - ago_ms))


def open_call(call: str, tenant: str = "acme", requested: str = "search") -> CallOpened:
    return CallOpened(
        call=call, started_wall_ms=NOW, tenant=tenant, feature="search", requested=requested, dialect="openai-chat", stream=True
    )


# --- keys


async def test_a_key_is_shown_once_works_and_is_revoked(world):
    owner = await world.bearer()
    made = await owner.post("/api/v1/keys", json={"tenant": "acme", "name": "search service", "expires_in_s": 60})
    assert made.status_code == 201
    secret, key = made.json()["secret"], made.json()["key"]
    assert key["state"] == "active"
    listed = await owner.get("/api/v1/keys")
    assert secret not in listed.text
    assert "digest" not in listed.text
    program = world.client(authorization=f"Bearer {secret}")
    assert (await program.get("/api/v1/me")).json() == {"name": "search service", "role": "viewer", "tenant": "acme", "via": "key"}
    gone = await owner.delete(f"/api/v1/keys/{key['id']}")
    assert gone.json() == {"id": key["id"], "within_s": 10}
    assert (await program.get("/api/v1/me")).status_code == 401
    assert world.estate.pushes == 2, "gateways hear of both changes at once"
    actions = [e["action"] for e in (await owner.get("/api/v1/audit")).json()["entries"]]
    assert actions[:2] == ["key.revoke", "key.create"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"tenant": "acmee"}, "no tenant 'acmee'"),
        ({"tenant": "acme", "expires_in_s": 0}, "expired before"),
        ({"tenant": "acme", "name": "a\nb"}, "do not print"),
        ({"tenant": "acme", "nmae": "x"}, "nmae"),
        ({"tenant": "acme", "role": "king"}, "role"),
        ({}, "tenant"),
        ([], "cannot be used"),
    ],
)
async def test_keys_that_cannot_be_made(world, body, says):
    answer = await (await world.bearer()).post("/api/v1/keys", json=body)
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]
    assert answer.json()["error"]["fix"]


async def test_nobody_makes_or_revokes_a_key_above_themselves(world):
    operator = await world.user("omar")
    assert (await operator.post("/api/v1/keys", json={"tenant": "acme", "role": "owner"})).status_code == 403
    strong = (await (await world.bearer()).post("/api/v1/keys", json={"tenant": "acme", "role": "owner"})).json()["key"]["id"]
    assert (await operator.delete(f"/api/v1/keys/{strong}")).status_code == 403


async def test_one_tenant_knows_nothing_of_another(world):
    owner, anna = await world.bearer(), await world.user("anna")
    foreign = (await owner.post("/api/v1/keys", json={"tenant": "globex"})).json()["key"]["id"]
    assert (await anna.delete(f"/api/v1/keys/{foreign}")).status_code == 404
    assert (await anna.post("/api/v1/keys", json={"tenant": "globex"})).status_code == 403
    assert foreign not in (await anna.get("/api/v1/keys")).text
    call = call_id(1_000)
    world.store(call, tenant="globex", requested="m")
    world.live.opened("gw1", open_call(call_id(0), tenant="globex"))
    assert (await anna.get(f"/api/v1/calls/{call}")).status_code == 404
    assert (await anna.get(f"/calls/{call}")).status_code == 404
    found = (await anna.get("/api/v1/calls")).json()
    assert found["in_flight"] == found["calls"] == []
    assert world.facts.asked[-1].tenant == "acme", "the store is asked for her tenant only"
    assert (await anna.get("/api/v1/calls?tenant=globex")).status_code == 403
    for path in ("/", "/calls", "/settings"):
        assert "globex" not in (await anna.get(path)).text
    assert [t["name"] for t in (await anna.get("/api/v1/tenants")).json()["tenants"]] == ["acme"]


# --- calls


async def test_live_and_stored_calls_are_one_list(world):
    client = await world.bearer()
    old, both, fresh, running = call_id(9_000), call_id(6_000), call_id(3_000), call_id(0)
    world.store(old, tenant="acme", requested="m")
    world.store(both, tenant="acme", requested="m")
    for call in (both, fresh):
        world.live.seen(
            "gw1", CallSeen(fact=CallFact(call=call, started_wall_ms=NOW, duration_ms=1.0, gateway="gw1", tenant="acme"))
        )
    world.live.opened("gw1", open_call(running))
    found = (await client.get("/api/v1/calls")).json()
    assert [c["call"] for c in found["in_flight"]] == [running]
    assert [c["call"] for c in found["calls"]] == [fresh, both, old]
    assert found["next"] == ""


async def test_pages_of_calls_join_without_gap_or_repeat(world):
    client = await world.bearer()
    calls = sorted((call_id(i * 1_000) for i in range(7)), reverse=True)
    for i, call in enumerate(calls):
        world.store(call, tenant="acme", requested="m")
        if i < 3:
            world.live.seen("gw1", CallSeen(fact=world.facts.stored[call].fact))
    got, before = [], ""
    while True:
        page = (await client.get("/api/v1/calls", params={"limit": 3, "before": before})).json()
        got += [c["call"] for c in page["calls"]]
        before = page["next"]
        if not before:
            break
    assert got == calls


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"state": "failed"}, {"b"}),
        ({"state": "timeout"}, {"b"}),
        ({"state": "done"}, {"a"}),
        ({"model": "GPT"}, {"a"}),
        ({"feature": "reports"}, {"b"}),
        ({"tenant": "acme"}, {"a"}),
        ({"origin": "probe"}, {"c"}),
        ({"origin": "any"}, {"a", "b", "c"}),
    ],
)
async def test_filters(world, query, expected):
    client, ids = await world.bearer(), {}
    for name, fields in {
        "a": {"tenant": "acme", "feature": "search", "routed": "openai/gpt-x"},
        "b": {"tenant": "globex", "feature": "reports", "outcome": "timeout"},
        "c": {"tenant": "acme", "feature": "search", "origin": "probe", "outcome": "client_gone"},
    }.items():
        ids[name] = call_id(ord(name) * 1_000)
        fact = CallFact(call=ids[name], started_wall_ms=NOW, duration_ms=1.0, gateway="gw1", **fields)
        world.live.seen("gw1", CallSeen(fact=fact))
    found = (await client.get("/api/v1/calls", params=query)).json()
    assert {c["call"] for c in found["calls"]} == {ids[name] for name in expected}


async def test_an_unknown_state_lists_the_known(world):
    answer = await (await world.bearer()).get("/api/v1/calls?state=borken")
    assert answer.status_code == 400
    assert "upstream_error" in answer.json()["error"]["fix"]


async def test_the_list_goes_on_while_the_facts_are_away(world):
    world.facts.away = "the stored calls cannot be read"
    world.live.opened("gw1", open_call(call_id(0)))
    found = (await (await world.bearer()).get("/api/v1/calls")).json()
    assert len(found["in_flight"]) == 1
    assert found["problem"] == "the stored calls cannot be read"


async def test_one_call_with_what_hangs_on_it(world):
    client, call = await world.bearer(), call_id(5_000)
    fact = world.store(call, tenant="acme", requested="m")
    world.facts.stored[call] = StoredCall(fact=fact)
    other = call_id(4_900)
    world.store(other, tenant="acme", requested="n")
    found = (await client.get(f"/api/v1/calls/{call}")).json()
    assert found["stored"]["fact"]["call"] == call
    assert [c["call"] for c in found["beside"]] == [other]


async def test_one_call_that_is_in_flight_and_one_that_nobody_knows(world):
    client, call = await world.bearer(), call_id(0)
    world.live.opened("gw1", open_call(call))
    found = (await client.get(f"/api/v1/calls/{call}")).json()
    assert found["state"] == "in_flight"
    assert found["stored"] is None
    for unknown in (call_id(77), "call_x", "x" * 500):
        answer = await client.get(f"/api/v1/calls/{unknown}")
        assert answer.status_code == 404
        assert len(answer.text) < 600
    world.facts.away = "away"
    assert (await client.get(f"/api/v1/calls/{call_id(78)}")).status_code == 503


# --- the estate


async def test_budgets_of_one_tenant_and_its_keys(world):
    now = world.ledger.now()
    key = (await (await world.bearer()).post("/api/v1/keys", json={"tenant": "acme"})).json()["key"]["id"]
    for scope in ("tenant:acme", "tenant:globex", f"key:{key}"):
        await world.ledger.budgets.set_one(
            BudgetSpec(scope=scope, unit=BudgetUnit.TOKENS, period="day", cap=10), actor="test", now=now
        )
    anna = (await (await world.user("anna")).get("/api/v1/budgets")).json()["budgets"]
    assert {b["scope"] for b in anna} == {"tenant:acme", f"key:{key}"}
    assert len((await (await world.bearer()).get("/api/v1/budgets")).json()["budgets"]) == 3


async def test_generation_and_reload(world):
    world.estate.found = msgspec.structs.replace(world.estate.found, problem="headway.toml:3: what is this")
    operator = await world.user("omar")
    assert (await operator.get("/api/v1/generation")).json()["problem"] == "headway.toml:3: what is this"
    assert (await operator.post("/api/v1/generation/reload")).status_code == 200
    assert world.estate.reloads == [world.users["omar"].id]
    ready = (await world.client().get("/health/ready")).json()
    assert ready["status"] == "degraded"
    assert ready["detail"] == ["headway.toml has a problem, generation 7 stays in force"]


async def test_readiness_names_what_is_degraded(world):
    assert (await world.client().get("/health/ready")).json() == {"status": "ready", "generation": 7, "detail": []}
    world.estate.faults = ["the ledger is away"]
    world.estate.views = [
        GatewayView(name="gw1", version="1", connected=False, generation=7, heartbeat_wall_ms=None),
        GatewayView(
            name="gw2", version="1", connected=True, generation=7, heartbeat_wall_ms=NOW, degraded=("spool: disk is full",)
        ),
    ]
    detail = (await world.client().get("/health/ready")).json()["detail"]
    assert detail == ["the ledger is away", "gateway gw1 is not connected", "gateway gw2: spool: disk is full"]


async def test_a_stranger_learns_that_it_is_degraded_but_not_what(world):
    world.estate.faults = ["the ledger at db.internal is away"]
    transport = httpx2.ASGITransport(app=world.app, client=("203.0.113.5", 4_000))
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8090") as stranger:
        found = await stranger.get("/health/ready")
        assert found.json()["status"] == "degraded"
        assert "db.internal" not in found.text
        key = {"authorization": f"Bearer {await world.key()}"}
        assert "db.internal" in (await stranger.get("/health/ready", headers=key)).text


async def test_metrics_of_control_and_each_gateway(world):
    text = (await (await world.bearer()).get("/metrics")).text
    assert "headway_control_watchers 0" in text
    assert 'up{gateway="gw1"} 1' in text


async def test_prices(world):
    client = await world.user("vera")
    assert (await client.get("/api/v1/prices?model=gpt-x")).json()["rows"][0]["input_pico"] == 1
    assert (await client.get("/api/v1/prices?model=none")).json()["rows"] == []
    missing = await client.get("/api/v1/prices")
    assert missing.status_code == 400
    assert "model" in missing.json()["error"]["message"]


async def test_users(world):
    owner = await world.bearer()
    made = await owner.post("/api/v1/users", json={"name": "nina", "password": "a long password", "role": "operator"})
    assert made.status_code == 201
    assert "password" not in made.text
    assert (await owner.post("/api/v1/users", json={"name": "nina", "password": "a long password"})).status_code == 409
    assert (await owner.post("/api/v1/users", json={"name": "short", "password": "short"})).status_code == 400
    assert (
        await owner.post("/api/v1/users", json={"name": "lost", "password": "a long password", "tenant": "nowhere"})
    ).status_code == 400
    nina = made.json()["id"]
    assert (await owner.put(f"/api/v1/users/{nina}/password", json={"password": "another password"})).status_code == 200
    assert (await owner.put("/api/v1/users/prn_none/password", json={"password": "another password"})).status_code == 404
    browser = world.client(accept="text/html", origin="http://127.0.0.1:8090")
    assert (await browser.post("/login", data={"name": "nina", "password": "another password"})).status_code == 303


async def test_audit_pages(world):
    owner = await world.bearer()
    for n in range(5):
        await owner.post("/api/v1/keys", json={"tenant": "acme", "name": str(n)})
    got, before = [], ""
    while True:
        page = (await owner.get("/api/v1/audit", params={"limit": 3, "before": before})).json()
        got += page["entries"]
        before = page["next"]
        if not before:
            break
    assert len({e["id"] for e in got}) == len(got)
    assert {e["detail"].get("name") for e in got if e["action"] == "key.create"} >= {"0", "1", "2", "3", "4"}
    assert [e["at_wall_ms"] for e in got] == sorted((e["at_wall_ms"] for e in got), reverse=True)


# --- the document


async def test_the_openapi_document_has_every_route_and_every_reference(world):
    spec = (await world.client().get("/api/v1/openapi.json")).json()
    for named in demands(world.app):
        method, path = named.split(" ", 1)
        if path.startswith("/api/"):
            assert method.lower() in spec["paths"][path], named
    schemas = spec["components"]["schemas"]
    text = msgspec.json.encode(spec).decode()
    for part in text.split('"#/components/schemas/')[1:]:
        assert part.partition('"')[0] in schemas
    assert schemas["KeyCreated"]["properties"]["secret"]["type"] == "string"
    assert "/settings" not in spec["paths"]


async def test_a_ledger_that_is_away_is_said_not_thrown(world, tmp_path):
    late = LateLedger(f"sqlite:///{tmp_path / 'no folder' / 'ledger.db'}")
    assert not await late.try_open()
    app = build(msgspec.structs.replace(world.deps, ledger=late, authenticator=Authenticator(late, 8090)))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://127.0.0.1:8090") as client:
        answer = await client.get("/api/v1/keys", headers={"authorization": "Bearer hw_x"})
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "unavailable"
        assert answer.headers["retry-after"] == "2"
        page = await client.get("/", headers={"accept": "text/html", "cookie": "headway_8090=x"})
        assert page.status_code == 503
        assert "Calls go on without it" in page.text
        assert (await client.get("/health/live")).status_code == 200


async def test_wrong_paths_and_methods(world):
    client = await world.bearer()
    assert (await client.get("/api/v1/nothing")).json()["error"]["code"] == "not_found"
    assert (await client.put("/api/v1/calls")).json()["error"]["code"] == "method_not_allowed"
    page = await (await world.user("olga")).get("/nothing")
    assert page.status_code == 404
    assert "There is nothing at /nothing" in page.text
