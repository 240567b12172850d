"""``headway lab replay``: real traffic through a simulated engine under several policies: "what if", before production tells.

Each policy sees the same asks on a fresh engine. Times alone come from the engine's step times: the call's own steps with nobody else there.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec

from headway.calls.admission.bands import band_of
from headway.calls.admission.model import Capacity, EndpointAdmission, Pacing
from headway.calls.admission.policy import AdmissionPolicy
from headway.lab.engine.engine import ContinuousEngine
from headway.lab.engine.model import EngineSettings, StepTime, StepWork
from headway.lab.worlds.driver import Outcomes, drive
from headway.lab.worlds.model import Ask, Made
from headway.lab.worlds.numbers import Spread, spread, spread_of_many

ENDPOINT: Final = "lab"
STRAIGHT: Final = "straight"
POLICIES: Final[Mapping[str, EndpointAdmission | None]] = MappingProxyType(
    {
        STRAIGHT: None,
        "fcfs": EndpointAdmission(policy="fcfs"),
        "shortest": EndpointAdmission(policy="shortest"),
        "fair": EndpointAdmission(policy="fair"),
        "lanes": EndpointAdmission(policy="lanes"),
        "paced": EndpointAdmission(policy="lanes", pacing=Pacing(on=True)),
    }
)
"""By name: straight to the engine, the product's orders, and its default with paced prefill."""
QUEUED_MAX: Final = 1_000_000
"""A replay compares orders: nobody is refused."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One part of the calls under one policy, in milliseconds. ``slowdown`` is time over time alone."""

    kind: str
    """``all``, ``prompt`` (by its size), ``tenant``, or ``rest`` (of the tenants)."""
    name: str
    calls: int
    done: int
    ttft_ms: Spread
    queue_ms: Spread
    e2e_ms: Spread
    gap_ms: Spread
    """Between two tokens of a call."""
    slowdown: Spread


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """One policy's replay. ``steps`` of the engine, ``preemptions`` in it, ``cached_share`` of prompt tokens found in its prefix cache."""

    policy: str
    rows: tuple[Row, ...]
    tokens_per_s: float
    makespan_s: float
    steps: int
    preemptions: int
    cached_share: float
    pieces: int


class Alone:
    """What a call takes by itself: its prompt in whole steps, then a token a step."""

    def __init__(self, time: StepTime, settings: EngineSettings) -> None:
        self._time, self._settings = time, settings
        self._known: dict[tuple[int, int], float] = {}

    def e2e_ms(self, ask: Ask) -> float:
        """The prompt is taken as wholly uncached, the context of its answer as constant at its middle."""
        key = (ask.prompt_tokens, ask.output_tokens)
        if (known := self._known.get(key)) is not None:
            return known
        step, done, ms = self._settings.step_tokens_max, 0, 0.0
        while done < ask.prompt_tokens:
            chunk = min(step, ask.prompt_tokens - done)
            last = done + chunk == ask.prompt_tokens
            ms += self._time.step_ms(StepWork(chunks=((chunk, done),), decodes=0, decode_context=0, sequences=int(last)))
            done += chunk
        middle = ask.prompt_tokens + ask.output_tokens // 2
        ms += (ask.output_tokens - 1) * self._time.step_ms(StepWork(chunks=(), decodes=1, decode_context=middle, sequences=1))
        self._known[key] = ms
        return ms


def replay(
    asks: Sequence[Ask],
    policy: str,
    time: StepTime,
    settings: EngineSettings,
    *,
    tenants: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> Replayed:
    """``tenants`` with most tokens get a row of their own, the others share one. KeyError for an unknown policy."""
    admission = POLICIES[policy]
    engine = ContinuousEngine(settings, time, token_events=True)
    gate = None if admission is None else _gate(admission, settings)
    outcomes = drive(asks, engine, gate, endpoint=ENDPOINT, block_tokens=settings.block_tokens, progress=progress)
    scheduler = engine.scheduler
    return Replayed(
        policy=policy,
        rows=tuple(_rows(outcomes, Alone(time, settings), tenants)),
        tokens_per_s=outcomes.tokens_per_s,
        makespan_s=outcomes.makespan_s,
        steps=outcomes.steps,
        preemptions=scheduler.preemptions,
        cached_share=scheduler.prompt_tokens_cached / max(1, scheduler.prompt_tokens_queried),
        pieces=sum(made.last.pieces for made in outcomes.made),
    )


def _gate(admission: EndpointAdmission, settings: EngineSettings) -> AdmissionPolicy:
    """The gate knows the engine's slots and memory, as it would from its metrics."""
    kv_tokens = None if settings.kv_blocks is None else settings.kv_blocks * settings.block_tokens
    admission = msgspec.structs.replace(
        admission,
        capacity=Capacity(requests_max=settings.sequences_max, tokens_max=kv_tokens),
        queued_max=QUEUED_MAX,
        queued_per_tenant_max=QUEUED_MAX,
        refuse=False,
    )
    return AdmissionPolicy({ENDPOINT: admission}, {}, default=admission)


def _rows(outcomes: Outcomes, alone: Alone, tenants: int) -> list[Row]:
    made = outcomes.made
    by_band: dict[str, list[Made]] = {}
    by_tenant: dict[str, list[Made]] = {}
    for one in made:
        by_band.setdefault(band_of(one.ask.prompt_tokens), []).append(one)
        by_tenant.setdefault(one.ask.tenant, []).append(one)
    rows = [_row("all", "all", made, alone)]
    rows += [_row("prompt", name, by_band[name], alone) for name in ("short", "medium", "long", "giant") if name in by_band]
    if len(by_tenant) == 1:
        return rows
    order = sorted(by_tenant, key=lambda name: (-sum(m.ask.prompt_tokens + m.ask.output_tokens for m in by_tenant[name]), name))
    rows += [_row("tenant", name, by_tenant[name], alone) for name in order[:tenants]]
    rest = [one for name in order[tenants:] for one in by_tenant[name]]
    if rest:
        rows.append(_row("rest", f"{len(order) - tenants} other tenants", rest, alone))
    return rows


def _row(kind: str, name: str, made: Sequence[Made], alone: Alone) -> Row:
    done = [m for m in made if m.done]
    return Row(
        kind=kind,
        name=name,
        calls=len(made),
        done=len(done),
        ttft_ms=spread(t for m in done if (t := m.ttft_ms) is not None),
        queue_ms=spread(t for m in done if (t := m.queue_ms) is not None),
        e2e_ms=spread(t for m in done if (t := m.e2e_ms) is not None),
        gap_ms=spread_of_many([m.last.gaps_ms for m in done]),
        slowdown=spread(t / alone.e2e_ms(m.ask) for m in done if (t := m.e2e_ms) is not None),
    )
