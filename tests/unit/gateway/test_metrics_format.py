"""The page that Prometheus reads, parsed as strictly as its format is written."""

import math
import re
import time
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calls.model import Outcome
from headway.facts.model import AttemptFact, CallFact
from headway.facts.spool import SpoolStats
from headway.gateway.families import GatewayMetrics, InFlight
from headway.gateway.metrics import OTHER, Registry
from headway.kernel.limits import METRIC_LABEL_CHARS_MAX, METRIC_SERIES_PER_FAMILY_MAX, METRIC_VALUES_PER_LABEL_MAX

Labels = tuple[tuple[str, str], ...]
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
ESCAPES = {"\\": "\\", "n": "\n", '"': '"'}


@dataclass
class Parsed:
    kind: str
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)


def parse(page: str) -> dict[str, Parsed]:
    """The text format 0.0.4, with no leniency."""
    assert page.endswith("\n")
    families: dict[str, Parsed] = {}
    helped: set[str] = set()
    current = ""
    for line in page[:-1].split("\n"):
        assert line == line.strip()
        assert line
        if line.startswith("# HELP "):
            current = line.split(" ", 3)[2]
            assert current not in helped, f"a second HELP for {current}"
            assert "\\" not in re.sub(r"\\[\\n]", "", line)
            helped.add(current)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == current, "TYPE follows its HELP"
            assert name not in families, f"a second TYPE for {name}"
            assert NAME.fullmatch(name)
            assert kind in ("counter", "gauge", "histogram")
            families[name] = Parsed(kind)
        else:
            name, labels, value = sample(line)
            family = families[current]
            suffixes = ("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",)
            assert name in {current + suffix for suffix in suffixes}, f"{name} outside its family {current}"
            assert (name, labels) not in family.samples, f"{line} twice"
            family.samples[name, labels] = value
    for name, family in families.items():
        if family.kind == "histogram":
            check_histogram(name, family)
    return families


def sample(line: str) -> tuple[str, Labels, float]:
    found = NAME.match(line)
    assert found
    at, labels = found.end(), []
    if line[at] == "{":
        at += 1
        while True:
            label = LABEL_NAME.match(line, at)
            assert label, line
            at = label.end()
            assert line[at : at + 2] == '="', line
            at += 2
            value = ""
            while line[at] != '"':
                if line[at] == "\\":
                    at += 1
                    value += ESCAPES[line[at]]
                else:
                    value += line[at]
                at += 1
            labels.append((label.group(), value))
            at += 1
            if line[at] == "}":
                break
            assert line[at] == ",", line
            at += 1
        at += 1
    assert len({name for name, _ in labels}) == len(labels)
    assert line[at] == " "
    text = line[at + 1 :]
    assert re.fullmatch(r"[+-]?(Inf|\d+(\.\d+)?([eE][+-]?\d+)?)|NaN", text), line
    return found.group(), tuple(sorted(labels)), float(text)


def check_histogram(name: str, family: Parsed) -> None:
    series: dict[Labels, dict[float, float]] = {}
    for (sample_name, labels), value in family.samples.items():
        if sample_name == f"{name}_bucket":
            le = float(dict(labels)["le"])
            series.setdefault(tuple(each for each in labels if each[0] != "le"), {})[le] = value
    for labels, buckets in series.items():
        bounds = sorted(buckets)
        assert bounds[-1] == math.inf
        assert [buckets[le] for le in bounds] == sorted(buckets.values()), "cumulative"
        assert family.samples[f"{name}_count", labels] == buckets[math.inf]
        assert (f"{name}_sum", labels) in family.samples
    assert len(family.samples) == sum(len(buckets) + 2 for buckets in series.values())


def value(page: dict[str, Parsed], name: str, **labels: str) -> float:
    family = page.get(name) or page[name.rsplit("_", 1)[0]]
    return family.samples[name, tuple(sorted(labels.items()))]


def call(**more: object) -> CallFact:
    values = {
        "call": "c",
        "started_wall_ms": 1,
        "duration_ms": 250.0,
        "gateway": "g",
        "dialect": "anthropic",
        "feature": "f",
        "tenant": "t",
    }
    return CallFact(**{**values, **more})  # type: ignore[arg-type]


def test_an_untouched_page_is_valid() -> None:
    page = parse(GatewayMetrics().render())
    assert value(page, "headway_calls_submitted_total") == 0
    assert value(page, "headway_loop_lag_seconds_count") == 0
    assert value(page, "headway_calls_lost") == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20), st.floats(allow_nan=False)), max_size=20))
def test_any_label_value_survives(rows: list[tuple[str, str, float]]) -> None:
    registry = Registry()
    gauge = registry.gauge("a_gauge", 'help with \\ and\nline and "quotes"', ("one",), ("two",))
    for one, two, number in rows:
        gauge.labels(one, two).set(number)
    samples = parse(registry.render())["a_gauge"].samples
    wanted = {(one, two): number for one, two, number in rows}
    assert {(dict(labels)["one"], dict(labels)["two"]): number for (_, labels), number in samples.items()} == wanted


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 100), max_size=50))
def test_histogram_counts(values: list[float]) -> None:
    registry = Registry()
    series = registry.histogram("h_seconds", "x", (0.5, 1.0, 10.0)).labels()
    for each in values:
        series.observe(each)
    page = parse(registry.render())
    for le in (0.5, 1.0, 10.0):
        assert value(page, "h_seconds_bucket", le=repr(le).removesuffix(".0")) == sum(each <= le for each in values)
    assert value(page, "h_seconds_count") == len(values)
    assert value(page, "h_seconds_sum") == pytest.approx(sum(values))


def test_label_values_past_the_bound_count_as_other() -> None:
    registry = Registry()
    counter = registry.counter("c_total", "x", ("outcome",), ("tenant",))
    for i in range(METRIC_VALUES_PER_LABEL_MAX + 50):
        counter.labels("done", f"t{i}").inc()
        counter.labels("done", f"t{i}").inc()
    samples = parse(registry.render())["c_total"].samples
    assert len(samples) == METRIC_VALUES_PER_LABEL_MAX + 1
    assert samples["c_total", (("outcome", "done"), ("tenant", OTHER))] == 100
    assert sum(samples.values()) == 2 * (METRIC_VALUES_PER_LABEL_MAX + 50)
    counter.labels("done", "x" * 10_000).inc()
    assert max(len(line) for line in registry.render().splitlines()) < METRIC_LABEL_CHARS_MAX + 100


def test_series_past_the_bound_fold_but_keep_closed_labels() -> None:
    registry = Registry()
    counter = registry.counter("c_total", "x", ("outcome",), ("a", "b"))
    for i in range(60):
        for j in range(60):
            counter.labels("done" if i % 2 else "failed", f"a{i}", f"b{j}").inc()
    samples = parse(registry.render())["c_total"].samples
    assert len(samples) <= METRIC_SERIES_PER_FAMILY_MAX + 2
    assert sum(samples.values()) == 3600
    assert sum(n for (_, labels), n in samples.items() if dict(labels)["outcome"] == "done") == 1800


def test_the_number_of_labels_is_checked() -> None:
    with pytest.raises(TypeError, match="c_total"):
        Registry().counter("c_total", "x", ("a",)).labels("1", "2")


def test_a_call_is_counted_everywhere() -> None:
    metrics = GatewayMetrics()
    metrics.submitted.inc()
    fact = call(first_token_ms=30.0, input_tokens=10, output_tokens=5, cached_tokens=4, cost_nano_usd=2_500_000_000, queue_ms=1.0)
    metrics.ended(fact, [AttemptFact(call="c", attempt=2, started_wall_ms=1, gateway="g", provider="p", head_ms=20.0)])
    page = parse(metrics.render())
    both = {"feature": "f", "tenant": "t"}
    assert value(page, "headway_calls_total", outcome="done", dialect="anthropic", **both) == 1
    assert value(page, "headway_first_token_seconds_bucket", feature="f", route="", le="0.05") == 1
    assert value(page, "headway_first_token_seconds_bucket", feature="f", route="", le="0.025") == 0
    assert value(page, "headway_call_seconds_sum", feature="f", route="") == 0.25
    assert value(page, "headway_tokens_total", kind="input", **both) == 10
    assert value(page, "headway_tokens_total", kind="cached_input", **both) == 4
    assert value(page, "headway_cost_usd_total", **both) == 2.5
    assert value(page, "headway_retries_total", provider="p") == 1
    assert value(page, "headway_attempts_total", provider="p", outcome="done") == 1
    metrics.ended(call(outcome="refused", error_code="budget_exhausted"), [])
    page = parse(metrics.render())
    assert value(page, "headway_budget_refusals_total", tenant="t") == 1
    assert value(page, "headway_refusals_total", code="budget_exhausted", tenant="t") == 1
    assert value(page, "headway_call_seconds_count", feature="f", route="") == 1


def test_nothing_vanishes() -> None:
    metrics = GatewayMetrics()
    metrics.watch_in_flight(lambda: InFlight(queued=2, running=3))
    metrics.submitted.inc(5 + len(Outcome))
    for outcome in Outcome:
        metrics.ended(call(outcome=outcome, error_code="x"), [])
    page = parse(metrics.render())
    assert value(page, "headway_calls_lost") == 0
    assert value(page, "headway_calls_in_flight", state="queued") == 2
    metrics.submitted.inc()
    assert value(parse(metrics.render()), "headway_calls_lost") == 1


def test_the_spool_is_shown() -> None:
    metrics = GatewayMetrics()
    stats = SpoolStats(
        put={"call": 7},
        shed={("call", "queue_full"): 2},
        written=5,
        queued=1,
        segments_closed=3,
        disk_bytes=99,
        recovered_rows=0,
        recovery_dropped_bytes=4,
    )
    metrics.watch_spool(lambda: stats)
    page = parse(metrics.render())
    assert value(page, "headway_facts_put_total", table="call") == 7
    assert value(page, "headway_facts_shed_total", table="call", reason="queue_full") == 2
    assert value(page, "headway_facts_spooled_total") == 5
    assert value(page, "headway_spool_segments") == 3
    assert value(page, "headway_spool_recovery_dropped_bytes") == 4


def test_the_hot_path_is_quick() -> None:
    registry = Registry()
    counter = registry.counter("c_total", "x", (), ("a",)).labels("1")
    histogram = registry.histogram("h_seconds", "x", (0.1, 0.5, 1.0, 5.0, 10.0)).labels()
    began = time.process_time_ns()
    for _ in range(20_000):
        counter.inc()
        histogram.observe(0.7)
    each_us = (time.process_time_ns() - began) / 40_000 / 1000
    assert each_us < 5, f"{each_us:.2f} µs"
