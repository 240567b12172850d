"""What a step costs: the table grade on measured kernels (data folder, HEADWAY_DATA), the fit grade, hosted models."""

import math

import pytest

from headway.kernel.instants import NS_PER_MS
from headway.lab.engine.attention import Attention
from headway.lab.engine.engine import ContinuousEngine
from headway.lab.engine.fit import FitStepTime
from headway.lab.engine.fitted import MACHINES, PRO6000_8B
from headway.lab.engine.fitting import fit
from headway.lab.engine.grids import Curve, Grid, Grid4
from headway.lab.engine.hosted import HostedEngine, HostedTime
from headway.lab.engine.model import EngineRequest, EngineSettings, StepWork
from headway.lab.engine.ranks import Exchange, Experts, RanksTable
from headway.lab.engine.search import least
from headway.lab.engine.settings import EngineRefusal
from headway.lab.engine.table import Calibration, TableStepTime
from headway.lab.traces.machines import load_sarathi_batches, load_sarathi_chunking
from headway.lab.traces.profiles import Profile, load_profile
from headway.lab.traces.reading import TraceMissing, traces_folder

LLAMA = "meta-llama/Llama-3.1-8B"
QWEN = "Qwen/Qwen3-30B-A3B-Instruct-2507"


def profile(hardware: str, model: str = LLAMA) -> Profile:
    try:
        return load_profile(traces_folder(), hardware, model)
    except TraceMissing as missing:
        pytest.skip(str(missing))


def decodes(count: int, context: int, longest: int = 0) -> StepWork:
    return StepWork(
        chunks=(), decodes=count, decode_context=count * context, sequences=count, decode_context_max=longest or context
    )


def prefill(*chunks: tuple[int, int]) -> StepWork:
    return StepWork(chunks=chunks, decodes=0, decode_context=0, sequences=1)


@pytest.mark.parametrize(("hardware", "known"), [("RTXPRO6000", (11.2, 18.0, 36.6, 82.4)), ("RTX4090", (16.7, 28.4, 58.7, 192.1))])
def test_kernels_sum_to_the_steps_of_the_readme(hardware: str, known: tuple[float, ...]) -> None:
    """README 16: a decode at 512, 32 and 128 at 2,048, a first chunk of 2,048."""
    step = TableStepTime(profile(hardware), layers=32)
    works = (decodes(1, 512), decodes(32, 2_048), decodes(128, 2_048), prefill((2_048, 0)))
    for work, ms in zip(works, known, strict=True):
        assert step.step_ms(work) == pytest.approx(ms, abs=0.06)


def test_the_sum_of_contexts_dominates_not_the_batch() -> None:
    """scheduling.md 3.1."""
    step = TableStepTime(profile("RTXPRO6000"), layers=32)
    assert step.step_ms(decodes(128, 8_192)) == pytest.approx(103.6, abs=0.1)
    assert step.step_ms(decodes(128, 512)) < 0.25 * step.step_ms(decodes(128, 8_192))


def test_overhead_and_scale_do_what_they_say() -> None:
    tables = profile("RTX4090")
    plain = TableStepTime(tables, layers=32).step_ms(decodes(8, 1_000))
    assert TableStepTime(tables, layers=32, calibration=Calibration(overhead_ms=2)).step_ms(decodes(8, 1_000)) == pytest.approx(
        plain + 2
    )
    halved = TableStepTime(tables, layers=32, calibration=Calibration(dense_scale=0.5))
    assert halved.step_ms(decodes(8, 1_000)) == pytest.approx(plain - halved.dense_us(8) / 2_000)


def test_together_prefills_and_decodes_cost_what_was_measured_together() -> None:
    """One kernel call for both: more than the sum of the two, and exactly the measured time where it was measured."""
    tables = profile("RTXPRO6000")
    attention = Attention(tables.attention)
    mixed = StepWork(chunks=((512, 1_024),), decodes=32, decode_context=32 * 512, sequences=32, decode_context_max=512)
    assert attention.layer_us(mixed) == pytest.approx(tables.attention[512, 1_024, 32, 512])
    assert attention.layer_us(mixed) > attention.layer_us(prefill((512, 1_024))) + attention.layer_us(decodes(32, 512))


@pytest.mark.parametrize(("hardware", "model"), [("RTXPRO6000", LLAMA), ("RTX4090", LLAMA), ("RTXPRO6000", QWEN)])
def test_far_outside_what_was_measured_a_call_still_takes_as_long_as_its_parts(hardware: str, model: str) -> None:
    attention = Attention(profile(hardware, model).attention)
    for chunk, before in ((16, 0), (512, 30_000), (2_048, 126_000)):
        for count, context in ((1, 20), (60, 20_000), (250, 100_000)):
            alone = attention.layer_us(prefill((chunk, before))), attention.layer_us(decodes(count, context))
            both = StepWork(chunks=((chunk, before),), decodes=count, decode_context=count * context, sequences=count)
            assert max(alone) <= attention.layer_us(both) < 4 * sum(alone) + 2_000


def test_a_longest_member_costs_its_skew() -> None:
    tables = profile("RTXPRO6000")
    assert tables.skew == 0.0543
    assert profile("RTX4090").skew is None
    even, skewed = Attention(tables.attention, skew=0.0543), Attention(tables.attention, skew=0.0543)
    gap = skewed.layer_us(decodes(64, 1_024, 4_096)) - even.layer_us(decodes(64, 1_024))
    assert gap == pytest.approx(0.0543 * (tables.attention[0, 0, 64, 4_096] - tables.attention[0, 0, 64, 1_024]))


def test_longer_work_never_takes_less() -> None:
    step = TableStepTime(profile("RTXPRO6000"), layers=32)
    for counts in ([decodes(n, 1_024) for n in (1, 16, 64, 128, 256, 400)], [prefill((n, 0)) for n in (16, 256, 2_048, 4_000)]):
        times = [step.step_ms(work) for work in counts]
        assert times == sorted(times)
    assert step.step_ms(prefill((2_048, 26_000))) > step.step_ms(prefill((2_048, 16_000)))


def test_chunking_costs_about_what_sarathi_measured() -> None:
    """Another model on other cards, so only the shape: chunks of 512 cost a tenth to a third at 4,095 tokens, of 2,048 less."""
    step = TableStepTime(profile("RTXPRO6000"), layers=32)
    measured = load_sarathi_chunking(traces_folder())

    def whole(chunk: int) -> float:
        return sum(step.step_ms(prefill((chunk, before))) for before in range(0, 4_096, chunk))

    ours = whole(512) / whole(2_048)
    theirs = measured[4_095, 512] / measured[4_095, 2_048]
    assert theirs == pytest.approx(1.16, abs=0.01)
    assert 1.02 < ours < 1.35
    assert whole(512) > whole(1_024) > whole(2_048)


def test_riding_along_is_nearly_free() -> None:
    """README 15: three decodes beside 1,021 prompt tokens cost Sarathi's machine 0.2 % and ours under 5 %."""
    step = TableStepTime(profile("RTXPRO6000"), layers=32)
    batches = {(b.prefill_tokens, b.decode_tokens): b.ms for b in load_sarathi_batches(traces_folder(), "table-2_results")}
    assert batches[1_021, 3] / batches[1_024, 0] < 1.01
    mixed = StepWork(chunks=((1_021, 0),), decodes=3, decode_context=3 * 512, sequences=4, decode_context_max=512)
    assert 1 < step.step_ms(mixed) / step.step_ms(prefill((1_024, 0))) < 1.05


def test_ranks_wait_for_the_fullest_and_pay_their_exchanges() -> None:
    tables = profile("RTXPRO6000", QWEN)
    experts = Experts(total=128, chosen=8, ranks=2)
    free = RanksTable(tables, layers=48, experts=experts, exchange=Exchange(layer_us=0, token_us=0))
    paid = RanksTable(tables, layers=48, experts=experts, exchange=Exchange(layer_us=80, token_us=0.1))
    full, light = decodes(128, 1_000), decodes(2, 1_000)
    assert free.ranks_ms([full, light]) == free.ranks_ms([light, full]) == free.step_ms(full)
    assert paid.ranks_ms([full, light]) - free.ranks_ms([full, light]) == pytest.approx(48 * (80 + 0.1 * 256) / 1_000)
    assert free.step_ms(light) < free.step_ms(full)


def test_the_fit_grade_has_a_floor_and_five_slopes() -> None:
    step = FitStepTime(name="", source="", floor_ms=10, base_ms=1, token_ms=0.1, pair_ms=0.001, context_ms=0.01, decode_ms=0.5)
    assert step.step_ms(decodes(1, 100)) == pytest.approx(10 + 1 + 0.5)
    assert step.step_ms(prefill((200, 50))) == pytest.approx(1 + 20 + 0.001 * 200 * 150)


def test_six_numbers_come_back_from_the_steps_they_made() -> None:
    made = FitStepTime(name="", source="", floor_ms=15, base_ms=6, token_ms=0.05, pair_ms=3e-6, context_ms=1e-4, decode_ms=0.02)
    works = [
        StepWork(chunks=((c, k),) if c else (), decodes=n, decode_context=n * x, sequences=n)
        for c in (0, 100, 2_000)
        for k in (0, 5_000)
        for n in (1, 20, 100)
        for x in (100, 3_000)
    ]
    found = fit("again", "made", [(work, made.step_ms(work)) for work in works])
    for name in ("floor_ms", "base_ms", "token_ms", "pair_ms", "context_ms", "decode_ms"):
        assert getattr(found, name) == pytest.approx(getattr(made, name), rel=0.01)


def test_a_number_that_would_be_negative_is_zero() -> None:
    works = [decodes(n, 100) for n in (1, 10, 50)]
    found = fit("flat", "made", [(work, 20.0 - work.decodes / 10) for work in works])
    assert min(found.base_ms, found.token_ms, found.pair_ms, found.context_ms, found.decode_ms) >= 0


def test_machines_come_without_data_and_near_their_tables() -> None:
    """Median within 8 % over decodes and first chunks, all within 30 %."""
    for machine in MACHINES.values():
        assert machine.source
        assert machine.step_ms(decodes(64, 1_000)) > machine.step_ms(decodes(1, 1_000)) > 5
    step = TableStepTime(profile("RTXPRO6000"), layers=32)
    works = [decodes(n, x) for n in (1, 8, 32, 64, 128) for x in (256, 1_024, 2_048)] + [
        prefill((n, 0)) for n in (256, 1_024, 2_048)
    ]
    off = sorted(abs(PRO6000_8B.step_ms(work) / step.step_ms(work) - 1) for work in works)
    assert off[len(off) // 2] < 0.08
    assert off[-1] < 0.30


def test_curves_are_flat_below_and_straight_above() -> None:
    curve = Curve([(2, 10.0), (4, 20.0)])
    assert [curve.at(x) for x in (0, 2, 3, 4, 6)] == [10, 10, 15, 20, 30]
    assert Curve([(3, 7.0)]).at(99) == 7
    grid = Grid({(1, 0): 0.0, (1, 10): 10.0, (2, 0): 10.0, (2, 10): 20.0, (5, 0): 99.0})
    assert [grid.at(*at) for at in ((1, 5), (1.5, 5), (3, 10))] == [5, 10, 30]
    cube = Grid4(
        [(0, 1)] * 4, {(a, b, c, d): a + 2.0 * b + 4 * c + 8 * d for a in (0, 1) for b in (0, 1) for c in (0, 1) for d in (0, 1)}
    )
    assert cube.at(0.5, 0.25, 1, 2) == pytest.approx(0.5 + 0.5 + 4 + 8), "past its end it stays"
    with pytest.raises(KeyError):
        Grid4([(0, 1)] * 4, {(0, 0, 0, 0): 1.0})


def test_the_search_finds_the_least_without_slopes() -> None:
    x, y = least(lambda point: math.floor(10 * abs(point[0] - 70)) + math.floor(1_000 * abs(point[1] - 0.06)), (160.0, 0.2))
    assert x == pytest.approx(70, abs=2.5)
    assert y == pytest.approx(0.06, abs=0.004)


HOSTED = HostedTime(wait_ms=50, base_ms=100, token_ms=0.1, pace_ms=((0, 10.0), (50, 20.0), (100, 60.0)))


def hosted(seed: int, *requests: EngineRequest) -> list[tuple[str, str, int, int]]:
    built, now, events = HostedEngine(HOSTED, seed), 0, []
    for request in requests:
        built.submit(request, 0)
    while built.busy:
        now, more = built.step(now)
        events += more
    return [(event.kind, event.id, event.at, event.cached_tokens) for event in events]


def test_a_hosted_model_takes_wait_base_and_tokens_then_a_drawn_pace() -> None:
    first, last = hosted(1, EngineRequest(id="a", prompt_tokens=1_000, output_tokens=101))
    assert first == ("first", "a", 250 * NS_PER_MS, 0)
    assert 10 <= (last[2] - first[2]) / 100 / NS_PER_MS <= 60
    assert hosted(1, EngineRequest(id="a", prompt_tokens=1_000, output_tokens=101)) == [first, last]
    assert hosted(2, EngineRequest(id="a", prompt_tokens=1_000, output_tokens=101))[1] != last


def test_hosted_paces_follow_their_quantiles() -> None:
    told = hosted(3, *(EngineRequest(id=f"r{i}", prompt_tokens=1, output_tokens=2) for i in range(2_000)))
    firsts = {id: at for kind, id, at, _ in told if kind == "first"}
    paces = sorted((at - firsts[id]) / NS_PER_MS for kind, id, at, _ in told if kind == "finished")
    assert paces[1_000] == pytest.approx(20, abs=1)
    assert paces[500] == pytest.approx(15, abs=1)


def test_a_hosted_model_remembers_prefixes_and_forgets_aborts() -> None:
    built = HostedEngine(HOSTED, 1)
    built.submit(EngineRequest(id="a", prompt_tokens=64, output_tokens=1, blocks=(1, 2, 3, 4)), 0)
    built.submit(EngineRequest(id="b", prompt_tokens=64, output_tokens=1, blocks=(1, 2, 3, 9)), 0)
    with pytest.raises(EngineRefusal):
        built.submit(EngineRequest(id="a", prompt_tokens=64, output_tokens=1), 0)
    built.abort("a")
    built.abort("nobody")
    now, seen = 0, []
    while built.busy:
        now, more = built.step(now)
        seen += more
    assert [(event.id, event.cached_tokens) for event in seen if event.kind == "first"] == [("b", 48)]
    assert built.step(now) == (now, [])


def test_the_engine_runs_on_built_in_numbers() -> None:
    built, now = ContinuousEngine(EngineSettings(), PRO6000_8B), 0
    built.submit(EngineRequest(id="a", prompt_tokens=28_000, output_tokens=1), 0)
    while built.busy:
        now, _ = built.step(now)
    assert 1.5e9 < now < 3.5e9
