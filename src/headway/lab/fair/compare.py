"""Each workload under each policy, beside what was measured of it: the table that the figures are read from."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from headway.lab.fair.measured import Run, load_runs
from headway.lab.fair.measures import Seen, seen
from headway.lab.fair.orders import PUBLISHED
from headway.lab.fair.replay import Jitter, replay
from headway.lab.fair.steptime import BatchStepTime, fit
from headway.lab.fair.workloads import SHORT_LONG, SIX, Workload, names_of

ARMS: Final[Mapping[str, str]] = MappingProxyType({"fcfs": "fcfs", "vtc": "fair", "ours": "lanes", "published_vtc": PUBLISHED})
"""Arm -> order. VTC is the product's policy ``fair``, ours its default; the last is VTC as in the paper, which pays for tokens as they come."""
MEASURED: Final = ("fcfs", "vtc")
JITTERED: Final = 3
"""Replays with small disturbances, besides the exact one."""

Say = Callable[[str], None]


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One workload. ``simulated[arm]`` has one entry a replay, the exact one first; replay i of one arm was disturbed as replay i of another."""

    workload: Workload
    light_requests: int
    heavy_requests: int
    requests: int
    measured: Mapping[str, Seen]
    simulated: Mapping[str, Sequence[Seen]]

    def ratios(self, arm: str, over: str, field: str) -> list[float]:
        """``field`` of one arm over another's, replay by replay."""
        return [
            float(getattr(one, field) / getattr(other, field))
            for one, other in zip(self.simulated[arm], self.simulated[over], strict=True)
        ]

    def exact(self, arm: str) -> Seen:
        """The replay without disturbances: of the file as it stands, whatever the seed."""
        return self.simulated[arm][0]

    def disturbed(self, arm: str, field: str) -> list[float]:
        """``field`` of all replays, the exact one first."""
        return [float(getattr(one, field)) for one in self.simulated[arm]]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    time: BatchStepTime
    compared: tuple[Compared, ...]


def compare(traces: Path, seed: int, *, jittered: int = JITTERED, say: Say = lambda _: None) -> Comparison:
    """All workloads, ``poisson_short_long`` last. TraceMissing where the measured runs are not there; TraceError where they cannot be used."""
    workloads = (*SIX, SHORT_LONG)
    runs = load_runs(traces, [name for workload in workloads for name in names_of(workload)])
    time = fit([runs[names_of(workload)[0]] for workload in SIX])
    jitters = (None, *(Jitter(seed=seed, number=number) for number in range(jittered)))
    compared = []
    for number, workload in enumerate(workloads, 1):
        say(f"fair: {workload.name}, {number} of {len(workloads)}")
        fcfs, vtc = (runs[name].until(workload.until_s) for name in names_of(workload))
        compared.append(one(workload, fcfs, vtc, time, jitters if workload in SIX else jitters[:1]))
    return Comparison(time=time, compared=tuple(compared))


def one(workload: Workload, fcfs: Run, vtc: Run, time: BatchStepTime, jitters: Sequence[Jitter | None]) -> Compared:
    light, heavy = workload.sides(fcfs)

    def replayed(policy: str, jitter: Jitter | None) -> Seen:
        became = replay(fcfs, time, policy, jitter)
        return seen(fcfs, became.first_s, became.end_s, light, heavy)

    return Compared(
        workload=workload,
        requests=len(fcfs),
        light_requests=int(light.sum()),
        heavy_requests=int(heavy.sum()),
        measured={arm: seen(run, run.first_s, run.end_s, light, heavy) for arm, run in zip(MEASURED, (fcfs, vtc), strict=True)},
        simulated={arm: [replayed(policy, jitter) for jitter in jitters] for arm, policy in ARMS.items()},
    )
