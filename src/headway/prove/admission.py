"""``headway prove admission --engine lab``: what admission does to the small, the giants and the flow, in worlds of a simulated engine.

Twenty seeds are drawn from the given one; each figure is the worst of them by its bound, with low and high over seeds. Ratios are of two
arms of one seed. Two processes work at once; Ctrl-C ends both.
"""

import random
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, as_completed
from types import MappingProxyType
from typing import Final

from headway.kernel.figure import Figure, Proof
from headway.lab.fair import figures as fair_figures
from headway.lab.traces.reading import TraceMissing, traces_folder
from headway.lab.workers import workers
from headway.lab.worlds.machines import pro6000_8b
from headway.prove.admission_figures import figures
from headway.prove.admission_worlds import KINDS, Sample, measure
from headway.prove.report import NotMeasurable, Wanted

SEEDS: Final = 20
WORKERS_MAX: Final = 2
FAIR_WORLDS: Final = ("on_off_less", "proportional", "increase", "on_off_overload", "overload", "arena")

Say = Callable[[str], None]


def _wanted() -> Mapping[str, Wanted]:
    wanted = {
        "five_giants.headway_flag_over_fifo_flag.small_ttft_p99": Wanted(at_most=0.05),
        "five_giants.headway_over_fifo.small_ttft_p99": Wanted(at_most=0.10),
        "five_giants.headway_over_fifo.tokens_per_s": Wanted(at_least=0.90),
        "no_giant.headway_over_fifo.tokens_per_s": Wanted(at_least=0.99),
    }
    for world in FAIR_WORLDS:
        wanted[f"fair.{world}.light_ttft_p99_over_vtc"] = Wanted(at_most=1.0)
        wanted[f"fair.{world}.heavy_ttft_p99_over_vtc"] = Wanted(at_most=1.05)
        wanted[f"fair.{world}.vtc_over_fcfs_error"] = Wanted(at_most=0.30)
    wanted |= {
        "fair.ranking_matches": Wanted(at_least=len(FAIR_WORLDS)),
        "hosted_cap.others_429": Wanted(at_most=0),
        "hosted_cap.cap_used": Wanted(at_least=0.95),
        "flood.retry_after_admitted": Wanted(at_least=0.8),
        "flood.lost": Wanted(at_most=0),
    }
    return MappingProxyType(wanted)


WANTED: Final = _wanted()
WANTED_LLAMA: Final[Mapping[str, Wanted]] = MappingProxyType(
    {
        "one_giant.headway_over_fifo.small_ttft_p95": Wanted(at_most=0.083),
        "one_giant.headway_over_fifo.giant_ttft": Wanted(at_most=2.2),
    }
)


def seeds_of(seed: int, count: int = SEEDS) -> list[int]:
    return random.Random(f"admission:{seed}").sample(range(1_000_000), count)


def prove(
    seed: int, *, data: str | None, say: Say, count: int = SEEDS, kinds: Iterable[str] = tuple(KINDS), fair: bool = True
) -> Proof:
    """NotMeasurable where the measurements behind it are not there; KeyboardInterrupt after its processes have ended."""
    began = time.monotonic()
    try:
        pro6000_8b(traces_folder(data))
        samples, found = _measured(seed, seeds_of(seed, count), tuple(kinds), data, fair, say)
    except TraceMissing as error:
        raise NotMeasurable(str(error), "point HEADWAY_DATA or --data at the folder that holds traces/") from None
    found = figures(samples) | found
    alarms = sum(int(sample.get("control_alarms", 0)) for sample in samples.get("giants", []))
    return Proof(
        pillar="admission",
        engine="lab",
        seed=seed,
        figures={name: found[name] for name in [*(n for n in WANTED if n in found), *(n for n in found if n not in WANTED)]},
        control_alarms=alarms,
        took_s=round(time.monotonic() - began, 1),
    )


def _measured(
    seed: int, seeds: list[int], kinds: tuple[str, ...], data: str | None, fair: bool, say: Say
) -> tuple[dict[str, list[Sample]], dict[str, Figure]]:
    """Samples in the order of the seeds, whatever order they end in; and the figures of the fair worlds, one job of its own."""
    traces = traces_folder(data)
    found: dict[tuple[str, int], Sample] = {}
    with workers(WORKERS_MAX) as pool:
        longest = pool.submit(fair_figures, seed, data) if fair else None
        jobs: dict[Future[Sample], tuple[str, int]] = {
            pool.submit(measure, kind, each, traces): (kind, each) for each in seeds for kind in kinds
        }
        for ended in as_completed(jobs):
            found[jobs[ended]] = ended.result()
            say(f"{len(found)} of {len(jobs)} worlds{'' if longest is None or longest.done() else ', and the fair six'}")
        fair_found = {} if longest is None else longest.result()
    return {kind: [found[(kind, each)] for each in seeds] for kind in kinds}, fair_found
