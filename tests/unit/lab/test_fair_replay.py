"""Workloads made up here, replayed: orders differ as they should, step times are found again, the same seed gives the same."""

import numpy as np
import pytest

from headway.lab.fair.engine import Asked
from headway.lab.fair.measured import Run
from headway.lab.fair.measures import seen, service_gap
from headway.lab.fair.orders import PUBLISHED, PublishedVtc
from headway.lab.fair.replay import Jitter, Replayed, replay
from headway.lab.fair.steptime import BatchStepTime, fit, prefills
from headway.lab.fair.workloads import SIX

TIME = BatchStepTime(
    name="test", source="made up", decode_ms=31.0, context_ms=0.0012, prefill_ms=5.0, token_ms=0.45, further_token_ms=0.2
)


def workload(seconds: float = 150.0, light_every_s: float = 4.0, heavy_every_s: float = 0.25, output: int = 200) -> Run:
    """Client 0 asks seldom, client 1 for twice what the engine can do."""
    light = np.arange(1.0, seconds, light_every_s)
    heavy = np.arange(1.1, seconds, heavy_every_s)
    at = np.concatenate([light, heavy])
    order = np.argsort(at)
    count = len(at)
    return Run(
        name="made up",
        client=np.concatenate([np.zeros(len(light), dtype=np.int64), np.ones(len(heavy), dtype=np.int64)])[order],
        arrival_s=at[order],
        prompt=np.full(count, 256, dtype=np.int64),
        output=np.full(count, output, dtype=np.int64),
        ttft_s=np.zeros(count),
        e2e_s=np.zeros(count),
    )


def as_measured(run: Run, became: Replayed, name: str = "FCFS.made_up") -> Run:
    return Run(
        name=name,
        client=run.client,
        arrival_s=run.arrival_s,
        prompt=run.prompt,
        output=run.output,
        ttft_s=became.first_s - run.arrival_s,
        e2e_s=became.end_s - run.arrival_s,
    )


def light_p99(run: Run, policy: str) -> float:
    became = replay(run, TIME, policy)
    return seen(run, became.first_s, became.end_s, run.client == 0, run.client == 1).light_p99_s


@pytest.mark.parametrize("policy", ["fcfs", "fair", "lanes", "shortest", PUBLISHED])
def test_every_request_is_served_once_and_never_before_it_came(policy: str) -> None:
    run = workload(60.0)
    became = replay(run, TIME, policy)
    assert (became.first_s > run.arrival_s).all()
    least = (run.output - 1) * TIME.decode_ms / 1000
    assert (became.end_s - became.first_s >= least).all()


def test_fair_orders_spare_the_light_tenant_and_the_default_no_less() -> None:
    run = workload()
    fcfs, fair, lanes, published = (light_p99(run, policy) for policy in ("fcfs", "fair", "lanes", PUBLISHED))
    assert fcfs > 30.0
    assert fair < fcfs / 5
    assert lanes <= fair
    assert published < fcfs / 5


def test_a_fair_order_keeps_the_gap_of_service_small_and_fcfs_does_not() -> None:
    run = workload(light_every_s=0.9)
    gaps = {}
    for policy in ("fcfs", "lanes"):
        became = replay(run, TIME, policy)
        gaps[policy] = service_gap(run, became.first_s, became.end_s)
    assert gaps["lanes"] < 2 * 2 * 10_000  # 2 max(w_p L, w_q M), VTC's bound
    assert gaps["fcfs"] > gaps["lanes"]


def test_step_times_are_found_again_from_what_clients_saw() -> None:
    run = workload()
    found = fit([as_measured(run, replay(run, TIME, "fcfs"))])
    assert found.rms_error < 0.01
    assert found.decode_step_ms(4_000) == pytest.approx(TIME.decode_step_ms(4_000), rel=0.02)
    for tokens in (256, 512, 2_816):
        assert found.prefill_step_ms(tokens) == pytest.approx(TIME.prefill_step_ms(tokens), rel=0.1)
    assert "FCFS.made_up" in found.source


def test_prefills_are_told_apart_by_their_first_tokens() -> None:
    run = workload(40.0)
    became = replay(run, TIME, "fcfs")
    at, tokens = prefills(as_measured(run, became))
    assert len(at) == became.prefills
    assert tokens.sum() == run.prompt.sum()


def test_without_jitter_nothing_changes_and_with_it_the_seed_decides() -> None:
    run = workload(60.0)

    def ends(jitter: Jitter | None) -> list[float]:
        return list(replay(run, TIME, "lanes", jitter).end_s)

    assert ends(None) == ends(None)
    assert ends(Jitter(seed=1, number=0)) == ends(Jitter(seed=1, number=0))
    assert ends(Jitter(seed=1, number=0)) != ends(Jitter(seed=1, number=1))
    assert ends(Jitter(seed=1, number=0)) != ends(Jitter(seed=2, number=0))
    assert ends(Jitter(seed=1, number=0)) == pytest.approx(ends(None), abs=15.0)


def test_a_short_prefill_costs_what_a_decode_does() -> None:
    assert TIME.prefill_step_ms(1) == TIME.decode_ms


def asked(number: int, client: int, prompt: int = 100) -> Asked:
    return Asked(number, client, 0, prompt, 50)


class TestVtcAsPublished:
    def test_a_prompt_is_paid_when_taken_and_an_answer_as_it_comes(self) -> None:
        order = PublishedVtc()
        for number, client in ((0, 1), (1, 1), (2, 2), (3, 2)):
            order.arrive(asked(number, client))
        assert [order.next(0), order.next(0)] == [0, 2]
        order.produced(asked(0, 1), 10, 0)
        assert order.next(0) == 3
        order.produced(asked(2, 2), 10, 0)
        assert order.next(0) == 1
        assert order.next(0) is None

    def test_idleness_banks_nothing(self) -> None:
        order = PublishedVtc()
        for number in range(10):
            order.arrive(asked(number, 1))
        for number in range(5):
            assert order.next(0) == number
        order.arrive(asked(20, 2))
        order.arrive(asked(21, 2))
        assert [order.next(0) for _ in range(3)].count(20) == 1
        assert order.next(0) in (6, 21)


def test_light_and_heavy_are_who_the_workload_says() -> None:
    arena = next(workload for workload in SIX if workload.name == "arena")
    counts = [50, 40, 3, 60, 70, 80]
    client = np.repeat(np.arange(6), counts)
    run = workload(2.0)
    many = Run(
        name="arena",
        client=client,
        arrival_s=np.arange(len(client), dtype=np.float64),
        prompt=np.ones(len(client), dtype=np.int64),
        output=np.ones(len(client), dtype=np.int64),
        ttft_s=np.zeros(len(client)),
        e2e_s=np.zeros(len(client)),
    )
    light, heavy = arena.sides(many)
    assert set(client[light]) == {1, 2}
    assert set(client[heavy]) == {0, 3, 4, 5}
    light, heavy = SIX[0].sides(run)
    assert set(run.client[light]) == {0}
    assert set(run.client[heavy]) == {1}
