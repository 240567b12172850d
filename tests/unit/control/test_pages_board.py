"""The board's pages as text: what they say, in which order, with which forms for whom; the same as JSON."""

import re

import msgspec
import pytest

from headway.control.pages import attention
from headway.control.pages.attention import failed_interval
from headway.control.pages.home import filled
from headway.control.ports import Bucket, DiffLine, FeatureView, Generation, Group, Overview
from headway.facts.answers import CallStory
from headway.facts.model import AttemptFact, CallFact, FeedbackFact, RecordingFact
from headway.kernel.figure import Figure
from headway.kernel.ids import new_id
from headway.kernel.instants import WallMs
from headway.ledger.model import BudgetState, BudgetUnit
from headway.link.messages import CallOpened, CallSeen

NOW = 1_790_000_000_000


def call_id(ago_ms: int) -> str:
    return new_id("call", WallMs(NOW - ago_ms))


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


@pytest.mark.parametrize("path", ["/", "/calls", "/settings", "/?range=1h"])
async def test_pages_are_json_at_the_same_address(world, path):
    client = await world.user("olga")
    page = await client.get(path + ("&" if "?" in path else "?") + "_format=json")
    assert page.headers["content-type"] == "application/json"
    assert isinstance(page.json(), dict)
    assert "<!doctype" in (await client.get(path)).text


# --- Home


async def test_home_without_a_call_shows_the_line_that_makes_one(world):
    text = (await (await world.user("olga")).get("/")).text
    assert "Nothing has called yet." in text
    assert "curl http://127.0.0.1:8080/v1/chat/completions" in text
    assert "&#34;model&#34;:&#34;search&#34;" in text


async def test_home_leads_with_the_worst(world):
    world.estate.found = msgspec.structs.replace(world.estate.found, problem="headway.toml:3: unknown key\nmore")
    world.store(call_id(5_000), tenant="acme", feature="search", cost_nano_usd=5, first_token_ms=100.0)
    page = (await (await world.user("olga")).get("/?_format=json")).json()
    assert page["tone"] == "bad"
    assert page["sentence"].startswith("headway.toml has a problem; generation 7 stays in force.")
    assert page["attention"][0]["do"] == "headway.toml:3: unknown key"
    assert page["attention"][0]["link"] == "/settings#generation"


async def test_home_says_that_nothing_is_wrong_and_how_much_that_rests_on(world):
    for n in range(3):
        world.store(call_id(5_000 + n), tenant="acme", feature="search", cost_nano_usd=10**9, first_token_ms=100.0)
    text = words((await (await world.user("olga")).get("/")).text)
    assert "Nothing is wrong: 3 calls in 15 min, 0 failed, first token 100 ms (p99)." in text
    assert "n = 3" in text
    assert "$3.00" in text


async def test_home_without_facts_says_so_and_shows_the_rest(world):
    world.facts.away = "the stored calls cannot be read: gone"
    page = await (await world.user("olga")).get("/")
    assert page.status_code == 200
    assert "the stored calls cannot be read: gone" in page.text
    assert "Cannot tell" in page.text


async def test_unknown_range_is_refused_with_the_known(world):
    page = await (await world.user("olga")).get("/?range=1y")
    assert page.status_code == 400
    assert "1h, 24h, 7d" in page.text


def test_failed_share_has_wilsons_interval():
    assert failed_interval(0, 0) == (0.0, 1.0)
    low, high = failed_interval(10, 100)
    assert (round(low, 4), round(high, 4)) == (0.0552, 0.1744)
    assert failed_interval(0, 50)[0] == 0.0


def group(name: str, calls: int, failed: int) -> Group:
    none = Figure(value=None, unit="ms", n=0, method="none")
    return Group(
        name=name,
        calls=calls,
        failed=failed,
        first_token_p50=none,
        first_token_p99=none,
        cost_nano_usd=0,
        cost_unknown=0,
        input_tokens=0,
        output_tokens=0,
    )


def overview(*groups: Group) -> Overview:
    return Overview(
        since_wall_ms=0, until_wall_ms=900_000, bucket_ms=900_000, newest_wall_ms=1, total=group("", 1, 0), features=groups
    )


def test_a_few_failures_alarm_nobody_and_many_do():
    found = list(
        attention.of_failures(
            overview(group("few", 2, 2), group("some", 100, 12), group("much", 100, 60), group("well", 100, 1)), 15
        )
    )
    assert [(a.tone, a.what.split(":")[0]) for a in found] == [("warn", "some"), ("bad", "much")]
    assert found[0].link == "/calls?feature=some&state=failed"


@pytest.mark.parametrize(("spent", "tone"), [(79, None), (80, "warn"), (100, "bad"), (120, "bad")])
def test_budgets_near_and_over_their_cap(spent, tone):
    budget = BudgetState(
        id="b",
        scope="tenant:acme",
        unit=BudgetUnit.TOKENS,
        period="day",
        cap=100,
        spent=spent,
        leased=0,
        period_start_wall_ms=0,
        period_end_wall_ms=NOW + 3_600_000,
    )
    found = [a.tone for a in attention.of_budgets([budget], NOW)]
    assert found == ([tone] if tone else [])


def test_quiet_steps_are_filled():
    only = msgspec.structs.replace(group("", 1, 0), series=(Bucket(start_wall_ms=2_000, calls=1),))
    found = filled(only, Overview(since_wall_ms=500, until_wall_ms=4_500, bucket_ms=1_000, newest_wall_ms=1, total=only))
    assert [(b.start_wall_ms, b.calls) for b in found.series] == [(0, 0), (1_000, 0), (2_000, 1), (3_000, 0), (4_000, 0)]


# --- Calls


async def test_calls_keep_their_filter_in_the_address(world):
    client = await world.user("olga")
    for n in range(70):
        world.store(call_id(n * 1_000), tenant="acme", requested="m")
    text = (await client.get("/calls?tenant=acme&model=m")).text
    assert '<option value="acme" selected>' in text
    assert 'sse-connect="/calls/stream?tenant=acme&amp;model=m"' in text
    older = re.search(r'rel="next" href="([^"]+)"', text)
    assert older is not None
    address = older[1].replace("&amp;", "&")
    assert "tenant=acme" in address
    second = (await client.get(address)).text
    assert second.count('class="c-id"') == 10
    assert "sse-connect" not in second, "old pages stand still"


async def test_a_row_says_who_asked_and_who_really_answered(world):
    world.store(
        call_id(1_000),
        tenant="acme",
        feature="search",
        requested="search",
        routed="openai/gpt-5-mini",
        answered="gpt-5-mini-2026-08-14",
        outcome="incomplete",
        input_tokens=1_200,
        output_tokens=30,
        cached_tokens=1_000,
        first_token_ms=340.0,
        attempts=2,
        lost=("cache_control",),
    )
    text = words((await (await world.user("olga")).get("/calls")).text)
    for part in (
        "incomplete",
        "acme",
        "search → openai/gpt-5-mini → …-2026-08-14",
        "2 attempts",
        "lost 1",
        "1,200",
        "340 ms",
        "unknown",
    ):
        assert part in text, part


async def test_unknown_cost_is_never_zero(world):
    client = await world.user("olga")
    for n, (attempts, cost, shown) in enumerate(((1, None, "unknown"), (1, 0, "$0"), (0, None, "–"))):
        call = call_id(1_000 + n)
        world.store(call, tenant="acme", requested="m", cost_nano_usd=cost, attempts=attempts)
        row = re.search(f'<tr id="{call}">(.*?)</tr>', (await client.get("/calls")).text, re.DOTALL)
        assert row is not None
        cell = re.search(r'c-cost">(.*?)</td>', row[1], re.DOTALL)
        assert cell is not None
        assert words(cell[1]).strip() == shown


async def test_calls_without_any_and_without_a_match(world):
    client = await world.user("olga")
    assert "curl http" in (await client.get("/calls")).text
    assert "No call matches" in (await client.get("/calls?tenant=acme")).text


async def test_names_from_outside_are_text_not_markup(world):
    evil = "<script>alert(1)</script>"
    call = call_id(1_000)
    world.store(
        call, tenant=evil, feature=evil, requested=evil, routed=evil, outcome="upstream_error", error_detail=evil, lost=(evil,)
    )
    world.live.opened(
        "gw1", CallOpened(call=call_id(0), started_wall_ms=NOW, tenant=evil, feature=evil, requested=evil, dialect="x", stream=True)
    )
    client = await world.user("olga")
    for path in ("/", "/calls", f"/calls/{call}", "/calls?model=" + evil):
        assert evil not in (await client.get(path)).text, path


# --- the live stream, read as its bytes


async def read_events(client, path):
    """All events of a stream that ends."""
    got: list[tuple[str, str]] = []
    for block in (await client.get(path)).text.split("\n\n"):
        lines = block.splitlines()
        if lines and lines[0].startswith("event: "):
            got.append((lines[0][7:], "\n".join(line[6:] for line in lines[1:])))
    return got


def happens(live, act):
    """``act`` once somebody watches, and then the end of all streams."""
    original = live.watch

    def watch(wanted):
        watcher = original(wanted)
        act()
        live.close()
        return watcher

    live.watch = watch


def ended(live, call, tenant="acme"):
    live.seen("gw1", CallSeen(fact=CallFact(call=call, started_wall_ms=NOW, duration_ms=1.0, gateway="gw1", tenant=tenant)))


async def test_rows_move_from_flight_to_ended(world):
    client, live = await world.user("olga"), world.live
    begun, done, other = call_id(0), call_id(1), call_id(2)

    def act():
        live.opened(
            "gw1", CallOpened(call=begun, started_wall_ms=NOW, tenant="acme", feature="f", requested="m", dialect="x", stream=True)
        )
        ended(live, done)
        ended(live, other, "globex")

    happens(live, act)
    events = dict(await read_events(client, "/calls/stream?tenant=acme"))
    assert f'id="{begun}"' in events["opened"]
    assert f'id="{done}"' in events["ended"]
    assert other not in "".join(events.values())
    assert live.watchers == 0


async def test_a_row_that_no_longer_matches_is_told_to_leave(world):
    client, call = await world.user("olga"), call_id(0)
    happens(world.live, lambda: ended(world.live, call))
    events = dict(await read_events(client, "/calls/stream?state=in_flight"))
    assert f'id="{call}" data-gone' in events["ended"]


async def test_the_api_stream_says_json_and_counts_what_it_left_out(world, monkeypatch):
    monkeypatch.setattr("headway.kernel.limits.EVENT_ROWS_PER_PUSH_MAX", 2)
    client, ids = await world.bearer(), [call_id(9 - n) for n in range(5)]
    happens(world.live, lambda: [ended(world.live, call) for call in ids])
    events = dict(await read_events(client, "/api/v1/calls/stream"))
    assert [c["call"] for c in msgspec.json.decode(events["calls"])] == ids[-2:]
    assert events["refetch"] == "3"


# --- one call


async def test_one_call_tells_its_story(world):
    call = call_id(60_000)
    fact = world.store(
        call,
        started_wall_ms=NOW - 60_000,
        duration_ms=2_000.0,
        tenant="acme",
        feature="search",
        requested="search",
        routed="local/small",
        answered="small-v2",
        attempts=2,
        first_token_ms=800.0,
        input_tokens=100,
        output_tokens=20,
        cost_nano_usd=1_234_000,
        charged_nano_usd=1_300_000,
        leases=("lease_1",),
        lost=("thinking",),
    )
    attempts = (
        AttemptFact(
            call=call,
            attempt=2,
            started_wall_ms=NOW - 59_700,
            gateway="gw1",
            head_ms=400.0,
            first_token_ms=500.0,
            last_token_ms=1_650.0,
            duration_ms=1_700.0,
        ),
        AttemptFact(
            call=call,
            attempt=1,
            started_wall_ms=NOW - 60_000,
            gateway="gw1",
            outcome="upstream_error",
            status=429,
            error_detail="slow down",
            duration_ms=300.0,
        ),
    )
    world.facts.stored[call] = CallStory(
        fact=fact,
        attempts=attempts,
        feedback=(FeedbackFact(call=call, kind="rephrased", at_wall_ms=NOW, note="too long"),),
        recording=RecordingFact(
            call=call, feature="search", tenant="acme", at_wall_ms=NOW, keep_until_wall_ms=NOW + 1, prompt="P?", answer="A."
        ),
    )
    text = words((await (await world.user("olga")).get(f"/calls/{call}")).text)
    for part in (
        "Done in 2.00 s after 2 attempts, 57.5 % of it receiving the answer.",
        "slow down",
        "thinking",
        "$0.001234",
        "$0.001300 to 1 leased block",
        "receiving the answer 1.15 s",
        "rephrased",
        "P?",
        "It ran alone.",
    ):
        assert part in text, part


async def test_a_call_charged_in_tokens_says_tokens_and_ids_stay_in_one_line(world):
    key, parent, call = "key_01k00000000000000000abcdef", call_id(50_001), call_id(50_002)
    world.store(call, key=key, parent_call=parent, charged_tokens=1_234, leases=("l1",), lease_charges=(1_234,))
    page = (await (await world.user("olga")).get(f"/calls/{call}")).text
    text = words(page)
    assert "Charged 1,234 tokens to 1 leased block" in text
    assert "$" not in text.partition("Charged")[2].partition("Prices")[0].partition("Bytes")[0]
    assert f'data-copy="{key}"' in page
    assert key not in text, "shown short, copied whole"
    assert f'href="/calls/{parent}"' in page
    assert parent not in text
    money = world.store(call_id(50_003), charged_nano_usd=0, leases=("l1",), lease_charges=(0,))
    assert "Charged $0 to 1 leased block" in words((await (await world.user("olga")).get(f"/calls/{money.call}")).text)


async def test_home_says_of_how_few_calls_it_cannot_tell(world, monkeypatch):
    few = Figure(value=None, unit="ms", n=5, method="n too small: 5, from 20 on")
    shown = msgspec.structs.replace(group("search", 5, 0), first_token_p99=few)
    found = msgspec.structs.replace(overview(shown), total=msgspec.structs.replace(shown, name=""))

    async def fixed(*_: object) -> Overview:
        return found

    monkeypatch.setattr(world.facts, "overview", fixed)
    text = words((await (await world.user("olga")).get("/")).text)
    assert "n too small: 5, from 20 on" in text
    assert "n too small (5)" in text


async def test_one_call_in_flight(world):
    call = call_id(0)
    world.live.opened(
        "gw1", CallOpened(call=call, started_wall_ms=NOW, tenant="acme", feature="f", requested="m", dialect="x", stream=False)
    )
    text = words((await (await world.user("olga")).get(f"/calls/{call}")).text)
    assert "In flight: nothing is known yet but who asked." in text


# --- Settings


async def test_settings_show_the_problem_in_red_and_the_diff(world):
    world.estate.found = msgspec.structs.replace(
        world.estate.found,
        problem="headway.toml:3: features.serach is not a setting; did you mean features.search?",
        diff=(
            DiffLine(key="tenants.acme.weight", before="1.0", after="2.0"),
            DiffLine(key="features.new.targets", before=None, after="[]"),
        ),
    )
    text = (await (await world.user("olga")).get("/settings")).text
    assert re.search(r'class="note bad" role="alert".*did you mean features.search', text, re.DOTALL)
    assert "<del>1.0</del>" in text
    assert "<ins>2.0</ins>" in text
    assert "not set" in text


async def test_a_key_is_made_and_revoked_by_form(world):
    operator = await world.user("omar")
    made = await operator.post(
        "/settings/keys",
        data={"tenant": "acme", "name": "by form", "role": "viewer", "features": "search, ", "expires_in_days": "30"},
    )
    assert made.status_code == 201
    secret = re.search(r"hw_[0-9a-z]{26}_[0-9a-z]{32}", made.text)
    assert secret is not None
    assert f"Bearer {secret[0]}" in made.text
    (key,) = [k for k in (await operator.get("/api/v1/keys")).json()["keys"] if k["name"] == "by form"]
    assert key["features"] == ["search"]
    assert key["expires_wall_ms"] - key["created_wall_ms"] == 30 * 86_400_000
    assert secret[0] not in (await operator.get("/settings")).text
    assert (await operator.post(f"/settings/keys/{key['id']}/revoke")).headers["location"] == "/settings#keys"
    assert (await operator.get("/api/v1/keys")).json()["keys"][0]["state"] == "revoked"


@pytest.mark.parametrize("days", ["-1", "1.5", "٣", "x", "999999"])
async def test_days_must_be_a_number(world, days):
    answer = await (await world.user("omar")).post("/settings/keys", data={"tenant": "acme", "expires_in_days": days})
    assert answer.status_code == 400
    assert "whole number" in answer.text


async def test_forms_stand_only_for_those_who_may(world):
    viewer, operator, owner = [(await (await world.user(name)).get("/settings")).text for name in ("vera", "omar", "olga")]
    assert "Create key" not in viewer
    assert "What was changed" not in viewer
    assert "Create key" in operator
    assert "Add user" not in operator
    assert "Add user" in owner


async def test_people_are_added_and_disabled_by_form(world):
    owner = await world.user("olga")
    added = await owner.post(
        "/settings/users", data={"name": "nina", "password": "a long password", "role": "viewer", "tenant": "acme"}
    )
    assert added.headers["location"] == "/settings#users"
    people = (await owner.get("/settings?_format=json")).json()["users"]
    nina = next(p for p in people if p["name"] == "nina")
    assert (nina["role"], nina["tenant"]) == ("viewer", "acme")
    await owner.post(f"/settings/users/{nina['id']}/disable")
    people = (await owner.get("/settings?_format=json")).json()["users"]
    assert next(p for p in people if p["name"] == "nina")["disabled"]
    assert (await owner.post("/settings/users", data={"name": "x", "password": "short", "role": "viewer"})).status_code == 400
    assert (
        await owner.post("/settings/users", data={"name": "x", "password": "a long password", "role": "king"})
    ).status_code == 400


async def test_first_call_needs_no_key_where_access_is_open(world):
    world.estate.found = Generation(number=1, loaded_wall_ms=NOW, path="x", features=(FeatureView(name="chat"),), open_access=True)
    text = (await (await world.user("olga")).get("/")).text
    assert "curl http" in text
    assert "YOUR_KEY" not in text
