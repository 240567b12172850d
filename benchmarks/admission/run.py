"""``make bench-admission``: what a decision of admission costs, and how that grows with what is queued.

    python benchmarks/admission/run.py [--json FILE] [--policy lanes,fair,fcfs,shortest] [--passes N] [--turns N]

A decision is all that the end of a call sets off in the policy: it is settled, and the next call is picked, charged and admitted. Then a new call
arrives and is queued with its forecast, so that as many wait as before. Both are timed apart, on this thread's CPU time; of several
passes the fastest counts, since what other processes do only ever adds. The queue holds 1,000 to 100,000 calls of 100 tenants (and
1,000 calls of 10 and of 1,000 tenants), prompts and answers vary, and every eighth call belongs to a run of sixteen.
Exit 1 when a bound does not hold.
"""

import argparse
import gc
import json
import math
import random
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from headway.calls.admission.model import POLICIES, Capacity, EndpointAdmission, RunShare, Share
from headway.calls.admission.policy import AdmissionPolicy
from headway.calls.conversation import DialectName, Usage
from headway.calls.model import Admit, Arrived, Chunk, Closed, Effect, Outcome
from headway.kernel.figure import Figure, Proof
from headway.prove.report import Wanted, as_json, as_table, exit_code

ENDPOINT = "bench"
QUEUED = (1_000, 3_000, 10_000, 30_000, 100_000)
TENANTS = (10, 100, 1_000)
BASE_QUEUED, BASE_TENANTS = 1_000, 100
RUNNING = 128
DECISION_US_MAX = 20.0
SEED = 7


class Stage:
    """A policy with ``queued`` calls waiting and ``RUNNING`` running; ``turn`` ends one and lets one come."""

    def __init__(self, policy: str, queued: int, tenants: int) -> None:
        self.rng = random.Random(f"{SEED}:{policy}:{queued}:{tenants}")
        self.tenants = [f"tenant-{number}" for number in range(tenants)]
        settings = EndpointAdmission(
            policy=policy,
            capacity=Capacity(requests_max=RUNNING),
            run=RunShare(concurrency_max=4),
            queued_max=10 * queued,
            queued_per_tenant_max=10 * queued,
        )
        shares = {name: Share(weight=1.0 + number % 4) for number, name in enumerate(self.tenants)}
        self.policy = AdmissionPolicy({}, shares, default=settings)
        self.running: deque[str] = deque()
        self.made = self.in_runs = 0
        self.now = 0
        while self.made < queued + RUNNING:
            self.arrive()

    def event(self) -> Arrived:
        self.made += 1
        self.now += 1_000_000
        rng = self.rng
        tenant = self.tenants[rng.randrange(len(self.tenants))]
        self.in_runs += (in_run := self.made % 8 == 0)
        return Arrived(
            call=f"call-{self.made}",
            endpoint=ENDPOINT,
            tenant=tenant,
            klass="interactive" if rng.random() < 0.8 else "batch",
            feature="chat",
            dialect=DialectName.OPENAI_CHAT,
            prompt_tokens_estimate=rng.choice((40, 200, 900, 3_000)),
            prompt_tokens_error=0.1,
            output_tokens_max=rng.choice((64, 256, 1_024)),
            deadline_remaining_ms=None,
            run=f"run-{self.in_runs // (16 * len(self.tenants))}" if in_run else "",
        )

    def arrive(self) -> float:
        event = self.event()
        began = time.thread_time_ns()
        effects = self.policy.receive(event, self.now)
        took = time.thread_time_ns() - began
        self.admitted(effects)
        return took

    def admitted(self, effects: Sequence[Effect]) -> None:
        """Prompts are read at once, so that the long lane is no bottleneck."""
        for effect in effects:
            if type(effect) is Admit:
                self.running.append(effect.call)
                self.admitted(self.policy.receive(Chunk(call=effect.call, events=1, bytes=4), self.now))

    def close(self) -> float:
        self.now += 1_000_000
        call = self.running.popleft()
        usage = Usage(input_tokens=self.rng.randrange(40, 3_000), output_tokens=self.rng.randrange(1, 300))
        event = Closed(call=call, endpoint=ENDPOINT, outcome=Outcome.DONE, usage=usage)
        began = time.thread_time_ns()
        effects = self.policy.receive(event, self.now)
        took = time.thread_time_ns() - began
        self.admitted(effects)
        return took


class Times(NamedTuple):
    """Mean microseconds of one pass."""

    decision: float
    arrival: float


def measure(stage: Stage, turns: int) -> Times:
    gc.collect()
    gc.disable()
    decisions = arrivals = 0.0
    try:
        for _ in range(turns):
            decisions += stage.close()
            arrivals += stage.arrive()
    finally:
        gc.enable()
    return Times(decisions / turns / 1e3, arrivals / turns / 1e3)


def figures_of(taken: dict[tuple[str, int, int], list[Times]], turns: int) -> dict[str, Figure]:
    out: dict[str, Figure] = {}
    for (policy, queued, tenants), passes in taken.items():
        for what in Times._fields:
            values = [getattr(times, what) for times in passes]
            out[f"{policy}.{what}_us_{queued}_of_{tenants}"] = Figure(
                value=min(values),
                unit="us",
                n=len(values) * turns,
                low=min(values),
                high=max(values),
                method=f"CPU time, mean of the fastest of {len(values)} passes; {queued} queued, {tenants} tenants, {RUNNING} running",
            )
    for policy in {policy for policy, _, _ in taken}:
        for what in Times._fields:
            first, last = (out.get(f"{policy}.{what}_us_{queued}_of_{BASE_TENANTS}") for queued in (QUEUED[0], QUEUED[-1]))
            if first is not None and last is not None and first.value and last.value is not None:
                out[f"{policy}.{what}_growth_over_log"] = Figure(
                    value=last.value / first.value / (math.log(QUEUED[-1]) / math.log(QUEUED[0])),
                    unit="ratio",
                    n=last.n,
                    method=f"time at {QUEUED[-1]:,} queued over time at {QUEUED[0]:,}, over the ratio of their logarithms",
                )
    return out


def wanted(policies: list[str]) -> dict[str, Wanted]:
    out: dict[str, Wanted] = {}
    for policy in policies:
        out[f"{policy}.decision_us_{BASE_QUEUED}_of_{BASE_TENANTS}"] = Wanted(at_most=DECISION_US_MAX)
        out[f"{policy}.decision_growth_over_log"] = Wanted(at_most=1.0)
        out[f"{policy}.arrival_growth_over_log"] = Wanted(at_most=1.0)
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description="What a decision of admission costs, and how that grows.")
    parser.add_argument("--json", default="", help="write the figures here")
    parser.add_argument("--policy", default=POLICIES[0], help=f"comma list of {', '.join(POLICIES)}")
    parser.add_argument("--passes", type=int, default=15)
    parser.add_argument("--turns", type=int, default=400, help="decisions a pass")
    given = parser.parse_args()
    policies = given.policy.split(",")
    if unknown := [policy for policy in policies if policy not in POLICIES]:
        parser.error(f"{unknown[0]} is none of {', '.join(POLICIES)}")
    began = time.perf_counter()
    taken: dict[tuple[str, int, int], list[Times]] = {}
    for policy in policies:
        sizes = [(queued, BASE_TENANTS) for queued in QUEUED] + [
            (BASE_QUEUED, tenants) for tenants in TENANTS if tenants != BASE_TENANTS
        ]
        for queued, tenants in sizes:
            stage = Stage(policy, queued, tenants)
            gc.freeze()
            taken[policy, queued, tenants] = [measure(stage, given.turns) for _ in range(given.passes)]
            gc.unfreeze()
    proof = Proof(
        pillar="admission",
        engine="bench",
        seed=SEED,
        figures=figures_of(taken, given.turns),
        took_s=time.perf_counter() - began,
    )
    bounds = wanted(policies)
    print(as_table(proof, bounds))
    if given.json:
        Path(given.json).write_text(json.dumps(as_json(proof), indent=1) + "\n")
    return exit_code(proof, bounds)


if __name__ == "__main__":
    sys.exit(main())
