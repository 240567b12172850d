"""A replay under several policies at once, each in a process of its own, with progress; Ctrl-C ends them all."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from ctypes import c_int64
from multiprocessing.sharedctypes import SynchronizedArray
from pathlib import Path
from typing import Final

import msgspec

from headway.lab.engine.model import EngineSettings, StepTime
from headway.lab.engine_http_profiles import PROFILES
from headway.lab.replay import Replayed, replay
from headway.lab.replay_report import Told
from headway.lab.replay_traffic import asks, block_tokens_of, load
from headway.lab.traces.reading import TraceMissing
from headway.lab.workers import CONTEXT, workers
from headway.lab.worlds.machines import MACHINES

POLL_S: Final = 0.5

Say = Callable[[str], None]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What is replayed. ``engine`` is one of ``PROFILES``; ``limit`` None takes the whole trace."""

    trace: str
    traces: Path
    engine: str
    scale: float = 1.0
    limit: int | None = None
    seed: int = 1
    tenants: int = 8


def engine_of(job: Job, block_tokens: int) -> tuple[StepTime, EngineSettings]:
    """Measured kernel tables where they are at hand, else the numbers fitted on them; memory in the trace's blocks."""
    profile = PROFILES[job.engine]
    settings = profile.settings
    blocks = None if settings.kv_blocks is None else max(1, settings.kv_blocks * settings.block_tokens // block_tokens)
    settings = msgspec.structs.replace(settings, block_tokens=block_tokens, kv_blocks=blocks)
    try:
        time: StepTime = MACHINES[job.engine](job.traces) if job.engine in MACHINES else profile.time
    except TraceMissing:
        time = profile.time
    return time, settings


def replay_all(job: Job, policies: Sequence[str], say: Say) -> Told:
    """In the order of ``policies``. UnknownTrace, TraceMissing, TraceError, EngineRefusal before any process is started."""
    name, calls = load(job.trace, job.traces, seed=job.seed)
    chosen = asks(calls, scale=job.scale, limit=job.limit)
    time, _ = engine_of(job, block_tokens_of(calls, PROFILES[job.engine].settings.block_tokens))
    ended: SynchronizedArray[c_int64] = CONTEXT.Array("q", len(policies))
    with workers(len(policies), _prepare, ended) as pool:
        jobs = [pool.submit(_work, job, policy, place) for place, policy in enumerate(policies)]
        _watch(jobs, ended, policies, len(chosen), say)
        replays = tuple(each.result() for each in jobs)
    return Told(
        trace=name, engine=f"{job.engine} ({time.name})", scale=job.scale, calls=len(chosen), seed=job.seed, replays=replays
    )


def _watch(
    jobs: Sequence[Future[Replayed]], ended: "SynchronizedArray[c_int64]", policies: Sequence[str], calls: int, say: Say
) -> None:
    pending = set(jobs)
    while pending:
        _, pending = wait(pending, timeout=POLL_S, return_when=FIRST_COMPLETED)
        for each in jobs:
            if each.done():
                each.result()  # what went wrong in one is told at once
        shares = [1.0 if each.done() else _count(ended, place) / max(1, calls) for place, each in enumerate(jobs)]
        say(", ".join(f"{policy} {share:.0%}" for policy, share in zip(policies, shares, strict=True)))


def _count(ended: "SynchronizedArray[c_int64]", place: int) -> int:
    return int(ended[place])


class _Shared:
    """Of one worker process."""

    ended: "SynchronizedArray[c_int64] | None" = None


def _prepare(ended: "SynchronizedArray[c_int64]") -> None:
    _Shared.ended = ended


def _work(job: Job, policy: str, place: int) -> Replayed:
    _, calls = load(job.trace, job.traces, seed=job.seed)
    time, settings = engine_of(job, block_tokens_of(calls, PROFILES[job.engine].settings.block_tokens))
    ended = _Shared.ended
    assert ended is not None

    def progress(done: int, _: int) -> None:
        ended[place] = done  # type: ignore[call-overload]

    return replay(asks(calls, scale=job.scale, limit=job.limit), policy, time, settings, tenants=job.tenants, progress=progress)
