"""The page Admission, its API, its live queues and its alarm, over ports whose answers a test lays down."""

import re
from types import SimpleNamespace

import msgspec
import pytest
from admission_world import view

from headway.calls.admission.alone import alone_by_place
from headway.calls.admission.objectives import Objective
from headway.calls.admission.report import AdmissionReport, Counts, Key, LongCall, Moment, Ranked
from headway.calls.admission.spans import CallSpan
from headway.control.access import Who
from headway.control.admission import ALARM_RANGE_MS, KEPT_MAX, NOT_YOURS, AdmissionBook, metrics_of
from headway.control.admission_now import AdmissionNow
from headway.control.charts_admission import class_chart, columns, heat, over_time, shares, tokens_chart
from headway.control.ports import StoredCall
from headway.facts.answers import Culprit, Stalled
from headway.facts.model import AttemptFact
from headway.kernel.ids import new_id
from headway.kernel.instants import WallMs
from headway.ledger.model import Role
from headway.link.messages import AdmissionSeen

NOW = 1_790_000_000_000
HOUR_MS = 3_600_000
STEP = NOW // 60_000 * 60_000
OLGA = Who(principal="user_o", name="olga", role=Role.OWNER)
ANNA = Who(principal="user_a", name="anna", role=Role.OPERATOR, tenant="acme")


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def counts(kind: str, calls: int, broken: int, **names: str) -> Counts:
    return Counts(
        key=Key(kind=kind, **names),
        calls=calls,
        answered=calls,
        refused=0,
        evicted=0,
        judged=calls,
        broken=broken,
        allowed_share=0.05,
    )


def spans() -> tuple[CallSpan, ...]:
    """Ten quiet calls, then one that waits behind a giant's prompt for two seconds."""

    def span(call: str, tenant: str, at: float, took: float, tokens: int) -> CallSpan:
        return CallSpan(
            call=call,
            endpoint="vllm-0",
            model="m",
            tenant=tenant,
            klass="interactive",
            arrived_ms=at,
            admitted_ms=at,
            first_token_ms=at + took,
            ended_ms=at + took + 10,
            uncached_tokens=tokens,
        )

    quiet = [span(f"q{i}", "globex", i * 1_000.0, 20 + 10 * (1 + i % 3), 100 * (1 + i % 3)) for i in range(10)]
    return (*quiet, span("giant", "reports", 20_000, 2_820, 28_000), span("small", "acme", 20_500, 2_330, 100))


def lay(world, broken: int = 0) -> None:
    """Evidence of 1,000 calls, of which ``broken`` of the 100 interactive ones were late."""
    found = (
        counts("all", 1_000, broken),
        counts("class", 900, 0, klass="batch"),
        counts("class", 100, broken, klass="interactive"),
        counts("tenant", 900, 0, tenant="globex"),
        counts("tenant", 100, broken, tenant="acme"),
        counts("endpoint", 1_000, broken, endpoint="vllm-0"),
        counts("tenant, class and band", 900, 0, tenant="globex", klass="batch", band="giant"),
        counts("tenant, class and band", 100, broken, tenant="acme", klass="interactive", band="short"),
    )
    ranked = tuple(
        Ranked(key=c.key, n=c.calls, values=dict.fromkeys(("p50", "p95", "p99"), (120.0, 110.0, 3_456.0))) for c in found
    )
    world.evidence.rows = msgspec.structs.replace(
        world.evidence.rows,
        newest_wall_ms=NOW - 4_000,
        counts=found,
        measured={"queue_ms": ranked, "first_token_ms": ranked, "slowdown": ranked},
        spans=spans(),
        moments=(
            Moment(start_wall_ms=STEP - 120_000, klass="interactive", calls=60, p50_ms=80.0, p99_ms=900.0, tokens=6_000),
            Moment(start_wall_ms=STEP - 60_000, klass="batch", calls=5, p50_ms=2_000.0, p99_ms=2_500.0, tokens=60_000),
        ),
        giants=(
            LongCall(
                call="call_g",
                tenant="reports",
                klass="batch",
                admitted_wall_ms=NOW - 90_000,
                first_token_wall_ms=NOW - 87_000,
                uncached_tokens=28_000,
            ),
        ),
    )
    world.evidence.alone = alone_by_place(spans())


# --- the page


async def test_a_fresh_page_says_what_would_fill_it(world):
    text = words((await (await world.user("olga")).get("/admission")).text)
    assert "Nothing has called in this range." in text
    assert "No endpoint is shared by a policy now" in text
    assert "Lines appear here once calls have been answered in this range." in text
    assert "at least eight at an endpoint" in text


async def test_the_queues_are_told_with_what_adds_up(world):
    lay(world)
    world.admission.seen("gw1", AdmissionSeen(at_wall_ms=NOW, endpoints=(view(),)))
    html = (await (await world.user("olga")).get("/admission")).text
    text = words(html)
    assert "7 calls wait, the longest for 8.40 s; 13 run." in text
    assert "5,260 submitted = 5,200 done + 7 waiting + 13 running + 37 refused + 3 evicted" in text
    assert "does not add up" not in text
    assert "13 of 128" in text
    assert "310 ms 80 % 120 ms – 900 ms" in text
    assert "long prompts: 1 read, 5 wait" in text
    assert "pacing a long prompt" in text
    assert 'href="/calls?tenant=reports&amp;state=in_flight"' in html or 'href="/calls?tenant=reports&state=in_flight"' in html
    assert [re.sub(r".*?([a-z]+)$", r"\1", name) for name in re.findall(r'<th scope="row"><a href="/calls\?tenant=(\w+)&', html)][
        :3
    ] == [
        "reports",
        "globex",
        "acme",
    ]


async def test_what_does_not_add_up_is_said(world):
    world.admission.seen("gw1", AdmissionSeen(at_wall_ms=NOW, endpoints=(msgspec.structs.replace(view(), submitted=9_999),)))
    assert "does not add up, by 4,739" in words((await (await world.user("olga")).get("/admission")).text)


async def test_degraded_sharing_and_pacing_that_stopped_are_said(world):
    told = msgspec.structs.replace(view(degraded=True), pacing="cache does not hold")
    world.admission.seen("gw1", AdmissionSeen(at_wall_ms=NOW, endpoints=(told,)))
    text = words((await (await world.user("olga")).get("/admission/now")).text)
    assert "shares are per gateway: the shared counters are away" in text
    assert "pacing stopped: cache does not hold" in text


async def test_masking_leads_the_page_and_home(world):
    lay(world, broken=30)
    client = await world.user("olga")
    page = (await client.get("/admission?_format=json")).json()
    assert page["tone"] == "bad"
    assert page["sentence"].startswith(
        "All calls together keep their objective, and hide that class interactive comes late: 30.0 % of 100 calls"
    )
    assert "Nothing is wrong" in (await client.get("/")).text or "Nothing has called" in (await client.get("/")).text
    await world.admission.look()
    home = (await client.get("/?_format=json")).json()
    assert home["tone"] == "bad"
    assert home["sentence"].startswith("Class interactive: 30.0 % of 100 calls in 15 min came later")
    assert home["attention"][0]["link"] == "/admission?range=15m"


async def test_the_quiet_control_alarms_nobody(world):
    lay(world, broken=5)
    await world.admission.look()
    assert world.admission.alarms() == ()
    page = (await (await world.user("olga")).get("/admission?_format=json")).json()
    assert page["tone"] == "ok"
    assert "Every class keeps its first-token objective." in page["sentence"]


async def test_who_stalled_whom_with_links_and_parts(world):
    lay(world)
    html = (await (await world.user("olga")).get("/admission")).text
    assert "Acme lost 2.30 s to reports over 1 call: 100 % of all it lost, estimated." in words(html)
    row = next(r for r in re.findall(r"<tr>.*?</tr>", html, re.DOTALL) if 'href="/calls?tenant=acme">acme' in r and "heat-" in r)
    assert 'class="num heat-6"' in row
    assert "before the first token 2.30 s" in row


async def test_figures_carry_interval_n_and_method(world):
    lay(world)
    html = (await (await world.user("olga")).get("/admission")).text
    assert 'title="95 % 110 ms – 3.46 s, n = 900, exact quantile by rank; 95 % interval by order statistics"' in html
    text = words(html)
    for heading in ("By class", "By tenant", "By tenant, class and prompt size", "Time alone"):
        assert heading in text
    assert "interactive 2.00 s for 95.0 % (assumed, none is configured)" not in text, (
        "only classes that were seen have an objective"
    )
    assert "short from 0, medium from 512, long from 2,048, giant from 8,192" in text
    assert "globex, batch, giant" in text


async def test_configured_objectives_are_drawn_and_named(world):
    lay(world)
    world.evidence.objectives = {"interactive": Objective(klass="interactive", first_token_ms=1_500.0)}
    html = (await (await world.user("olga")).get("/admission")).text
    assert "interactive 1.50 s for 95.0 %." in words(html)
    assert 'class="goal class-0"' in html


async def test_ranges_and_endpoints_stay_in_the_address(world):
    client = await world.user("olga")
    await client.get("/admission?range=15m&endpoint=vllm-0")
    asked = world.evidence.asked[-1]
    assert (asked.endpoint, asked.until_wall_ms - asked.since_wall_ms) == ("vllm-0", HOUR_MS // 4 + 1)
    assert (await client.get("/admission?range=1y")).status_code == 400
    lay(world)
    html = (await client.get("/admission?endpoint=vllm-0")).text
    assert 'href="/admission?endpoint=vllm-0&amp;range=24h"' in html


async def test_facts_that_are_away_leave_the_queues(world):
    world.evidence.away = "the disk is gone"
    world.admission.seen("gw1", AdmissionSeen(at_wall_ms=NOW, endpoints=(view(queued=2),)))
    text = words((await (await world.user("olga")).get("/admission")).text)
    assert "the disk is gone" in text
    assert "2 calls wait" in text
    await world.admission.look()
    assert world.admission.latest is None
    assert "the disk is gone" in world.admission.problem
    assert metrics_of(world.admission) == ()


async def test_names_from_outside_cannot_write_markup(world):
    lay(world)
    evil = '</script><b onmouseover="x">'
    found = world.evidence.rows
    world.evidence.rows = msgspec.structs.replace(
        found,
        counts=(*found.counts, counts("class", 50, 0, klass=evil)),
        moments=(Moment(start_wall_ms=STEP - 60_000, klass=evil, calls=50, p50_ms=1.0, p99_ms=2.0, tokens=1),),
    )
    tenant = msgspec.structs.replace(view().tenants[0], tenant=evil)
    world.admission.seen(
        "gw1", AdmissionSeen(at_wall_ms=NOW, endpoints=(msgspec.structs.replace(view(), endpoint=evil, tenants=(tenant,)),))
    )
    html = (await (await world.user("olga")).get("/admission")).text
    assert "<b onmouseover" not in html
    assert html.count("</script>") == html.count("<script")


# --- one tenant sees itself


async def test_a_tenant_sees_its_own_and_the_rest_as_one(world):
    lay(world)
    world.admission.seen("gw1", AdmissionSeen(at_wall_ms=NOW, endpoints=(view(),)))
    client = await world.user("anna")
    for path in ("/admission", "/admission/now", "/api/v1/admission", "/api/v1/admission/now", "/admission?_format=json"):
        text = (await client.get(path)).text
        for other in ("globex", "reports"):
            assert f'"{other}"' not in text, path
            assert f">{other}<" not in text, path
    assert world.evidence.asked[-1].tenant == "acme"
    now = msgspec.json.decode((await client.get("/api/v1/admission/now")).content, type=AdmissionNow)
    (endpoint,) = now.endpoints
    assert [t.now.tenant for t in endpoint.tenants] == ["acme"]
    assert not endpoint.whole
    assert (endpoint.view.submitted, endpoint.view.queued, endpoint.view.in_flight_tokens) == (0, 0, 0.0)
    stalls = (await client.get("/api/v1/admission")).json()["stalls"]
    assert {(c["victim"], c["aggressor"]) for c in stalls["cells"]} == {("acme", NOT_YOURS)}


# --- the live queues


class Clock:
    def __init__(self) -> None:
        self.at = NOW

    def __call__(self) -> WallMs:
        return WallMs(self.at)


def book(clock: Clock) -> AdmissionBook:
    return AdmissionBook(SimpleNamespace(), dict, clock)  # type: ignore[arg-type]


def tell(found: AdmissionBook, *views, gateway: str = "gw1") -> None:
    found.seen(gateway, AdmissionSeen(at_wall_ms=0, endpoints=views))


def test_served_shares_are_of_the_last_minute_against_weights():
    clock = Clock()
    found = book(clock)
    for i in range(40):
        tell(found, view(served=100.0 * i))
        clock.at += 5_000
    (endpoint,) = found.now(OLGA)
    by_name = {t.now.tenant: t for t in endpoint.tenants}
    assert {n: round(t.served_share, 4) for n, t in by_name.items()} == {"acme": 0.4444, "globex": 0.2222, "reports": 0.3333}
    assert {n: t.entitled_share for n, t in by_name.items()} == {"acme": 0.5, "globex": 0.25, "reports": 0.25}
    history = found._served[("gw1", "vllm-0")]
    assert history[-1][0] - history[0][0] <= 60_000


def test_a_counter_that_begins_again_counts_from_zero():
    clock = Clock()
    found = book(clock)
    tell(found, view(served=9_000))
    clock.at += 5_000
    tell(found, view(served=10))
    (endpoint,) = found.now(OLGA)
    assert sum(t.served_share or 0 for t in endpoint.tenants) == pytest.approx(1.0)


def test_idle_tenants_take_no_part_of_what_others_are_due():
    clock = Clock()
    found = book(clock)
    idle = msgspec.structs.replace(view().tenants[0], tenant="idle", queued=0, running=0, weight=100.0, served_tokens=5.0)
    tell(found, msgspec.structs.replace(view(), tenants=(*view().tenants, idle)))
    by_name = {t.now.tenant: t.entitled_share for t in found.now(OLGA)[0].tenants}
    assert by_name["idle"] == 0.0 or by_name["idle"] == pytest.approx(100 / 104)
    clock.at += 5_000
    tell(found, msgspec.structs.replace(view(), tenants=(*view().tenants, idle)))
    assert {t.now.tenant: t.entitled_share for t in found.now(OLGA)[0].tenants}["acme"] == 0.5


def test_a_gateway_that_falls_silent_is_shown_as_old_and_one_that_shares_nothing_is_gone():
    clock = Clock()
    found = book(clock)
    tell(found, view())
    clock.at += 5_001
    assert found.now(OLGA)[0].silent
    tell(found)
    assert found.now(OLGA) == ()
    assert found._served == {}


def test_most_waiting_comes_first_over_gateways():
    found = book(Clock())
    tell(found, view("a", queued=2), view("b", queued=9))
    tell(found, view("a", queued=5), gateway="gw2")
    assert [(e.view.endpoint, e.gateway) for e in found.now(OLGA)] == [("b", "gw1"), ("a", "gw2"), ("a", "gw1")]
    assert [t.now.tenant for t in found.now(ANNA)[0].tenants] == ["acme"]


def test_gateways_are_bounded(monkeypatch):
    monkeypatch.setattr("headway.control.admission.LINK_GATEWAYS_MAX", 3)
    clock = Clock()
    found = book(clock)
    for i in range(5):
        clock.at += 1
        tell(found, view(), gateway=f"g{i}")
    assert sorted(e.gateway for e in found.now(OLGA)) == ["g2", "g3", "g4"]


async def test_the_same_question_within_seconds_is_asked_once(world):
    lay(world)
    for _ in range(3):
        await world.admission.report(NOW - HOUR_MS, NOW, 60_000, "", OLGA)
    assert len(world.evidence.asked) == 1
    await world.admission.report(NOW - HOUR_MS, NOW, 60_000, "", ANNA)
    assert len(world.evidence.asked) == 2
    for i in range(KEPT_MAX + 3):
        await world.admission.report(NOW - HOUR_MS, NOW, 60_000, f"e{i}", OLGA)
    assert len(world.admission._kept) == KEPT_MAX


# --- the alarm as metrics, the API


async def test_the_alarm_is_a_metric(world):
    lay(world, broken=30)
    await world.admission.look()
    assert world.evidence.asked[-1].until_wall_ms - world.evidence.asked[-1].since_wall_ms == ALARM_RANGE_MS + 1
    families = {name: samples for name, _, _, samples in metrics_of(world.admission)}
    assert families["headway_admission_masked"] == [("", 2.0)]
    assert ('{kind="class",name="interactive"}', 1.0) in families["headway_admission_masked_part"]
    assert ('{class="interactive"}', 0.3) in families["headway_admission_objective_broken_share"]
    assert ('{class="",pooled="true",quantile="0.99"}', 120.0) in families["headway_admission_first_token_ms"]
    lay(world)
    await world.admission.look()
    assert {n: s for n, _, _, s in metrics_of(world.admission)}["headway_admission_masked"] == [("", 0.0)]


async def test_the_api_says_what_the_page_says(world):
    lay(world, broken=30)
    client = await world.bearer(Role.VIEWER)
    report = msgspec.json.decode((await client.get("/api/v1/admission?range=24h")).content, type=AdmissionReport)
    assert report.until_wall_ms - report.since_wall_ms == 24 * HOUR_MS + 1
    assert [p.name for p in report.masking.masked] == ["interactive", "acme"]
    page = (await client.get("/admission?range=24h&_format=json")).json()
    assert msgspec.convert(page["report"], AdmissionReport) == report


# --- a call's page


async def test_a_call_says_who_cost_it_time(world):
    call, giant = new_id("call", WallMs(NOW - 5_000)), new_id("call", WallMs(NOW - 6_000))
    fact = world.store(call, tenant="acme", attempts=1, first_token_ms=2_330.0, duration_ms=3_000.0)
    tried = AttemptFact(call=call, attempt=1, started_wall_ms=NOW - 5_000, gateway="gw1", endpoint="vllm-0", duration_ms=3_000.0)
    world.facts.stored[call] = StoredCall(fact=fact, attempts=(tried,))
    line = alone_by_place(spans())[("vllm-0", "m")]
    culprit = Culprit(
        call=giant, tenant="reports", klass="batch", uncached_tokens=28_000, pieces=12, stall_ms=2_290.0, first_token_ms=2_290.0
    )
    world.evidence.stalls = Stalled(culprits=(culprit,), unexplained_ms=10.0, alone=line, expected_ms=30.0)
    html = (await (await world.user("olga")).get(f"/calls/{call}")).text
    text = words(html)
    assert "Alone its first token would have taken about 30 ms at this endpoint; it took 2.33 s." in text
    assert f'<a href="/calls/{giant}"' in html
    assert "2.29 s – 2.29 s – reports batch 28,000 12" in text
    assert "10 ms are laid to nobody." in text
    hidden = words((await (await world.user("anna")).get(f"/calls/{call}")).text)
    assert "reports" not in hidden
    assert "No other call is seen to have cost it time." in hidden


# --- charts


async def test_the_chart_has_a_step_for_every_minute_and_a_mark_for_every_giant(world):
    lay(world)
    report = await world.admission.report(NOW - HOUR_MS, NOW, 60_000, "", OLGA)
    data = over_time(report)
    assert len(data.starts_wall_ms) in (60, 61)
    assert {line.klass for line in data.lines} == {"interactive", "batch"}
    assert sum(v is not None for line in data.lines for v in line.p99_ms) == 2
    assert max(data.tokens_per_s) == 1_000
    svg = class_chart(data)
    assert svg.count('class="giant"') == 1
    assert "reports: 28,000 tokens admitted" in svg
    assert "first token after 3.00 s" in svg
    given = msgspec.json.decode(str(columns(data)))
    assert given["marks"] == [(NOW - 90_000) / 1000]
    assert len(given["x"]) == len(given["lines"][0]["y"]) == len(given["tokens"])
    assert 'aria-label="Tokens a second, at most 1,000"' in tokens_chart(data)


async def test_without_a_value_there_is_no_chart(world):
    data = over_time(await world.admission.report(NOW - HOUR_MS, NOW, 60_000, "", OLGA))
    assert (class_chart(data), tokens_chart(data)) == ("", "")


def test_shares_and_heat():
    assert 'aria-label="33% of what was served; its weight entitles it to 25%"' in shares(0.25, 1 / 3)
    assert "nothing was served" in shares(0.25, None)
    assert heat(None, SimpleNamespace(cells=())) == 0  # type: ignore[arg-type]
