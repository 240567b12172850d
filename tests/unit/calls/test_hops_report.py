"""Attribution, what-ifs, break-even and comparison as Figures."""

import numpy as np
import pytest

from headway.calls.hops.model import HopSpan, HopTrace
from headway.calls.hops.report import OTHER, attribute, matrix
from headway.calls.hops.report_compare import compare
from headway.calls.hops.report_whatif import Stage
from headway.calls.hops.times import TraceTimes
from headway.calls.hops.whatif import WhatIf
from headway.kernel.limits import HOP_HOPS_SHOWN_MAX, HOP_STRATA_SHOWN_MAX

DAY = 1_700_000_000_000_000


def row(number: int, kind: str = "chat", tenant: str = "", hit: bool | None = None, **hops: int) -> TraceTimes:
    return TraceTimes(
        trace=str(number), request_type=kind, start_us=0, duration_us=sum(hops.values()), by_hop=hops, tenant=tenant, cache_hit=hit
    )


def drawn(count: int, seed: int = 3, db_ms: float = 100.0, kind: str = "chat") -> list[TraceTimes]:
    """``auth`` steady, ``db`` rare and large, ``model`` in between."""
    draw = np.random.default_rng(seed)
    slow = draw.random(count) < 0.04
    return [
        row(
            i,
            kind,
            auth=50_000,
            model=int(draw.gamma(4, 20_000)),
            db=int(draw.gamma(8, 100_000)) if slow[i] else int(db_ms * 100),
        )
        for i in range(count)
    ]


def test_what_hops_own_of_a_quantile_sums_to_it_and_the_tail_is_another_hop_s() -> None:
    rows = drawn(2_000)
    by_quantile = {each.quantile: each for each in attribute(rows, seed=5)}
    for share, each in by_quantile.items():
        assert each.total.value == pytest.approx(np.quantile([r.duration_us for r in rows], share) / 1_000)
        assert sum(hop.at.value for hop in each.hops) == pytest.approx(each.total.value)
        assert sum(hop.share.value for hop in each.hops) == pytest.approx(1)
        assert each.total.low <= each.total.value <= each.total.high
    assert by_quantile[0.5].hops[0].hop == "model"
    assert by_quantile[0.99].hops[0].hop == "db"
    tail = {hop.hop: hop for hop in by_quantile[0.99].hops}
    assert tail["db"].share.low > 0.7
    assert tail["db"].excess.low > 400
    assert abs(tail["auth"].excess.value) < 1
    worst = sorted(rows, key=lambda r: -r.duration_us)[:20]
    assert tail["db"].tail_share.value == pytest.approx(
        sum(r.by_hop["db"] for r in worst) / sum(r.duration_us for r in worst), abs=0.01
    )


def test_the_same_seed_gives_the_same_intervals_and_another_seed_others() -> None:
    rows = drawn(300)
    assert attribute(rows, seed=1) == attribute(rows, seed=1)
    assert attribute(rows, seed=1) != attribute(rows, seed=2)


def test_strata_are_kept_apart_and_too_few_traces_cannot_tell() -> None:
    rows = [row(i, "a", "acme", True, db=1_000 + i) for i in range(40)] + [row(i, "b", "zed", None, db=9_000) for i in range(29)]
    found = attribute(rows, by=("request_type", "cache_hit"), quantiles=(0.5,))
    assert [each.name for each in found] == ["request_type=a, cache_hit=hit", "request_type=b, cache_hit=unknown"]
    assert found[0].hops[0].share.value == 1
    assert found[1].total.value is None
    assert (found[1].hops, found[1].total.method) == ((), "29 traces, fewer than 30")
    assert attribute(rows, by=(), quantiles=(0.5,))[0].name == "all"
    for bad in ({"by": ("colour",)}, {"quantiles": (1.5,)}):
        with pytest.raises(ValueError, match="colour|quantiles"):
            attribute(rows, **bad)
    assert attribute([]) == ()


def test_strata_and_hops_past_their_bounds_become_one_and_nothing_is_lost() -> None:
    rows = [row(i, f"type{i % (HOP_STRATA_SHOWN_MAX + 7)}", **{f"hop{i % 60}": 1_000 + i, "web": 500}) for i in range(3_000)]
    found = attribute(rows, quantiles=(0.5,), count=5)
    assert (len(found), sum(each.n for each in found), found[-1].stratum) == (51, 3_000, {"request_type": OTHER})
    hops, times, total = matrix(rows)
    assert (len(hops), hops[-1]) == (HOP_HOPS_SHOWN_MAX + 1, OTHER)
    assert np.allclose(times.sum(axis=1), total)


def agent(number: int, auth_us: int, search_us: int, model_us: int) -> HopTrace:
    """auth, then search beside the model's call, then 10 ms of its own."""
    start = DAY + number
    beside = max(search_us, model_us)

    def span(name: str, at: int, us: int, model: bool = False) -> HopSpan:
        return HopSpan(trace=str(number), span=name, parent="r", hop=name, start_us=start + at, duration_us=us, is_model=model)

    root = HopSpan(trace=str(number), span="r", hop="web", start_us=start, duration_us=auth_us + beside + 10_000)
    spans = (root, span("auth", 0, auth_us), span("search", auth_us, search_us), span("model", auth_us, model_us, True))
    return HopTrace(trace=str(number), request_type="chat", spans=spans)


def test_a_model_beside_a_slower_search_buys_nothing_below_its_time() -> None:
    stage = Stage([agent(i, 20_000, 180_000, 400_000 + 100 * i) for i in range(200)])
    even = stage.break_even()
    assert even.at.value == pytest.approx(180, abs=25)
    assert even.slope_now.value == pytest.approx(1, abs=0.01)
    bare = stage.ask(WhatIf(kind="model"))
    assert [figure.value for figure in bare.after] == pytest.approx([210, 210, 210])
    assert bare.saved[0].value == pytest.approx(bare.before[0].value - 210)
    halved = stage.diminishing("model", 0.5)
    assert halved.first_ms == pytest.approx(41, abs=1)
    assert halved.factor == pytest.approx(0.3)
    assert stage.diminishing("search", 0.5).factor is None


def test_pairs_name_the_speculative_start_and_are_safe_only_when_confirmed() -> None:
    stage = Stage([agent(i, 20_000 + i, 180_000, 150_000) for i in range(50)])
    pair = stage.pairs()[0]
    assert (pair.key.first, pair.key.then, pair.speculative, pair.safe, pair.traces) == ("auth", "search", True, False, 50)
    assert pair.saved[0].value == pytest.approx(20, abs=0.1)
    assert stage.pairs(safe=lambda key: key == pair.key)[0].safe
    none = Stage([])
    with pytest.raises(ValueError, match="no traces"):
        none.ask(WhatIf(kind="model"))


def test_a_sample_of_traces_keeps_quantiles_and_says_so() -> None:
    traces = [agent(i, 1_000 * i, 1_000, 2_000) for i in range(1, 1_001)]
    few, all_ = Stage(traces, most=200), Stage(traces)
    question = WhatIf(kind="scale", hop="auth")
    some, whole = few.ask(question), all_.ask(question)
    for one, other in zip(some.after, whole.after, strict=True):
        assert one.value == pytest.approx(other.value, rel=0.02)
    assert "200 of 1000 traces" in some.after[0].method
    assert "1000 traces" not in whole.after[0].method


def test_a_shift_of_the_mix_is_no_slower_hop_and_a_slower_hop_is() -> None:
    chat, report = drawn(300, 1), [row(i, "report", db=400_000 + 100 * (i % 50), web=10_000) for i in range(300)]
    shifted = compare([*chat[:200], *report[:50]], [*chat[200:], *report[50:]])
    assert shifted.total.value > 100
    assert shifted.mix.value / shifted.total.value > 0.8
    assert not any(change.stands for change in shifted.hops)
    slower = [row(i, "report", db=440_000 + 100 * (i % 50), web=10_000) for i in range(150)]
    found = compare([*chat[:150], *report[:150]], [*chat[150:], *slower])
    assert [change.hop for change in found.hops if change.stands] == ["db"]
    assert found.within.value + found.mix.value == pytest.approx(found.total.value)
    assert compare([], chat).total.value is None
