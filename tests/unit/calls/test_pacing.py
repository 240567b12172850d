"""Paced prefill against an engine of a few lines: its cache, its rate, its fixed cost a request."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calls.admission.model import Pacing
from headway.calls.admission.pacing import CACHE_DOES_NOT_HOLD, EndpointPacing, Pacer, Piece, PrefillRate, Wait, Whole
from headway.kernel.instants import NS_PER_MS, MonoNs, after_ms, ms_between
from headway.kernel.limits import PIECES_PER_CALL_MAX

START = MonoNs(10_000 * NS_PER_MS)


@dataclass
class Engine:
    """Reads ``tokens_per_s``; ``real`` engine tokens for each token of the estimate."""

    tokens_per_s: float = 400.0
    fixed_ms: float = 20.0
    real: float = 1.0
    holds: bool = True
    reports: bool = True
    block: int = 16
    warm: int = 0
    cached: int = 0

    def piece(self, upto: int) -> tuple[int | None, int, float]:
        prompt = int(upto * self.real) + 8
        had = max(self.warm, self.cached if self.holds else 0) // self.block * self.block
        hit = min(had, prompt - 1)
        self.cached = prompt
        return (hit if self.reports else None), prompt, self.fixed_ms + (prompt - hit) * 1000 / self.tokens_per_s


def run(pacer: Pacer, engine: Engine, now: MonoNs = START, small: bool = False) -> tuple[list[tuple[int, float]], MonoNs, Pacer]:
    """Every piece with what it took, and the instant at which the whole request may go."""
    pieces: list[tuple[int, float]] = []
    while True:
        said = pacer.next(now, 0, 1 if small else 0)
        match said:
            case Whole():
                return pieces, now, pacer
            case Wait(until=until):
                assert until is not None
                assert until > now
                now = until
            case Piece(upto_tokens=upto):
                cached, prompt, took = engine.piece(upto)
                now = after_ms(now, took)
                pacer.closed(cached, prompt, took, now)
                pieces.append((upto, took))


def busy(pacing: Pacing) -> EndpointPacing:
    endpoint = EndpointPacing(pacing)
    for ago in range(100):
        endpoint.small.saw(MonoNs(START - (100 - ago) * 10 * NS_PER_MS))
    return endpoint


def begin(endpoint: EndpointPacing, tokens: int) -> Pacer:
    pacer = endpoint.begin(tokens, START)
    assert pacer is not None
    return pacer


@pytest.mark.parametrize("real", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("fixed_ms", [5.0, 60.0])
def test_pieces_take_what_the_stall_allows(real: float, fixed_ms: float) -> None:
    endpoint = busy(Pacing(on=True, stall_ms=250, piece_tokens_min=8))
    pieces, _, _ = run(begin(endpoint, 6_000), Engine(real=real, fixed_ms=fixed_ms))
    settled = [took for _, took in pieces[5:]]
    assert len(settled) > 5
    assert 200 <= sorted(settled)[len(settled) // 2] <= 275
    assert max(settled) < 400


def test_it_begins_small_where_nothing_was_measured_and_well_where_something_was() -> None:
    endpoint = busy(Pacing(on=True, stall_ms=250, piece_tokens_min=32))
    first, _, _ = run(begin(endpoint, 3_000), Engine(tokens_per_s=400))
    assert first[0][0] == 32
    second, _, _ = run(begin(endpoint, 3_000), Engine(tokens_per_s=400))
    assert 60 <= second[0][0] <= 120


def test_it_goes_whole_when_nobody_small_is_about() -> None:
    quiet = EndpointPacing(Pacing(on=True))
    assert isinstance(begin(quiet, 28_000).next(START, 0, 0), Whole)


def test_a_short_rest_goes_whole_after_a_long_quiet_and_a_long_one_does_not() -> None:
    endpoint = busy(Pacing(on=True, stall_ms=100))
    endpoint.rate.saw(10_000, 1_000, START)
    later = after_ms(START, 240_000)
    short, long = endpoint.begin(1_500, later), endpoint.begin(60_000, later)
    assert short is not None
    assert long is not None
    assert isinstance(short.next(later, 0, 0), Whole)
    assert isinstance(long.next(later, 0, 0), Piece)


def test_it_yields_to_small_ones_and_comes_in_within_its_bound() -> None:
    endpoint = busy(Pacing(on=True, stall_ms=250, delay_factor_max=2.0))
    engine = Engine(tokens_per_s=400)
    _, ended, _ = run(begin(endpoint, 6_000), engine, small=True)
    alone_ms = 6_000 * 1000 / 400
    waited = ms_between(START, ended)
    assert 1.7 * alone_ms < waited < 2.4 * alone_ms
    _, unhindered, _ = run(begin(busy(Pacing(on=True, stall_ms=250)), 6_000), Engine(tokens_per_s=400))
    assert ms_between(START, unhindered) < 1.3 * alone_ms


@pytest.mark.parametrize("fixed_ms", [30.0, 55.0, 200.0])
@pytest.mark.parametrize("factor", [1.5, 2.0, 3.0])
def test_pieces_grow_where_their_fixed_part_would_cost_the_prompt_its_bound(fixed_ms: float, factor: float) -> None:
    endpoint = busy(Pacing(on=True, stall_ms=60, piece_tokens_min=8, delay_factor_max=factor))
    pieces, ended, _ = run(begin(endpoint, 6_000), Engine(tokens_per_s=400, fixed_ms=fixed_ms))
    alone_ms = 6_000 * 1000 / 400
    assert ms_between(START, ended) <= factor * alone_ms * 1.1
    assert len(pieces) > 20, "and no further than that takes"


def test_a_wait_ends_when_the_small_one_does() -> None:
    endpoint = busy(Pacing(on=True))
    endpoint.rate.saw(4_000, 10_000, START)
    pacer = begin(endpoint, 6_000)
    assert isinstance(pacer.next(START, 0, 1), Wait)
    assert isinstance(pacer.next(after_ms(START, 5), 0, 0), Piece)
    assert pacer.next(after_ms(START, 6), 0, 0) == Wait(until=None)


def test_answers_of_small_ones_have_the_engine_as_long_as_the_last_piece_had_it() -> None:
    endpoint = busy(Pacing(on=True))
    endpoint.rate.saw(4_000, 10_000, START)
    pacer = begin(endpoint, 6_000)
    assert isinstance(pacer.next(START, 0, 0, 3), Piece), "no piece has kept them yet"
    ended = after_ms(START, 240)
    pacer.closed(0, 100, 240.0, ended)
    assert pacer.next(ended, 0, 0, 3) == Wait(until=after_ms(ended, 240))
    assert isinstance(pacer.next(after_ms(ended, 90), 0, 0, 0), Piece), "they have ended"
    ended = after_ms(ended, 300)
    pacer.closed(90, 200, 210.0, ended)
    assert isinstance(pacer.next(after_ms(ended, 210), 0, 0, 3), Piece), "their time is over"


@pytest.mark.parametrize("reports", [True, False])
def test_it_stops_when_the_cache_does_not_hold(reports: bool) -> None:
    endpoint = busy(Pacing(on=True, stall_ms=250))
    pieces, _, pacer = run(begin(endpoint, 20_000), Engine(holds=False, reports=reports))
    assert pacer.gave_up == CACHE_DOES_NOT_HOLD
    assert pieces[-1][0] < 1_500
    assert endpoint.begin(20_000, START) is None
    assert endpoint.state(START, pacing=False) == CACHE_DOES_NOT_HOLD
    assert endpoint.begin(20_000, after_ms(START, 3_600_000)) is not None


@pytest.mark.parametrize("block", [1, 16, 256, 512])
@pytest.mark.parametrize("reports", [True, False])
def test_a_cache_in_blocks_holds(block: int, reports: bool) -> None:
    endpoint = busy(Pacing(on=True, stall_ms=250))
    _, _, pacer = run(begin(endpoint, 8_000), Engine(block=block, reports=reports, fixed_ms=2))
    assert pacer.gave_up == ""
    assert endpoint.trusted(START)


def test_a_warm_prefix_is_run_through_without_learning_a_false_rate() -> None:
    endpoint = busy(Pacing(on=True, stall_ms=250))
    endpoint.rate.saw(400, 1_000, START)
    pieces, _, _ = run(begin(endpoint, 8_000), Engine(warm=4_000))
    assert max(took for _, took in pieces) < 4 * 250 + 100
    assert len([1 for upto, _ in pieces if upto < 4_000]) < 20


def test_failing_pieces_end_pacing() -> None:
    pacer = begin(busy(Pacing(on=True)), 9_000)
    for failed in (True, True, False, True, True, True):
        assert isinstance(pacer.next(START, 0, 0), Piece), "two in a row are no reason"
        pacer.closed(0, None if failed else 40, 10.0, START)
    assert isinstance(pacer.next(START, 0, 0), Whole)
    assert pacer.gave_up == "pieces fail"


def test_off_is_off() -> None:
    endpoint = EndpointPacing(Pacing(on=False))
    assert endpoint.begin(50_000, START) is None
    assert endpoint.state(START, pacing=False) == "off"


def test_the_rate_is_a_median_and_forgets() -> None:
    rate = PrefillRate(assumed=700.0)
    assert rate.tokens_per_s(START) == 700.0
    for took in (1_000, 1_010, 990, 60_000, 1.0):
        rate.saw(1_000, took, START)
    rate.saw(3, 1.0, START)
    assert rate.tokens_per_s(START) == pytest.approx(1_000, rel=0.02)
    later = after_ms(START, 700_000)
    rate.saw(500, 1_000, later)
    assert rate.tokens_per_s(later) == 500


@settings(max_examples=120, deadline=None)
@given(
    tokens=st.integers(1, 200_000),
    speed=st.floats(20, 50_000),
    fixed=st.floats(0, 0.3),
    real=st.floats(0.2, 5),
    stall=st.floats(10, 2_000),
    factor=st.floats(1, 6),
    small=st.booleans(),
    holds=st.booleans(),
    reports=st.booleans(),
)
def test_every_prompt_gets_there(
    tokens: int, speed: float, fixed: float, real: float, stall: float, factor: float, small: bool, holds: bool, reports: bool
) -> None:
    """Pieces grow, stay within the prompt and in number, and end with the whole; a bounded number of waits lies between."""
    endpoint = busy(Pacing(on=True, stall_ms=stall, delay_factor_max=factor))
    pieces, ended, _ = run(begin(endpoint, tokens), Engine(speed, fixed * stall, real, holds, reports), small=small)
    cuts = [upto for upto, _ in pieces]
    assert cuts == sorted(set(cuts))
    assert all(0 < cut < tokens for cut in cuts)
    assert len(cuts) <= PIECES_PER_CALL_MAX
    at_work_ms = sum(took for _, took in pieces)
    alone_ms = at_work_ms * tokens / cuts[-1] if cuts else 0.0
    bound_ms = factor * max(alone_ms, 1.5 * tokens * real * 1000 / speed)
    assert ms_between(START, ended) <= 4 * stall + 1.25 * bound_ms + at_work_ms + 1
