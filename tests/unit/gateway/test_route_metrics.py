"""Histograms by route with exemplars, read by the official parsers of both formats."""

import time
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as classic_families

from headway.calls.phases.model import Phase
from headway.calls.phases.split import split
from headway.control.exposition import merged
from headway.facts.model import AttemptFact, CallFact
from headway.facts.seen import seen_of
from headway.facts.token_times import encode
from headway.gateway.families import GatewayMetrics
from headway.gateway.flow import Track
from headway.gateway.metrics import Distribution, Mark, Registry
from headway.gateway.route_metrics import PHASES, Ended, gaps_s, plain_parts_ms
from headway.kernel.instants import MonoNs, WallMs
from headway.kernel.openmetrics import CLASSIC, OPENMETRICS, classic, openmetrics, page_for, wants_openmetrics
from headway.kernel.traces import trace_id

MS = 1_000_000
CALL_ID = "call_01jd8zk3m4aaaaaaaaaaaaaaaa"
MARK = Mark("call_1", "", 1_764_000_000_500.0)


def track(reads_ms: list[float], first_ms: float | None = None, last_ms: float | None = None) -> Track:
    made = Track(number=1, target=None, started=MonoNs(0), started_wall=WallMs(0))  # type: ignore[arg-type]
    made.reads = [int(ms * MS) for ms in reads_ms]
    if reads_ms:
        made.first_token = MonoNs(int((first_ms if first_ms is not None else reads_ms[0]) * MS))
        made.last_token = MonoNs(int((last_ms if last_ms is not None else reads_ms[-1]) * MS))
    return made


def call(**more: object) -> CallFact:
    values = {
        "call": CALL_ID,
        "started_wall_ms": 1_764_000_000_000,
        "duration_ms": 900.0,
        "gateway": "g",
        "feature": "search",
        "routed": "one/m1",
        "attempts": 1,
        "first_token_ms": 120.0,
        "queue_ms": 10.0,
        "dialect": "openai-chat",
    }
    return CallFact(**{**values, **more})  # type: ignore[arg-type]


def attempt(reads_ms: list[float], **more: object) -> AttemptFact:
    values = {
        "call": CALL_ID,
        "attempt": 1,
        "started_wall_ms": 1_764_000_000_000,
        "gateway": "g",
        "provider": "one",
        "start_ms": 0.0,
        "sent_ms": 30.0,
        "queue_ms": 10.0,
        "first_token_ms": 120.0,
        "last_token_ms": 880.0,
        "status": 200,
        "token_times": encode(0, [int(ms * MS) for ms in reads_ms]),
    }
    return AttemptFact(**{**values, **more})  # type: ignore[arg-type]


def recorded(reads_ms: list[float], blocked: tuple[int, ...] = (), **more: object) -> GatewayMetrics:
    metrics = GatewayMetrics()
    metrics.submitted.inc()
    fact = call(**more)
    metrics.ended(fact, [attempt(reads_ms)], track(reads_ms), blocked)
    return metrics


READS = [120.0, 140.0, 160.0, 200.0, 880.0]


PINNED = {
    "headway_first_token_seconds": ("feature", "route"),
    "headway_call_seconds": ("feature", "route"),
    "headway_queue_seconds": ("feature",),
    "headway_upstream_head_seconds": ("provider",),
    "headway_phase_seconds": ("phase", "route"),
    "headway_token_gap_seconds": ("route",),
    "headway_probe_first_token_seconds": ("kind", "route"),
    "headway_admission_wait_seconds": ("class",),
    "headway_loop_lag_seconds": (),
}


def test_histograms_are_pinned_by_name_and_label() -> None:
    families = GatewayMetrics().registry.families()
    assert {family.name: family.label_names for family in families if family.kind == "histogram"} == PINNED


def test_openmetrics_is_read_by_the_official_parser_with_its_exemplars() -> None:
    page = openmetrics(recorded(READS).render(exemplars=True))
    families = {family.name: family for family in openmetrics_families(page)}
    marked = [s for s in families["headway_call_seconds"].samples if s.exemplar]
    (one,) = marked
    assert one.labels == {"feature": "search", "route": "one/m1", "le": "1.0"}
    assert one.exemplar is not None
    assert one.exemplar.labels == {"call": CALL_ID, "trace_id": trace_id(CALL_ID).hex()}
    assert one.exemplar.value == 0.9
    assert float(one.exemplar.timestamp or 0) == pytest.approx(1_764_000_000.9)
    assert families["headway_calls"].type == "counter"
    for name in ("headway_first_token_seconds", "headway_token_gap_seconds", "headway_phase_seconds"):
        assert any(sample.exemplar for sample in families[name].samples), name
    for family in families.values():
        for sample in family.samples:
            if sample.exemplar is not None and sample.name.endswith("_bucket"):
                assert sample.exemplar.value <= float(sample.labels["le"])
                assert len("".join([*sample.exemplar.labels, *sample.exemplar.labels.values()])) <= 128


def test_the_old_format_has_no_exemplar_and_the_same_numbers() -> None:
    metrics = recorded(READS)
    assert classic(metrics.render(exemplars=True)) == metrics.render()
    old = {(s.name, *sorted(s.labels.items())): s.value for f in classic_families(metrics.render()) for s in f.samples}
    new = {
        (s.name, *sorted((n, v.removesuffix(".0") if n == "le" else v) for n, v in s.labels.items())): s.value
        for f in openmetrics_families(openmetrics(metrics.render(exemplars=True)))
        for s in f.samples
    }
    assert new == old


def test_a_callers_own_trace_is_the_exemplars() -> None:
    page = recorded(READS, traceparent="00-" + "ab" * 16 + "-" + "cd" * 8 + "-01").render(exemplars=True)
    assert f'trace_id="{"ab" * 16}"' in page


def test_control_joins_the_pages_of_gateways_in_either_format() -> None:
    text = recorded(READS).render(exemplars=True)
    both = merged("# TYPE own gauge\nown 1\n", {"g1": text, "g2": text})
    page, kind = page_for("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", both)
    assert kind == OPENMETRICS
    samples = [s for f in openmetrics_families(page) if f.name == "headway_call_seconds" for s in f.samples if s.exemplar]
    assert {sample.labels["gateway"] for sample in samples} == {"g1", "g2"}
    page, kind = page_for("text/plain", both)
    assert kind == CLASSIC
    assert " # {" not in page
    assert {s.labels["gateway"] for f in classic_families(page) if f.name == "headway_calls" for s in f.samples} == {"g1", "g2"}


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", True),
        ("application/openmetrics-text", True),
        ("text/plain, Application/OpenMetrics-Text ; version=0.0.1", True),
        ("text/plain;version=0.0.4", False),
        ("*/*", False),
        ("", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-textual", False),
    ],
)
def test_who_wants_openmetrics(accept: str, wanted: bool) -> None:
    assert wants_openmetrics(accept) is wanted


def phases(metrics: GatewayMetrics) -> dict[str, float]:
    return {
        s.labels["phase"]: s.value
        for f in classic_families(metrics.render())
        if f.name == "headway_phase_seconds"
        for s in f.samples
        if s.name.endswith("_sum")
    }


def test_phases_of_a_call_add_up_to_it() -> None:
    found = phases(recorded(READS))
    assert set(found) == {phase.value for phase in PHASES} == {phase.value for phase in Phase} - {"tool"}
    assert sum(found.values()) == pytest.approx(0.9)
    assert found["queue"] == pytest.approx(0.030, abs=0.002)
    assert found["provider"] == pytest.approx(0.090, abs=0.002)
    assert found["stall"] == pytest.approx(0.660, abs=0.03), "880 - 200, without an ordinary gap"
    quick = phases(recorded([120.0, 300.0, 540.0, 700.0, 880.0]))
    assert quick["stall"] == 0
    assert quick["decode"] == pytest.approx(0.760, abs=0.002)


def test_gaps_lie_between_the_first_token_and_the_last() -> None:
    assert gaps_s(track([100, 120, 150, 400], 120, 150), None) == [pytest.approx(0.03)]
    assert gaps_s(track([100]), None) == []
    assert gaps_s(track([]), None) == []
    waits = (int(125 * MS), int(140 * MS))
    assert gaps_s(track([100, 120, 150, 160]), waits) == [pytest.approx(0.01), pytest.approx(0.02)]


def test_what_never_reached_a_route_and_parts_of_calls_have_no_phases() -> None:
    assert phases(recorded([], routed="")) == {}
    assert phases(recorded(READS, origin="piece")) == {}


def test_probes_have_a_histogram_of_their_own() -> None:
    metrics = recorded(READS, origin="probe", prompt_ref="headway-probe/long.warm")
    assert phases(metrics) == {}
    page = metrics.render()
    assert 'headway_probe_first_token_seconds_count{kind="long.warm",route="one/m1"} 1' in page
    assert "headway_call_seconds_count{" not in page


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(0, 20), min_size=1, max_size=80))
def test_sorted_values_count_as_single_ones(values: list[float]) -> None:
    one, many = Distribution((0.5, 1.0, 10.0)), Distribution((0.5, 1.0, 10.0))
    for value in sorted(values):
        one.observe(value, MARK)
    many.observe_sorted(sorted(values), lambda _: MARK)
    assert one.counts == many.counts
    assert one.marks == many.marks
    assert many.total == pytest.approx(one.total)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=30), st.sampled_from(["", ' # {call="x",trace_id="' + "0" * 32 + '"} 1 1', ' # {call="']))
def test_no_label_value_is_taken_for_an_exemplar(text: str, evil: str) -> None:
    registry = Registry()
    registry.histogram("h_seconds", 'says "so" and \\ back', (1.0, 5.0), (), ("who",)).labels(text + evil).observe(0.7, MARK)
    registry.counter("c_total", "x", (), ("who",)).labels(text + evil).inc()
    page = registry.render(exemplars=True)
    assert classic(page) == registry.render()
    who = {s.labels["who"] for f in openmetrics_families(openmetrics(page)) for s in f.samples}
    assert who == {(text + evil)[:100]}


def test_one_exemplar_a_bucket_the_newest() -> None:
    series = Distribution((1.0,))
    series.observe(0.2, Mark("old", "", 1.0))
    series.observe(0.3, Mark("new", "", 2.0))
    series.observe(0.4)
    assert [kept and kept[1].call for kept in series.marks] == ["new", None]


def test_the_cost_of_a_call_and_a_token() -> None:
    rng = Random(1)
    reads = [120.0]
    for _ in range(500):
        reads.append(reads[-1] + rng.uniform(5, 40))
    metrics = GatewayMetrics()
    fact = call(duration_ms=reads[-1] + 10)
    tried, seen = attempt(reads, last_token_ms=reads[-1]), track(reads)
    assert max(after - before for before, after in pairwise(reads)) < 250
    best = float("inf")
    for _ in range(30):
        began = time.process_time_ns()
        metrics.routes.count([Ended(fact, [tried], seen, ())])
        best = min(best, time.process_time_ns() - began)
    assert best / 1000 < 500, f"{best / 1000:.0f} µs for 500 tokens"


instants = st.floats(0, 5_000)


@settings(max_examples=300)
@given(st.lists(instants, min_size=6, max_size=6), st.booleans(), st.booleans())
def test_a_plain_calls_parts_are_those_of_its_split(drawn, pooled, in_order):
    values = sorted(drawn) if in_order else drawn
    start, connected, sent, first, last, end = values
    queue_ms = min(values) / 2
    only = attempt(
        [], start_ms=start / 2, queue_ms=queue_ms / 2, connect_ms=None if pooled else (connected - start) / 4, sent_ms=sent - start / 2,
        last_token_ms=last - start / 2,
    )  # fmt: skip
    whole = call(first_token_ms=first, duration_ms=end, queue_ms=queue_ms / 2)
    parts = plain_parts_ms(whole, [only])
    if parts is None:
        return
    told = split(seen_of(whole, [only])).parts_ms
    assert parts == pytest.approx([told[phase] for phase in PHASES], abs=0.01)
    assert sum(parts) == pytest.approx(end)


def test_a_plain_call_takes_the_short_way():
    only = attempt([], start_ms=1.0, queue_ms=0.0, connect_ms=None, sent_ms=2.0, last_token_ms=90.0)
    parts = plain_parts_ms(call(first_token_ms=50.0, duration_ms=100.0, queue_ms=0.0), [only])
    assert parts == (0.0, 3.0, 0.0, 47.0, 41.0, 0.0, 0.0, 9.0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["done", "refused", "evicted", "incomplete"]),
            st.sampled_from(["client", "piece", "probe"]),
            st.sampled_from(["one/m1", "two/m2"]),
            st.floats(121, 3_000),
            st.booleans(),
        ),
        max_size=80,
    )
)
def test_calls_counted_together_count_as_single_ones(drawn) -> None:
    alone, together = GatewayMetrics(), GatewayMetrics()
    for outcome, origin, route, duration_ms, stalled in drawn:
        reads = READS if stalled else READS[:4]
        fact = call(outcome=outcome, origin=origin, routed=route, duration_ms=max(duration_ms, reads[-1]), error_code="x")
        told = (fact, [attempt(reads, last_token_ms=reads[-1])], track(reads), ())
        alone.submitted.inc()
        together.submitted.inc()
        alone.ended(*told)
        alone.render()
        together.ended(*told)
    assert sums_rounded(together.render()) == sums_rounded(alone.render())


def sums_rounded(page: str) -> set[str]:
    """Lines of a page; sums of floats depend on the order in which they were added."""
    return {
        f"{name} {float(value):.6f}" if name.partition("{")[0].endswith(("_sum", "_total")) else f"{name} {value}"
        for name, _, value in (line.rpartition(" ") for line in page.splitlines() if not line.startswith("#"))
    }
