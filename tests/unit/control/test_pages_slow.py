"""The page Slow calls from its parts: verdicts in order of time, causes and their sums, calls that took alike, words, who may see what."""

import re

import pytest

from headway.calls.phases.model import Cause, Evidence, Phase, Seen, Split, Verdict
from headway.calls.phases.prefix_change import Prompt
from headway.control.errors import Refused
from headway.control.pages.slow import since_of
from headway.control.pages.slow_charts import phase_bar
from headway.control.pages.slow_report import SlowFilter, SlowRow, causes_of, twins_of, window_of
from headway.control.pages.slow_words import ADVICE, CAUSES, PHASES, SHORT, cause_words, evidence_words
from headway.facts.phases import Read

NOW = 1_790_000_000_000
MINUTE = 60_000


def seen(i: int, at_ms: int, tenant: str = "acme", queue_ms: float = 0.0, probe: bool = False) -> Seen:
    return Seen(
        call=f"call{i}",
        at_ms=at_ms,
        tenant=tenant,
        provider="p",
        model="m",
        duration_ms=queue_ms + 500.0 + i % 9,
        queue_ms=queue_ms,
        sent_ms=queue_ms,
        first_token_ms=queue_ms + 200.0 + i % 5,
        last_token_ms=queue_ms + 490.0 + i % 9,
        input_tokens=500,
        output_tokens=30,
        probe=probe,
    )


def read(late: int = 5) -> Read:
    calls = [seen(i, NOW - (200 - i) * MINUTE, ("acme", "globex")[i % 2]) for i in range(160)]
    calls += [seen(200 + i, NOW - (20 - i) * MINUTE, ("acme", "globex")[i % 2], queue_ms=2_000.0) for i in range(late)]
    calls.append(seen(300, NOW - 2 * MINUTE, probe=True, queue_ms=9_000.0))
    prompts = tuple(Prompt(call=each.call, at_ms=each.at_ms, target="p/m", tenant=each.tenant, feature="search") for each in calls)
    return Read(seen=tuple(calls), prompts=prompts)


def test_calls_of_the_range_are_judged_by_those_before() -> None:
    window = window_of(read(), NOW - 60 * MINUTE, NOW, "")
    assert {row.call for row in window.rows} == {f"call{200 + i}" for i in range(5)}, "no probe, nobody who was as usual"
    assert {row.cause for row in window.rows} == {Cause.OWN_QUEUE}
    assert window.judged == 20 + 5
    assert window.unknown == 0
    assert window.features == ("search",)
    assert window.models == ("p/m",)


def test_a_tenant_is_told_of_its_own_only() -> None:
    window = window_of(read(), NOW - 60 * MINUTE, NOW, "globex")
    assert {row.tenant for row in window.rows} == {"globex"}
    assert window.tenants == ("globex",)
    assert window.judged == len([s for s in read().seen if s.tenant == "globex" and s.at_ms >= NOW - 60 * MINUTE and not s.probe])


def test_without_a_measure_nothing_is_called_slow() -> None:
    window = window_of(Read(seen=read().seen[-4:], prompts=()), NOW - 60 * MINUTE, NOW, "")
    assert window.rows == ()
    assert window.unknown == window.judged == 3


def row(name: str, cause: Cause, took: float, longest: Phase, explained: float = 0.9, tenant: str = "acme") -> SlowRow:
    verdict = Verdict(call=name, slow=True, cause=cause, excess_ms=1_000.0, explained_ms=explained * 1_000)
    return SlowRow(
        call=name,
        at_wall_ms=NOW,
        tenant=tenant,
        feature="search",
        model="p/m",
        split=Split(call=name, duration_ms=took, parts_ms={longest.value: took - 1.0, Phase.CLOSE.value: 1.0}),
        verdict=verdict,
    )


def test_causes_by_what_they_cost_and_the_unknown_last() -> None:
    rows = (
        [row("a", Cause.CANNOT_TELL, 1, Phase.PROVIDER)] * 5
        + [row("b", Cause.RETRY, 1, Phase.ATTEMPTS)] * 2
        + [row("c", Cause.OWN_QUEUE, 1, Phase.QUEUE)]
    )
    found = causes_of(rows)
    assert [(each.cause, each.calls) for each in found] == [(Cause.RETRY, 2), (Cause.OWN_QUEUE, 1), (Cause.CANNOT_TELL, 5)]
    assert sum(each.share for each in found) == pytest.approx(1.0)
    assert causes_of([]) == ()


def test_twins_took_alike_for_other_reasons_and_look_unlike() -> None:
    alike = [
        row("a", Cause.OWN_QUEUE, 2_340, Phase.QUEUE),
        row("b", Cause.RETRY, 2_341, Phase.ATTEMPTS),
        row("c", Cause.LONG_PROMPT, 2_338, Phase.PROVIDER),
        row("d", Cause.COLD_CACHE, 2_339, Phase.PROVIDER, explained=0.99),
        row("e", Cause.SLOW_READER, 2_360, Phase.READER, explained=0.7),
        row("f", Cause.CANNOT_TELL, 2_340, Phase.PROVIDER),
        row("g", Cause.TOOL_WAIT, 5_000, Phase.TOOL),
    ]
    found = twins_of(alike)
    assert {each.call for each in found} == {"a", "b", "d", "e"}, "of two that look alike the clearer one"
    assert twins_of([alike[0], alike[6]]) == ()
    assert twins_of([]) == ()


def test_filters() -> None:
    one = row("a", Cause.RETRY, 1, Phase.ATTEMPTS)
    assert SlowFilter(tenant="acme", feature="search", model="M", cause="retry").holds(one)
    assert not SlowFilter(cause="own_queue").holds(one)
    assert SlowFilter(cause="own_queue").holds(one, any_cause=True)
    assert not SlowFilter(model="other").holds(one)


def test_a_bar_is_the_whole_call_whatever_its_parts() -> None:
    parts = {phase.value: 10.0 * (i + 1) for i, phase in enumerate(Phase)}
    split = Split(call="a", duration_ms=sum(parts.values()), parts_ms=parts)
    svg = phase_bar(split, split.duration_ms, 100.0)
    widths = [float(w) for w in re.findall(r'<rect class="call-phase[^>]* width="([\d.]+)%', svg)]
    assert len(widths) == len(Phase)
    assert sum(widths) == pytest.approx(100, abs=0.02)
    assert 'class="expected"' in svg
    assert 'class="expected"' not in phase_bar(split, split.duration_ms, None)
    assert "<rect" not in phase_bar(Split(call="a", duration_ms=0.0, parts_ms={}), 0.0)


def test_everything_has_words() -> None:
    assert set(CAUSES) == set(ADVICE) == set(Cause)
    assert set(PHASES) == set(SHORT) == {phase.value for phase in Phase}
    assert cause_words("") == cause_words(None) == ""
    assert (
        evidence_words(Evidence(what="uncached prompt tokens", value=28_000, usual=1_240, unit="tokens"))
        == "uncached prompt tokens: 28,000, usually 1,240"
    )
    assert evidence_words(Evidence(what="waited", value=1_530.0, usual=0.0, unit="ms")) == "waited: 1.53 s, usually 0 ms"
    assert (
        evidence_words(Evidence(what="others were slow", value=4.0, unit="calls, p = 0.002"))
        == "others were slow: 4 calls, p = 0.002"
    )
    assert evidence_words(Evidence(what="region is now x")) == "region is now x"


def test_instants() -> None:
    assert since_of("1h", NOW) == (NOW - 60 * MINUTE) // MINUTE * MINUTE
    assert since_of("2026-11-24T14:00", NOW) == since_of("2026-11-24T15:00+01:00", NOW) == 1_795_528_800_000
    assert since_of(str(NOW), NOW) == NOW
    for text in ("yesterday", "9" * 20, "2026-13-01"):
        with pytest.raises(Refused):
            since_of(text, NOW)


async def test_the_page_says_that_the_facts_are_away(world) -> None:
    page = await (await world.user("olga")).get("/slow?since=1h")
    assert page.status_code == 200
    assert "Cannot tell which calls were slow" in page.text


async def test_what_is_no_choice_is_refused_and_others_are_not_shown(world) -> None:
    olga, anna = await world.user("olga"), await world.user("anna")
    assert (await olga.get("/slow?cause=weather")).status_code == 400
    assert (await olga.get("/slow?since=yesterday")).status_code == 400
    assert (await anna.get("/slow?tenant=globex")).status_code == 403
    assert (await anna.get("/slow?tenant=acme")).status_code == 200
