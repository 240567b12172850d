"""One seed of the lab's worlds of admission, arm by arm: plain numbers, from which ``admission.py`` makes figures.

A sample is a mapping of names such as ``five_giants.fifo.small_ttft_p99`` to milliseconds, tokens a second or counts.
"""

from pathlib import Path
from typing import Final

from headway.calls.admission.model import Capacity, EndpointAdmission
from headway.calls.admission.objectives import Part, masking, objective_of
from headway.calls.admission.policy import AdmissionPolicy
from headway.kernel.instants import MonoNs
from headway.lab.engine.engine import ContinuousEngine
from headway.lab.engine.model import StepTime
from headway.lab.worlds import arms
from headway.lab.worlds.arms import ENDPOINT, Arm
from headway.lab.worlds.driver import Outcomes, drive
from headway.lab.worlds.flood import CHAT, FLOOD, FloodWorld, lost, returns
from headway.lab.worlds.giants import GIANT, SMALL, WORLDS, GiantsWorld
from headway.lab.worlds.hosted import HostedWorld, drive_hosted
from headway.lab.worlds.machines import pro6000_8b
from headway.lab.worlds.model import Made
from headway.lab.worlds.numbers import spread
from headway.lab.worlds.stalls import Stalls

Sample = dict[str, float]

FLAGS: Final = (64, 128, 256, 512)
STALLS_MS: Final = (50.0, 100.0, 150.0, 500.0)
WAIT_MS_MAX: Final = 20_000.0


def giants(seed: int, traces: Path) -> Sample:
    """Every arm of no_giant, one_giant and five_giants."""
    sample: Sample = {}
    quiet = WORLDS["no_giant"]
    time = pro6000_8b(traces)
    alone = _drive(quiet, arms.fifo(), seed, time)[0]
    for name, world in WORLDS.items():
        judged = [m for m in alone.made if world.judged(m.ask)]
        sample[f"{name}.alone.small_ttft_p99"] = spread(_ttft(judged)).p99
        sample[f"{name}.alone.small_ttft_p95"] = spread(_ttft(judged)).p95
    for arm in (arms.fifo(), arms.headway(), arms.headway_flag()):
        outcomes = alone if arm.name == "fifo" else _drive(quiet, arm, seed, time)[0]
        sample |= _numbers("no_giant", quiet, arm.name, outcomes)
        if arm.name == "headway":
            sample["control_alarms"] = alarms(outcomes)
    for name in ("one_giant", "five_giants"):
        for arm in _arms_of(name):
            outcomes, stalls = _drive(WORLDS[name], arm, seed, time)
            sample |= _numbers(name, WORLDS[name], arm.name, outcomes)
            sample[f"{name}.{arm.name}.small_stalled_by_giant"] = stalls.stall_ms.get((SMALL, GIANT), 0.0)
    return sample


def _arms_of(world: str) -> list[Arm]:
    """The curve is drawn for five giants only."""
    main = [arms.fifo(), arms.fifo(arms.ENGINE_FLAG_TOKENS), arms.headway(), arms.headway_flag()]
    if world != "five_giants":
        return main
    main += [arms.fifo(flag) for flag in FLAGS if flag != arms.ENGINE_FLAG_TOKENS]
    main += [arms.headway_flag(flag) for flag in FLAGS if flag != arms.OUR_FLAG_TOKENS]
    return main + [arms.headway(stall_ms=stall) for stall in STALLS_MS]


def _drive(world: GiantsWorld, arm: Arm, seed: int, time: StepTime) -> tuple[Outcomes, Stalls]:
    engine = ContinuousEngine(arm.engine, time, token_events=True)
    asks = world.asks(seed)
    stalls = Stalls(engine, {ask.call: ask.band for ask in asks}.__getitem__)
    return drive(asks, engine, arm.policy(), endpoint=ENDPOINT, watcher=stalls), stalls


def _ttft(made: list[Made]) -> list[float]:
    return [ms for m in made if (ms := m.ttft_ms) is not None]


def _numbers(world: str, settings: GiantsWorld, arm: str, outcomes: Outcomes) -> Sample:
    judged = [m for m in outcomes.made if settings.judged(m.ask)]
    small = spread(_ttft(judged))
    gaps = spread(gap for m in judged for gap in m.last.gaps_ms)
    numbers = {
        "small": float(small.n),
        "small_ttft_p50": small.p50,
        "small_ttft_p95": small.p95,
        "small_ttft_p99": small.p99,
        "small_gap_max": gaps.most,
        "tokens_per_s": outcomes.tokens_per_s,
        "not_done": float(sum(not m.done for m in outcomes.made)),
    }
    late = _ttft([m for m in outcomes.made if m.ask.band == GIANT])
    if late:
        numbers["giant_ttft"] = max(late)
    return {f"{world}.{arm}.{name}": value for name, value in numbers.items()}


def alarms(outcomes: Outcomes) -> int:
    """False alarms where nobody is a giant: parts over their objective, refusals, and prompts that were cut into pieces."""
    limit_ms = objective_of("interactive", {}).first_token_ms
    allowed = 1 - objective_of("interactive", {}).share

    def part(kind: str, name: str, made: list[Made]) -> Part:
        broken = sum((m.ttft_ms or limit_ms + 1) > limit_ms for m in made)
        return Part(kind=kind, name=name, calls=len(made), broken=broken, allowed_share=allowed)

    tenants = sorted({m.ask.tenant for m in outcomes.made})
    parts = [part("tenant", tenant, [m for m in outcomes.made if m.ask.tenant == tenant]) for tenant in tenants]
    found = masking(part("all", "", outcomes.made), parts)
    refused = sum(t.refusal is not None for m in outcomes.made for t in m.tries)
    paced = sum(t.pieces > 0 for m in outcomes.made for t in m.tries)
    return len(found.over) + (found.pooled.state == "over") + refused + paced


def flood(seed: int, traces: Path) -> Sample:
    """Without us everybody waits behind the flood; with us whoever cannot be served in time is told when to come again."""
    world, time = FloodWorld(), pro6000_8b(traces)
    admission = EndpointAdmission(capacity=Capacity(requests_max=arms.SLOTS), wait_ms_max=WAIT_MS_MAX)
    policy = AdmissionPolicy({ENDPOINT: admission}, {}, default=admission)
    plain = drive(world.asks(seed), ContinuousEngine(arms.fifo().engine, time))
    ours = drive(world.asks(seed), ContinuousEngine(arms.fifo().engine, time), policy, endpoint=ENDPOINT)
    came = returns(ours.made, world.deadline_ms)
    view = policy.view(ENDPOINT, MonoNs(ours.ended_at))
    unaccounted = abs(view.submitted - view.done - view.queued - view.running - view.refused - view.evicted)
    chat = [m for m in ours.made if m.ask.band == CHAT]
    return {
        "flood.retry_after_admitted": came.share,
        "flood.came": float(came.came),
        "flood.refused_first": float(came.refused_first),
        "flood.lost": float(lost(ours.made) + unaccounted + view.queued + view.running),
        "flood.late": float(sum(not m.done for m in ours.made if m.ask.band == FLOOD)),
        "flood.chat_ttft_p99": spread(_ttft(chat)).p99,
        "flood.chat_refused": float(sum(t.refusal is not None for m in chat for t in m.tries)),
        "flood.makespan": ours.makespan_s,
        "flood.fifo.chat_ttft_p99": spread(_ttft([m for m in plain.made if m.ask.band == CHAT])).p99,
        "flood.fifo.makespan": plain.makespan_s,
    }


def hosted(seed: int, traces: Path) -> Sample:
    """Without us, and with us: limits are learnt from the provider's headers."""
    world = HostedWorld()
    admission = EndpointAdmission(capacity=Capacity(hosted=True))
    plain = drive_hosted(world, seed, None)
    ours = drive_hosted(world, seed, AdmissionPolicy({ENDPOINT: admission}, {}, default=admission), endpoint=ENDPOINT)
    others = [m for m in ours.outcomes.made if m.ask.band != "bulk"]
    return {
        "hosted_cap.others_429": float(ours.others_429),
        "hosted_cap.cap_used": ours.cap_used,
        "hosted_cap.provider_429": float(ours.provider_429),
        "hosted_cap.others_ttft_p99": spread(_ttft(others)).p99,
        "hosted_cap.fifo.others_429": float(plain.others_429),
        "hosted_cap.fifo.cap_used": plain.cap_used,
    }


KINDS: Final = {"giants": giants, "flood": flood, "hosted": hosted}


def measure(kind: str, seed: int, traces: Path) -> Sample:
    """What a process of its own runs."""
    return KINDS[kind](seed, traces)
