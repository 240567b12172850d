"""Words, charts and merged metrics: pure functions, exact answers."""

import re

import pytest

from headway.control import charts, words
from headway.control.exposition import merged
from headway.control.ports import Bucket
from headway.facts.model import AttemptFact
from headway.kernel.figure import Figure


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, "–"),
        (0.44, "0.4 ms"),
        (9.96, "10.0 ms"),
        (340.2, "340 ms"),
        (999.6, "1.00 s"),
        (1_240, "1.24 s"),
        (12_340, "12.3 s"),
        (185_000, "3 min 05 s"),
        (7_500_000, "2 h 05 min"),
    ],
)
def test_milliseconds(ms, text):
    assert words.milliseconds(ms) == text


@pytest.mark.parametrize(
    ("nano", "text", "short"),
    [
        (None, "unknown", "unknown"),
        (0, "$0", "$0"),
        (1, "$0.000000", "<$0.0001"),
        (1_234_000, "$0.001234", "$0.0012"),
        (37_000_000, "$0.0370", "$0.0370"),
        (5_590_000_000, "$5.59", "$5.59"),
        (1_234_567_000_000_000, "$1,234,567", "$1,234,567"),
    ],
)
def test_money(nano, text, short):
    assert (words.usd(nano), words.usd_short(nano)) == (text, short)


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (None, "–"),
        (0, "0"),
        (9_999, "9,999"),
        (27_230, "27.2k"),
        (999_700, "1M"),
        (999_400, "999k"),
        (1_360_000, "1.36M"),
        (2_000_000_000, "2G"),
    ],
)
def test_short_counts(n, text):
    assert words.short_count(n) == text


@pytest.mark.parametrize(
    ("ago_ms", "text"),
    [
        (0, "0 s ago"),
        (89_000, "89 s ago"),
        (120_000, "2 min ago"),
        (7_200_000, "2 h ago"),
        (400_000_000, "5 d ago"),
        (-90_000, "in 2 min"),
    ],
)
def test_ages(ago_ms, text):
    assert words.ago(1_000_000_000 - ago_ms, 1_000_000_000) == text


def test_small_words():
    assert words.percent(0.0) == "0 %"
    assert words.percent(0.004) == "0.40 %"
    assert words.percent(0.08123) == "8.1 %"
    assert words.percent(1.0) == "100 %"
    assert words.instant(1_790_000_000_120) == "2026-09-21 14:13:20.120 UTC"
    assert words.iso(1_790_000_000_120) == "2026-09-21T14:13:20.120Z"
    assert words.short_id("call_01jd8zk3m40000000000abcdef") == "…abcdef"
    assert words.plural(1, "call") == "1 call"
    assert words.interval(Figure(value=1, unit="ms", n=3, method="m", low=310, high=420)) == "310 ms – 420 ms"
    assert words.state_words("something_new") == ("unknown", "something new")


def attempt(**fields):
    return AttemptFact(call="c", attempt=1, started_wall_ms=1_000, gateway="g", **fields)


def test_phases_are_what_lies_between_the_marks():
    found = charts.phases(
        attempt(queue_ms=10, connect_ms=30, head_ms=100, first_token_ms=140, last_token_ms=900, duration_ms=910), 1_000
    )
    assert [(p.name, p.start_ms, p.end_ms) for p in found] == [
        ("queue", 0, 10),
        ("connect", 10, 30),
        ("head", 30, 100),
        ("first token", 100, 140),
        ("answer", 140, 900),
        ("rest", 900, 910),
    ]


def test_phases_that_were_not_measured_join_the_next_and_never_run_backwards():
    found = charts.phases(attempt(head_ms=100, first_token_ms=90, duration_ms=200), 500)
    assert [(p.name, p.start_ms, p.end_ms) for p in found] == [("head", 500, 600), ("rest", 600, 700)]
    assert charts.phases(attempt(), 1_000) == ()


def test_phase_bar_stays_within_its_width():
    rows = [charts.phases(attempt(head_ms=100, last_token_ms=5_000, duration_ms=5_000), 1_000)]
    svg = str(charts.phase_bar(rows, 4_000.0, 100.0))
    for x, width in re.findall(r'x="([\d.]+)%" y="\d+" width="([\d.]+)%"', svg):
        assert float(x) + float(width) <= 100.2
    assert "first token 100 ms" in svg


def test_sparkline_starts_at_zero_and_escapes_its_label():
    svg = str(charts.sparkline([0, 4, 2], [0, 1, 0], '<b>"x"'))
    heights = [float(h) for h in re.findall(r'class="bar".*?height="([\d.]+)"', svg)]
    assert heights == [23.0, 11.5]
    assert "<b>" not in svg
    assert str(charts.sparkline([], [], "none")).count("<rect") == 0


def test_meter_never_overflows():
    svg = str(charts.meter([("meter-bad", 1.4), ("meter-leased", 0.2)], "x"))
    assert re.findall(r'class="meter-[bl]\w+" x="[\d.]+" y="0" width="([\d.]+)"', svg) == ["100.00"]


def test_first_token_chart_has_gaps_and_grows_no_line_from_nothing():
    buckets = [
        Bucket(start_wall_ms=n * 60_000, first_token_p50_ms=value, first_token_p99_ms=None)
        for n, value in enumerate([100.0, None, 200.0, 210.0])
    ]
    svg = str(charts.first_token_chart(buckets))
    path = re.search(r'class="line-p50" d="([^"]+)"', svg)
    assert path is not None
    assert path[1].count("M") == 2
    assert charts.first_token_chart([Bucket(start_wall_ms=0)]) == ""
    assert charts.first_token_chart([]) == ""


def test_metrics_of_gateways_are_labelled_and_each_family_is_named_once():
    text = '# HELP calls_total Calls.\n# TYPE calls_total counter\ncalls_total 3\nwait_bucket{le="1"} 2\nwait_sum 1.5\n# TYPE wait histogram\n'
    out = merged("own 1\n", {"b": text, 'a"\\': text})
    lines = out.splitlines()
    assert lines[0] == "own 1"
    assert lines.count("# TYPE calls_total counter") == 1
    assert 'calls_total{gateway="a\\"\\\\"} 3' in lines
    assert 'wait_bucket{gateway="b",le="1"} 2' in lines
    start = lines.index("# TYPE calls_total counter")
    assert all(line.startswith("calls_total{") for line in lines[start + 1 : start + 3]), "samples of a family stand together"


def test_metrics_that_are_no_metrics_are_left_out():
    assert merged("", {"a": "<html>\nnonsense\n\n"}) == ""
