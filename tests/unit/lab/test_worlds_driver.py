"""The driver: what a policy asks for is carried out at the right instants, and nothing depends on anything but the asks."""

from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calls.conversation import DialectName
from headway.calls.model import (
    Admit,
    Arrived,
    Chunk,
    Closed,
    Effect,
    Origin,
    Outcome,
    Refuse,
    SubCall,
    SubCallSpec,
    Tick,
    Told,
    WaitUntil,
)
from headway.kernel.instants import NS_PER_MS, MonoNs
from headway.lab.engine.engine import ContinuousEngine
from headway.lab.engine.fit import FitStepTime
from headway.lab.engine.model import EngineEvent, EngineRequest, EngineSettings
from headway.lab.worlds.arms import headway
from headway.lab.worlds.driver import drive
from headway.lab.worlds.giants import GIANT, SMALL, GiantsWorld
from headway.lab.worlds.model import Ask

STEP_MS = 10


class TinyEngine:
    """A prompt is prefilled in one step of 10 ms, alone; then a token a step. Leading blocks seen before are cached."""

    def __init__(self) -> None:
        self.queue: list[EngineRequest] = []
        self.decoding: dict[str, list[int]] = {}
        self.seen: set[tuple[int, ...]] = set()
        self.log: list[tuple[int, str, int]] = []

    @property
    def busy(self) -> bool:
        return bool(self.queue or self.decoding)

    waiting = running = 0

    def submit(self, request: EngineRequest, now: int) -> None:
        self.log.append((now, request.id, request.prompt_tokens))
        self.queue.append(request)

    def abort(self, request_id: str) -> None:
        self.queue = [r for r in self.queue if r.id != request_id]
        self.decoding.pop(request_id, None)

    def step(self, now: int) -> tuple[int, list[EngineEvent]]:
        ended = now + STEP_MS * NS_PER_MS
        events = []
        for name, state in list(self.decoding.items()):
            state[0] += 1
            events.append(EngineEvent(at=ended, id=name, kind="token", output_tokens=state[0]))
            self._finish(name, state, ended, events)
        if self.queue:
            request = self.queue.pop(0)
            cached = max((n for n in range(len(request.blocks) + 1) if request.blocks[:n] in self.seen), default=0)
            self.seen |= {request.blocks[: n + 1] for n in range(len(request.blocks))}
            events.append(EngineEvent(at=ended, id=request.id, kind="first", cached_tokens=cached * 16, output_tokens=1))
            self.decoding[request.id] = [1, request.output_tokens]
            self._finish(request.id, self.decoding[request.id], ended, events)
        return ended, events

    def _finish(self, name: str, state: list[int], at: int, events: list[EngineEvent]) -> None:
        if state[0] >= state[1]:
            del self.decoding[name]
            events.append(EngineEvent(at=at, id=name, kind="finished", output_tokens=state[0]))


class Scripted:
    """A policy of a few lines for a test; keeps what it was told."""

    name = "scripted"
    wants_text = False

    def __init__(self, answer, *, wants_chunks: bool = False) -> None:
        self.answer, self.wants_chunks = answer, wants_chunks
        self.told: list[tuple[MonoNs, Told]] = []

    def receive(self, event: Told, now: MonoNs) -> tuple[Effect, ...]:
        self.told.append((now, event))
        return tuple(self.answer(event, now) or ())

    def of(self, kind):
        return [(now, event) for now, event in self.told if type(event) is kind]


def ask(name: str, at_ms: float = 0.0, *, prompt: int = 64, output: int = 3, **more: object) -> Ask:
    blocks = tuple(hash((name, k)) for k in range(prompt // 16))
    fields: dict[str, object] = {"tenant": "t", "band": "small", "blocks": blocks, **more}
    return Ask(call=name, at=int(at_ms * NS_PER_MS), prompt_tokens=prompt, output_tokens=output, **fields)


def admit(event: Told, now: MonoNs):
    return [Admit(call=event.call)] if type(event) is Arrived else []


def test_without_a_policy_calls_go_straight_on_and_a_hop_is_paid_twice() -> None:
    out = drive([ask("a")], TinyEngine(), hop_ms=2.0)
    a = out.made[0]
    assert a.done
    assert a.ttft_ms == pytest.approx(2 + STEP_MS + 2)
    assert a.e2e_ms == pytest.approx(2 + 3 * STEP_MS + 2)
    assert list(a.last.gaps_ms) == pytest.approx([STEP_MS, STEP_MS])
    assert out.makespan_s == pytest.approx(0.034)
    assert out.tokens_per_s == pytest.approx((64 + 3) / 0.034)


def test_calls_of_one_instant_share_the_step_that_begins_then() -> None:
    engine = TinyEngine()
    drive([ask("a"), ask("b")], engine, hop_ms=0.0)
    assert [(now, name) for now, name, _ in engine.log] == [(0, "a"), (0, "b")]


def test_a_wait_is_ticked_once_and_a_later_wish_replaces_it() -> None:
    def answer(event: Told, now: MonoNs):
        if type(event) is Arrived:
            return [
                WaitUntil(at=MonoNs(5 * NS_PER_MS), endpoint="lab"),
                WaitUntil(at=MonoNs(20 * NS_PER_MS), endpoint="lab"),
            ]
        return [Admit(call="a")] if type(event) is Tick else []

    policy = Scripted(answer)
    out = drive([ask("a")], TinyEngine(), policy, hop_ms=0.0)
    assert [now for now, _ in policy.of(Tick)] == [20 * NS_PER_MS]
    assert out.made[0].queue_ms == pytest.approx(20)
    assert out.made[0].ttft_ms == pytest.approx(20 + STEP_MS)


def test_pieces_are_prefixes_of_the_prompt_and_the_call_follows_them() -> None:
    def spec(upto: int) -> SubCallSpec:
        return SubCallSpec(origin=Origin.PIECE, codec=DialectName.OPENAI_CHAT, upto_tokens=upto, max_tokens=1)

    def answer(event: Told, now: MonoNs):
        match event:
            case Arrived():
                return [SubCall(call="a", spec=spec(32), charge_to="t")]
            case Closed(parent_call="a", call="a/1"):
                return [SubCall(call="a", spec=spec(64), charge_to="t")]
            case Closed(parent_call="a"):
                return [Admit(call="a")]
        return []

    policy, engine = Scripted(answer), TinyEngine()
    out = drive([ask("a", prompt=96)], engine, policy, hop_ms=0.0)
    assert [(name, tokens) for _, name, tokens in engine.log] == [("a/1", 32), ("a/2", 64), ("a", 96)]
    closed = [event for _, event in policy.of(Closed)]
    assert [(c.call, c.parent_call, c.usage.input_tokens, c.usage.cached_tokens) for c in closed] == [
        ("a/1", "a", 32, 0),
        ("a/2", "a", 64, 32),
        ("a", "", 96, 64),
    ]
    call = out.made[0].last
    assert (call.pieces, call.piece_first, call.cached_tokens) == (2, 0, 64)
    assert out.tokens_per_s * out.makespan_s == pytest.approx(96 + 3)  # pieces count nothing


def test_a_piece_is_cut_by_bytes_so_a_wrong_estimate_cuts_elsewhere() -> None:
    def answer(event: Told, now: MonoNs):
        if type(event) is Arrived:
            assert event.prompt_tokens_estimate == 200
            spec = SubCallSpec(origin=Origin.PIECE, codec=DialectName.OPENAI_CHAT, upto_tokens=100, max_tokens=1)
            return [SubCall(call="a", spec=spec, charge_to="t"), Admit(call="a")]
        return []

    engine = TinyEngine()
    drive([ask("a", prompt=400, estimate_tokens=200)], engine, Scripted(answer), hop_ms=0.0)
    assert [tokens for _, _, tokens in engine.log] == [200, 400]  # half of it, and Admit waited for the piece


def test_a_refused_client_comes_again_when_told_and_its_wait_counts() -> None:
    def answer(event: Told, now: MonoNs):
        if type(event) is not Arrived:
            return []
        if now < 1_500 * NS_PER_MS:
            return [Refuse(call=event.call, reason="wait", message="later", retry_after_ms=700)]
        return [Admit(call=event.call)]

    policy = Scripted(answer)
    out = drive([ask("a", retries_max=5), ask("b", retries_max=1)], TinyEngine(), policy, hop_ms=0.0)
    a, b = out.made
    assert [t.started // NS_PER_MS for t in a.tries] == [0, 700, 1_400, 2_100]
    assert [t.call for t in a.tries] == ["a", "a~2", "a~3", "a~4"]
    assert a.done
    assert a.ttft_ms == pytest.approx(2_110)
    assert not b.done
    assert len(b.tries) == 2
    assert b.last.outcome is Outcome.REFUSED
    assert [e.outcome for _, e in policy.of(Closed) if e.call.startswith("b")] == [Outcome.REFUSED] * 2


def test_a_call_cut_while_it_runs_is_evicted_and_leaves_the_engine() -> None:
    def answer(event: Told, now: MonoNs):
        if type(event) is Chunk and event.call == "a" and now > 30 * NS_PER_MS:
            return [Refuse(call="a", reason="budget", message="over")]
        return admit(event, now)

    policy = Scripted(answer, wants_chunks=True)
    out = drive([ask("a", output=1_000)], TinyEngine(), policy, hop_ms=0.0)
    assert out.made[0].last.outcome is Outcome.EVICTED
    assert out.ended_at < 60 * NS_PER_MS


def test_chunks_are_told_only_to_a_policy_that_wants_them() -> None:
    for wants in (True, False):
        policy = Scripted(admit, wants_chunks=wants)
        drive([ask("a", output=5)], TinyEngine(), policy)
        assert len(policy.of(Chunk)) == (5 if wants else 0)


def test_two_asks_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two asks are named 'a'"):
        drive([ask("a"), ask("a")], TinyEngine())


def _log_of(world: GiantsWorld, seed: int) -> list[tuple[int, str, str, int]]:
    log: list[tuple[int, str, str, int]] = []
    drive(world.asks(seed), TinyEngine(), Scripted(admit), log=lambda *line: log.append(line))
    return log


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32))
def test_one_seed_one_log(seed: int) -> None:
    world = GiantsWorld(giants=1, load_s=3.0, giants_at_s=1.0)
    assert _log_of(world, seed) == _log_of(world, seed)
    assert _log_of(world, seed) != _log_of(world, seed + 1)


def test_three_hundred_requests_take_under_two_seconds() -> None:
    world = GiantsWorld(giants=2, load_s=28.0, giants_at_s=5.0)
    asks = world.asks(1)
    assert len(asks) >= 300
    time = FitStepTime(
        name="fit", source="a test", floor_ms=13.2, base_ms=13.2, token_ms=0.0283, pair_ms=2.33e-6, context_ms=9.1e-5, decode_ms=0.0
    )
    began = process_time()
    out = drive(asks, ContinuousEngine(EngineSettings(), time, token_events=True), headway().policy(), endpoint="lab")
    assert process_time() - began < 2.0
    assert all(made.done for made in out.made)


def test_small_asks_do_not_change_with_giants_and_fit_the_description() -> None:
    with_giants, without = GiantsWorld(giants=5).asks(3), GiantsWorld(giants=0).asks(3)
    assert [a for a in with_giants if a.band == SMALL] == without
    assert 600 < len(without) < 850
    assert all(100 <= a.prompt_tokens <= 400 and 60 <= a.output_tokens <= 200 for a in without)
    giants = [a for a in with_giants if a.band == GIANT]
    assert {(a.prompt_tokens, a.output_tokens, a.at) for a in giants} == {(28_000, 1_500, 20 * 10**9)}
    judged = [a for a in with_giants if GiantsWorld(giants=5).judged(a)]
    assert 80 < len(judged) < 170
