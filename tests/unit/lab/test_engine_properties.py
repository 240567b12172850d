"""The engine under anything: against a plain model of the loop, and what must hold whatever comes.

The plain model walks every request in every step, as the loop is told in words; the engine keeps sums.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from headway.kernel.instants import NS_PER_MS
from headway.lab.engine.engine import ContinuousEngine
from headway.lab.engine.fit import FitStepTime
from headway.lab.engine.model import EngineEvent, EngineRequest, EngineSettings, StepWork
from headway.lab.engine.scheduler import StepScheduler
from headway.lab.engine.sequence import DECODE

TIME = FitStepTime(name="fit", source="made", floor_ms=5, base_ms=4, token_ms=0.1, pair_ms=1e-4, context_ms=1e-3, decode_ms=0.05)
KV_TOKENS = 240


@st.composite
def setups(draw, *, plain: bool = False) -> EngineSettings:
    """``plain``: what the plain model knows."""
    block = draw(st.sampled_from([1, 4, 16]))
    long = draw(st.none() | st.integers(1, 20))
    chunked = plain or draw(st.booleans())
    return EngineSettings(
        step_tokens_max=draw(st.integers(8, 60)),
        sequences_max=draw(st.integers(1, 8)),
        block_tokens=block,
        kv_blocks=draw(st.none() | st.just(KV_TOKENS // block)),
        prefix_cache=not plain and draw(st.booleans()),
        long_prefill_tokens_max=long,
        long_prefills_max=None if long is None or plain else draw(st.none() | st.integers(1, 3)),
        chunked_prefill=chunked,
        priority=draw(st.booleans()),
        skip_blocked_head=not plain and draw(st.booleans()),
        reserve_prompt=draw(st.booleans()),
        reserve_output=not plain and draw(st.booleans()),
        plan_ahead=chunked and not plain and draw(st.booleans()),
        decode_steps_between_prefills=draw(st.integers(0, 3)),
    )


@st.composite
def requests(draw, count: int = 12) -> list[tuple[int, EngineRequest]]:
    """(step at which it comes, request), every one small enough to run alone."""
    made = []
    for place in range(draw(st.integers(1, count))):
        prompt = draw(st.integers(1, 150))
        family = draw(st.integers(0, 2))
        made.append(
            (
                draw(st.integers(0, 30)),
                EngineRequest(
                    id=f"r{place}",
                    prompt_tokens=prompt,
                    output_tokens=draw(st.integers(1, 60)),
                    blocks=tuple(family * 1_000 + i for i in range(prompt)) if family else (),
                    priority=draw(st.integers(0, 2)),
                ),
            )
        )
    return sorted(made, key=lambda pair: (pair[0], pair[1].id))


def drive(built, coming, *, each=lambda step: None) -> list[EngineEvent]:
    events, now, step, place = [], 0, 0, 0
    while place < len(coming) or built.busy:
        while place < len(coming) and coming[place][0] <= step:
            built.submit(coming[place][1], now)
            place += 1
        now, more = built.step(now)
        events += more
        step += 1
        each(step)
        assert step < 20_000, "it never ends"
    return events


class Plain:
    """The loop as it is told: decodes, running prefills, waiting requests, one by one."""

    def __init__(self, settings: EngineSettings) -> None:
        self.s = settings
        self.waiting: list[dict] = []
        self.running: list[dict] = []
        self.count = 0

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.running)

    def submit(self, request: EngineRequest, now: int) -> None:
        self.count += 1
        one = {"r": request, "order": self.count, "kv": 0, "target": request.prompt_tokens, "made": 0, "told": False}
        self.waiting.append(one)
        if self.s.priority:
            self.waiting.sort(key=lambda w: (w["r"].priority, w["order"]))

    def blocks(self, tokens: int) -> int:
        return -(-tokens // self.s.block_tokens)

    def free(self) -> int:
        return 10**9 if self.s.kv_blocks is None else self.s.kv_blocks - sum(self.blocks(one["kv"]) for one in self.running)

    def throw_out(self, chunks: list, gone: list) -> tuple[dict, int]:
        victim = max(self.running, key=lambda o: (o["r"].priority, o["order"])) if self.s.priority else self.running[-1]
        back = sum(n for one, n, _ in chunks if one is victim) or int(victim["kv"] >= victim["target"])
        chunks[:] = [chunk for chunk in chunks if chunk[0] is not victim]
        self.running.remove(victim)
        victim["kv"], victim["target"] = 0, victim["r"].prompt_tokens + victim["made"]
        self.waiting.insert(0, victim)
        if self.s.priority:
            self.waiting.sort(key=lambda w: (w["r"].priority, w["order"]))
        gone.append(victim)
        return victim, back

    def step(self, now: int) -> tuple[int, list[EngineEvent]]:
        if not self.busy:
            return now, []
        chunks: list[tuple[dict, int, int]] = []
        gone: list[dict] = []
        while True:
            decoding = [one for one in self.running if one["kv"] >= one["target"]]
            if sum(one["kv"] % self.s.block_tokens == 0 for one in decoding) <= self.free():
                break
            self.throw_out(chunks, gone)
        for one in decoding:
            one["kv"] += 1
        tokens = self.s.step_tokens_max - len(decoding)
        most = self.s.long_prefill_tokens_max or 10**9
        for one in [one for one in self.running if one not in decoding]:
            if tokens <= 0 or one not in self.running:
                continue
            n = min(one["target"] - one["kv"], tokens, most)
            while one in self.running and self.blocks(one["kv"] + n) - self.blocks(one["kv"]) > self.free():
                victim, back = self.throw_out(chunks, gone)
                tokens += back
                decoding = [other for other in decoding if other is not victim]
            if one in self.running:
                chunks.append((one, n, one["kv"]))
                one["kv"] += n
                tokens -= n
        if not gone or not (decoding or chunks):
            while tokens > 0 and self.waiting and len(self.running) < self.s.sequences_max:
                one = self.waiting[0]
                n = min(one["target"], tokens, most)
                if self.blocks(one["target"] if self.s.reserve_prompt else n) > self.free():
                    break
                self.running.append(self.waiting.pop(0))
                chunks.append((one, n, 0))
                one["kv"] = n
                tokens -= n
        return self.finish(now, decoding, chunks, gone)

    def finish(self, now: int, decoding: list, chunks: list, gone: list) -> tuple[int, list[EngineEvent]]:
        ended = [one for one, _, _ in chunks if one["kv"] == one["target"]]
        work = StepWork(
            chunks=tuple((n, before) for _, n, before in chunks),
            decodes=len(decoding),
            decode_context=sum(one["kv"] for one in decoding),
            sequences=len(decoding) + len(ended),
            decode_context_max=max((one["kv"] for one in decoding), default=0),
        )
        at = now + round(TIME.step_ms(work) * NS_PER_MS)
        self.work = work
        told = [("preempted", one["r"].id, one["made"]) for one in gone]
        for one in decoding + ended:
            one["made"] += 1
        for one in ended:
            if not one["told"]:
                one["told"] = True
                told.append(("first", one["r"].id, one["made"]))
        for one in decoding + ended:
            if one["made"] == one["r"].output_tokens:
                told.append(("finished", one["r"].id, one["made"]))
                self.running.remove(one)
        return at, [EngineEvent(at=at, id=i, kind=kind, output_tokens=made) for kind, i, made in told]


def as_set(events: list[EngineEvent]) -> list[tuple[int, str, str, int]]:
    """Within one instant the order of unlike requests says nothing."""
    return sorted((event.at, event.kind, event.id, event.output_tokens) for event in events)


@settings(max_examples=150, deadline=None)
@given(setups(plain=True), requests())
def test_sums_tell_what_walking_every_request_tells(setup: EngineSettings, coming) -> None:
    assert as_set(drive(ContinuousEngine(setup, TIME), coming)) == as_set(drive(Plain(setup), coming))


def memory_adds_up(scheduler: StepScheduler) -> None:
    """Invariants 1 and 2: blocks held are blocks of running requests, and the sums are the sums."""
    pool = scheduler.pool
    decodes = scheduler._decodes
    holding = [*scheduler._running, *scheduler._leavers]
    tokens = {seq.id: decodes.tokens(seq) if seq.state == DECODE else seq.computed for seq in holding}
    assert pool.private == sum(scheduler._blocks(tokens[seq.id]) - len(seq.held) for seq in holding)
    assert set(pool._held) == {key for seq in holding for key in seq.held}
    assert pool.private >= 0
    assert pool.used + pool.idle <= pool.capacity
    members = [seq for seq in holding if seq.state == DECODE]
    assert decodes.count == len(members)
    assert decodes.context == sum(tokens[seq.id] for seq in members)
    assert decodes.context_max == max((tokens[seq.id] for seq in members), default=0)
    assert scheduler.running <= scheduler.settings.sequences_max


def nothing_is_left(scheduler: StepScheduler) -> None:
    decodes = scheduler._decodes
    assert not scheduler.busy
    assert (scheduler.waiting, scheduler.running, scheduler.pool.used, scheduler.pool.private) == (0, 0, 0, 0)
    assert (decodes.count, decodes.context, decodes._ending, any(decodes._rings), decodes._longest) == (0, 0, {}, False, [])
    for kept in ("_members", "_running", "_prefilling", "_arrivals", "_leavers"):
        assert not getattr(scheduler, kept), kept


@settings(max_examples=150, deadline=None)
@given(setups(), requests())
def test_every_token_comes_once_and_memory_comes_back(setup: EngineSettings, coming) -> None:
    built = ContinuousEngine(setup, TIME, token_events=True)
    events = drive(built, coming, each=lambda _: memory_adds_up(built.scheduler))
    for _, request in coming:
        mine = [event for event in events if event.id == request.id and event.kind != "preempted"]
        assert [event.output_tokens for event in mine] == [*range(1, request.output_tokens + 1), request.output_tokens]
        assert [event.kind for event in mine] == ["first", *["token"] * (request.output_tokens - 1), "finished"]
        assert mine[0].cached_tokens < request.prompt_tokens
        assert sorted(event.at for event in mine) == [event.at for event in mine]
    assert built.scheduler.tokens_produced == sum(request.output_tokens for _, request in coming)
    if setup.reserve_output and not setup.chunked_prefill:
        assert built.preemptions == 0
    nothing_is_left(built.scheduler)


@settings(max_examples=150, deadline=None)
@given(setups(), requests(), st.data())
def test_aborts_at_any_time_leave_nothing(setup: EngineSettings, coming, data) -> None:
    built = ContinuousEngine(setup, TIME)
    aborted: set[str] = set()

    def each(_: int) -> None:
        if data.draw(st.booleans()):
            victim = f"r{data.draw(st.integers(0, 11))}"
            if victim in built.scheduler._members:
                aborted.add(victim)
            built.abort(victim)
        memory_adds_up(built.scheduler)

    events = drive(built, coming, each=each)
    finished = {event.id for event in events if event.kind == "finished"}
    assert finished | aborted == {request.id for _, request in coming}
    assert not finished & aborted
    nothing_is_left(built.scheduler)


@settings(max_examples=50, deadline=None)
@given(setups(), requests())
def test_the_same_comes_out_again_to_the_last_byte(setup: EngineSettings, coming) -> None:
    one, two = (repr(drive(ContinuousEngine(setup, TIME, token_events=True), coming)).encode() for _ in range(2))
    assert one == two


@settings(max_examples=50, deadline=None)
@given(setups(), requests())
def test_a_steps_budget_is_kept(setup: EngineSettings, coming) -> None:
    built = ContinuousEngine(setup, TIME)

    def each(_: int) -> None:
        work = built.last_work
        tokens = work.decodes + sum(chunk for chunk, _ in work.chunks)
        if setup.chunked_prefill:
            assert tokens <= setup.step_tokens_max
            if setup.long_prefill_tokens_max is not None:
                assert all(chunk <= setup.long_prefill_tokens_max for chunk, _ in work.chunks)
        else:
            assert not (work.decodes and work.chunks)
            assert len(work.chunks) <= 1 or tokens <= setup.step_tokens_max

    drive(built, coming, each=each)
