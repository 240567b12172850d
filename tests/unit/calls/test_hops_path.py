"""The walk, layouts, what-ifs, pairs, mix and suspects on traces small enough to work out by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calls.hops.clean import clean
from headway.calls.hops.critical_path import exclusive_us, walk
from headway.calls.hops.links import link_times
from headway.calls.hops.mix import split_tail
from headway.calls.hops.model import HopSpan, HopTrace
from headway.calls.hops.pairs import find_pairs, together_us
from headway.calls.hops.retime import Layout
from headway.calls.hops.suspects import suspects
from headway.calls.hops.times import TraceTimes, times_of
from headway.calls.hops.types import type_by_calls
from headway.calls.hops.whatif import Scene, WhatIf

DAY = 1_700_000_000_000_000


def trace(*spans: tuple[str, str, int, int, str], models: str = "", **more: object) -> HopTrace:
    """(span, parent, start, end, hop), cleaned."""
    built = [
        HopSpan(trace="t", span=s, parent=p, hop=h, start_us=DAY + a, duration_us=b - a, is_model=bool(models) and h == models)
        for s, p, a, b, h in spans
    ]
    return clean(built, **more).traces[0]  # type: ignore[arg-type]


FAN = trace(("r", "", 0, 100, "web"), ("a", "r", 10, 60, "auth"), ("b", "r", 10, 90, "db"), ("c", "r", 90, 95, "log"))
CHAIN = trace(
    ("r", "", 0, 1_000, "web"),
    ("a", "r", 100, 300, "web"),
    ("a1", "a", 120, 280, "auth"),
    ("b", "r", 310, 700, "web"),
    ("b1", "b", 330, 690, "search"),
    ("m", "r", 720, 980, "model"),
    models="model",
)


def test_the_path_goes_from_the_end_to_the_child_that_finished_last() -> None:
    assert exclusive_us(FAN) == {"web": 15, "db": 80, "log": 5}
    assert [(p.hop, p.start_us - DAY, p.duration_us) for p in walk(FAN)] == [
        ("web", 0, 10),
        ("db", 10, 80),
        ("log", 90, 5),
        ("web", 95, 5),
    ]


def test_a_sibling_that_ran_far_into_the_next_was_not_waited_for_and_a_rounding_is_cut() -> None:
    far = trace(("r", "", 0, 100, "web"), ("a", "r", 10, 60, "a"), ("b", "r", 40, 90, "b"))
    assert exclusive_us(far) == {"web": 50, "b": 50}
    near = trace(("r", "", 0, 100, "web"), ("a", "r", 10, 42, "a"), ("b", "r", 41, 90, "b"))
    assert exclusive_us(near) == {"web": 20, "a": 31, "b": 49}


def test_a_handler_beside_the_call_that_it_waits_for_is_not_in_its_way() -> None:
    gateway = trace(("r", "", 0, 100, "gw"), ("handle", "r", 5, 99, "gw"), ("get", "r", 10, 95, "gw"), ("s", "get", 12, 90, "svc"))
    assert exclusive_us(gateway) == {"gw": 22, "svc": 78}
    assert Scene(Layout(gateway)).after_us(WhatIf(kind="scale", hop="svc", factor=0.5)) == 61


def test_what_if_walks_again_so_that_another_path_can_take_over() -> None:
    scene = Scene(Layout(FAN))
    assert scene.after_us(WhatIf(kind="scale", hop="db", factor=0.5)) == 70
    assert scene.after_us(WhatIf(kind="scale", hop="auth", factor=0.5)) == 100
    assert scene.after_us(WhatIf(kind="gone", hop="log")) == 95
    assert scene.after_us(WhatIf(kind="scale", hop="nobody")) == 100


def test_cached_and_gone_take_away_the_span_that_only_waited() -> None:
    scene = Scene(Layout(CHAIN))
    assert scene.after_us(WhatIf(kind="gone", hop="auth")) == 800
    assert scene.after_us(WhatIf(kind="cached", hop="auth", fixed_us=50)) == 850
    assert scene.after_us(WhatIf(kind="cached", hop="auth")) == 1_000
    assert scene.after_us(WhatIf(kind="model")) == 740
    assert scene.after_us(WhatIf(kind="model", fixed_us=500)) == 1_240
    assert scene.after_us(WhatIf(kind="parallel", hop="search")) == 790
    assert WhatIf(kind="model").text == "model = 0 ms"


def test_pairs_are_those_next_to_each_other_with_no_data_between_them() -> None:
    layout = Layout(CHAIN)
    seen = find_pairs([("chat", layout)], gap_us_max=15)
    assert [(s.key.first, s.key.then, s.key.speculative, s.data, s.least_us) for s in seen] == [
        ("auth", "search", True, "unknown", 200)
    ]
    assert together_us(layout, [seen[0].place]) == 790
    told = [
        HopSpan(trace="t", span="r", hop="web", start_us=DAY, duration_us=100),
        HopSpan(trace="t", span="a", parent="r", hop="a", start_us=DAY, duration_us=40, outputs=("h1",)),
        HopSpan(trace="t", span="b", parent="r", hop="b", start_us=DAY + 40, duration_us=30, inputs=("h1",), outputs=("h2",)),
        HopSpan(trace="t", span="c", parent="r", hop="c", start_us=DAY + 70, duration_us=30, inputs=("h9",)),
    ]
    found = find_pairs([("x", Layout(clean(told).traces[0]))])
    assert [(s.key.first, s.key.then, s.data) for s in found] == [("b", "c", "independent")]


def test_model_time_is_that_of_spans_that_call_one() -> None:
    row = times_of(CHAIN)
    assert (row.model_us, row.by_hop["model"], sum(row.by_hop.values())) == (260, 260, 1_000)


def test_types_by_calls_tell_requests_of_one_gateway_apart() -> None:
    assert type_by_calls(CHAIN.spans) == "auth + model + search"
    assert type_by_calls(FAN.spans[:1]) == "web"


@st.composite
def trees(draw: st.DrawFn) -> HopTrace:
    spans = [HopSpan(trace="t", span="0", hop="h0", start_us=DAY, duration_us=draw(st.integers(0, 1_000)))]
    for number in range(1, draw(st.integers(1, 12))):
        parent = spans[draw(st.integers(0, len(spans) - 1))]
        start = draw(st.integers(-20, parent.duration_us + 20))
        spans.append(
            HopSpan(
                trace="t",
                span=str(number),
                parent=parent.span,
                hop=f"h{draw(st.integers(0, 3))}",
                start_us=parent.start_us + start,
                duration_us=draw(st.integers(0, 400)),
            )
        )
    return clean(spans).traces[0]


@settings(max_examples=200, deadline=None)
@given(trees())
def test_unchanged_a_trace_keeps_its_duration_and_less_work_never_makes_it_longer(made: HopTrace) -> None:
    layout = Layout(made)
    assert layout.duration_us(layout.unchanged()) == made.duration_us
    scene = Scene(layout)
    for hop in ("h0", "h1", "h2", "h3"):
        steps = [scene.after_us(WhatIf(kind="scale", hop=hop, factor=factor)) for factor in (1.0, 0.5, 0.0)]
        assert steps[0] == made.duration_us
        assert steps[1] <= steps[0] + len(made.spans)
        assert steps[2] <= steps[1] + len(made.spans)
    assert sum(link_times(made).by_link.values()) == made.duration_us


def rows(kind: str, durations: list[int], share: float) -> list[TraceTimes]:
    return [
        TraceTimes(
            trace=f"{kind}{us}",
            request_type=kind,
            start_us=0,
            duration_us=us,
            by_hop={"db": round(us * share), "web": us - round(us * share)},
        )
        for us in durations
    ]


def test_a_tail_of_other_requests_is_mix_and_not_within() -> None:
    quick = rows("quick", [10_000 + i for i in range(900)], 0.1)
    slow = rows("slow", [500_000 + i for i in range(60)], 0.9)
    splits, types = split_tail([*quick, *slow], 0.95)
    db = next(split for split in splits if split.hop == "db")
    assert db.excess_ms == pytest.approx(449, abs=1)
    assert db.mix_ms / db.excess_ms > 0.999
    assert [(t.request_type, t.middle, t.tail) for t in types][0] == ("slow", 0.0, 1.0)
    same, _ = split_tail(rows("one", list(range(1_000, 101_000, 100)), 0.5), 0.95)
    for split in same:
        assert split.mix_ms == pytest.approx(0, abs=1e-9)
        assert split.mix_ms + split.within_ms == pytest.approx(split.excess_ms)
    assert split_tail([], 0.5) == ((), ())


def network(delays: dict[str, int], own: dict[str, int]) -> HopTrace:
    """web calls a, b and c in turn; each link and each callee takes 10 and what is given."""
    spans, at = [], 0
    for callee in ("a", "b", "c"):
        start, at = at, at + 10 + delays.get(callee, 0) + 10 + own.get(callee, 0)
        spans += [
            (f"call{callee}", "r", start, at, "web"),
            (callee, f"call{callee}", start + 10, at - delays.get(callee, 0), callee),
        ]
    return trace(("r", "", 0, at + 5, "web"), *spans)


def test_one_slow_process_is_told_from_the_one_that_waits_for_it() -> None:
    normal = [link_times(network({}, {}))] * 20

    def first(slow: HopTrace) -> str:
        return suspects(normal, [link_times(slow)] * 20)[0].hop

    assert first(network({"b": 300}, {})) == "b"
    assert first(network({}, {"c": 300})) == "c"
    assert first(network({"a": 300, "b": 300, "c": 300}, {})) == "web"
    assert suspects(normal[:5], normal) == ()
