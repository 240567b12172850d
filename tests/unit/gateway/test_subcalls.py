"""Calls on a call's behalf: their deadline, their end, whom they are charged to, and what they share with their parent."""

import asyncio
import json
from collections.abc import Sequence

import msgspec
import pytest
from gateway_bench import JSON, Bench, FakeExchange, chat, settings, whole
from gateway_policies import Scripted

from headway.calls.conversation import DialectName
from headway.calls.model import Admit, Arrived, Chunk, Closed, Effect, Head, Origin, SubCall, SubCallSpec, Told
from headway.config.model import Admission, Provider, Settings
from headway.gateway.engine.hints import slot_for
from headway.gateway.upstream.port import UpstreamError, UpstreamPhase, UpstreamRequest
from headway.kernel.instants import MonoNs, mono_ns
from headway.kernel.limits import SUBCALLS_PER_CALL_MAX
from headway.ledger.model import BudgetUnit, Lease
from headway.link.messages import BudgetScope


def asking(*specs: SubCallSpec, charge_to: str = "acme", priority: int | None = None) -> Scripted:
    def on(event: Told, now: MonoNs) -> Sequence[Effect] | None:
        if isinstance(event, Arrived):
            wanted = [SubCall(call=event.call, spec=spec, charge_to=charge_to) for spec in specs]
            return (*wanted, Admit(call=event.call, priority=priority))
        return None

    return Scripted(on)


def piece(**fields: object) -> SubCallSpec:
    return SubCallSpec(**{"origin": Origin.PIECE, "codec": DialectName.OPENAI_CHAT, "upto_tokens": 50, **fields})  # type: ignore[arg-type]


def answer(request: UpstreamRequest) -> FakeExchange:
    return FakeExchange(200, JSON, [whole()])


def ends(policy: Scripted) -> list[Closed]:
    return [e for e in policy.told if isinstance(e, Closed) and e.parent_call]


async def test_a_subcall_has_no_more_time_than_its_parent() -> None:
    b = Bench(answer, policy=asking(piece()))
    await b.call(chat(text="word " * 500), x_headway_deadline_ms="800")
    sub, parent = b.upstream.requests
    for request in (sub, parent):
        assert request.remaining_ms is not None
        assert 0 < request.remaining_ms <= 800


class Silent:
    """An upstream that answers nobody, and notes who gave up."""

    def __init__(self) -> None:
        self.begun = self.cancelled = 0

    async def exchange(self, request: UpstreamRequest) -> FakeExchange:
        self.begun += 1
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError

    async def close(self) -> None: ...


@pytest.mark.parametrize("wait_for_it", [True, False])
async def test_when_the_parent_goes_its_children_go_and_each_is_recorded(wait_for_it: bool) -> None:
    policy = asking(piece(wait_for_it=wait_for_it), piece(wait_for_it=wait_for_it))
    b = Bench(answer, policy=policy)
    silent = Silent()
    b.services.upstream = silent  # type: ignore[assignment]
    call = asyncio.create_task(b.call(chat(text="word " * 500)))
    await asyncio.sleep(0.05)
    assert silent.begun == (2 if wait_for_it else 3)
    parent = next(f for f in b.services.in_flight.values() if not f.parent)
    parent.interrupt("gone")
    await call
    await asyncio.sleep(0.01)
    assert silent.cancelled == silent.begun
    assert not b.services.in_flight
    assert {c.outcome for c in b.facts.calls()} == {"client_gone"}
    assert len(b.facts.calls()) == 3
    assert len(ends(policy)) == 2
    assert "headway_calls_lost 0" in b.services.metrics.render()


async def test_too_many_subcalls_are_not_started_and_counted() -> None:
    def on(event: Told, now: MonoNs) -> Sequence[Effect] | None:
        if isinstance(event, Arrived):
            return [SubCall(call=event.call, spec=piece(), charge_to="acme") for _ in range(60)]
        if isinstance(event, Closed) and event.parent_call:
            more = [SubCall(call=event.parent_call, spec=piece(), charge_to="acme") for _ in range(20)]
            return [*more, Admit(call=event.parent_call)] if len(ends(policy)) > SUBCALLS_PER_CALL_MAX - 5 else more
        return None

    policy = Scripted(on)
    b = Bench(answer, policy=policy)
    reply = await b.call(chat(text="word " * 200))
    assert reply.status == 200
    assert len([c for c in b.facts.calls() if c.origin == "piece"]) == SUBCALLS_PER_CALL_MAX
    assert b.services.desk.refused_effects > 0


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (UpstreamError("no", phase=UpstreamPhase.CONNECT), "upstream_error"),
        (UpstreamError("slow", phase=UpstreamPhase.FIRST_BYTE, timed_out=True), "timeout"),
        (FakeExchange(503, JSON, [b'{"error":{"message":"busy"}}']), "upstream_error"),
    ],
)
async def test_a_subcall_that_fails_is_told_and_does_not_fail_its_parent(failure: object, outcome: str) -> None:
    first = [True]

    def script(request: UpstreamRequest) -> FakeExchange | UpstreamError:
        if first.pop() if first else False:
            return failure  # type: ignore[return-value]
        return answer(request)

    policy = asking(piece())
    b = Bench(script, policy=policy)
    assert (await b.call(chat(text="word " * 200))).status == 200
    assert [e.outcome for e in ends(policy)] == [outcome]
    assert [c.outcome for c in b.facts.calls() if c.origin == "piece"] == [outcome]


async def test_a_subcall_that_cannot_be_built_is_told_and_does_not_hang_its_parent() -> None:
    """Its body decodes in no other dialect; the parent's passes as it is."""
    spec = SubCallSpec(origin=Origin.SECOND_PASS, codec=DialectName.ANTHROPIC, instruction="check", max_tokens=5)
    policy = asking(spec)
    b = Bench(answer, policy=policy)
    body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": [{"type": "text"}]}]}).encode()
    async with asyncio.timeout(2):
        assert (await b.call(body)).status == 200
    assert [e.outcome for e in ends(policy)] == ["refused"]
    assert len(b.facts.calls()) == 2
    assert not b.services.in_flight


async def test_policies_hear_only_the_end_of_a_subcall() -> None:
    policy = asking(piece(), piece(upto_tokens=80))
    b = Bench(answer, policy=policy)
    await b.call(chat(text="word " * 500))
    parent = b.facts.call().call
    assert {e.call for e in policy.told if isinstance(e, Head | Chunk | Arrived)} == {parent}
    assert {e.parent_call for e in ends(policy)} == {parent}


BUDGETS = tuple(
    BudgetScope(budget=name, scope=name, unit=BudgetUnit.TOKENS, block=10**6, cap=10**7)
    for name in ("tenant:acme", "tenant:reports")
)


@pytest.mark.parametrize("charge_to", ["acme", "reports"])
async def test_a_subcall_is_charged_to_whom_the_policy_said_and_on_its_own_tenants_key(charge_to: str) -> None:
    b = Bench(answer, policy=asking(piece(), charge_to=charge_to))
    key = f"key:{next(iter(b.services.live.keys))}"  # type: ignore[union-attr]
    budgets = (*BUDGETS, BudgetScope(budget=key, scope=key, unit=BudgetUnit.TOKENS, block=10**6, cap=10**7))
    b = Bench(answer, policy=asking(piece(), charge_to=charge_to), budgets=budgets)
    for s in budgets:
        b.services.book.granted(
            Lease(id=s.budget, budget=s.budget, scope=s.scope, unit=s.unit, amount=s.block, ttl_ms=60_000), mono_ns()
        )
    assert (await b.call(chat(text="word " * 200))).status == 200
    spent = {lease: amount for lease, amount, _ in b.services.book.reports(mono_ns())}
    if charge_to == "acme":  # a piece is a part of the prompt that its parent pays for
        assert spent == {"tenant:acme": 13, "tenant:reports": 0, key: 13}
    else:
        assert spent == {"tenant:acme": 13, "tenant:reports": 13, key: 13}
    assert [c.charged_to for c in b.facts.calls() if c.origin == "piece"] == [charge_to]


# --- what an engine of one's own is told


def engine(preset: str, slots: int = 0, *, priority: bool = False) -> Settings:
    base = settings()
    admission = Admission(priority=True) if priority else None
    one = Provider(preset=preset, base_url="http://one.test", models=("m1",), slots=slots, admission=admission)
    return msgspec.structs.replace(base, providers=base.providers | {"one": one})


async def test_parent_and_pieces_share_a_slot_of_llama_cpp() -> None:
    b = Bench(answer, policy=asking(piece(share="slot"), piece(share="slot", upto_tokens=80)), config=engine("llama.cpp", slots=6))
    await b.call(chat(text="word " * 500))
    slots = [json.loads(r.body)["id_slot"] for r in b.upstream.requests]
    assert len(slots) == 3
    assert len(set(slots)) == 1
    target = b.services.live.route("chat").targets()[0]  # type: ignore[union-attr]
    assert slots[0] == slot_for(b.facts.call().call, target)
    assert {slot_for(f"call_{i}", target) for i in range(200)} == set(range(6))


@pytest.mark.parametrize(("preset", "slots", "share"), [("llama.cpp", 0, "slot"), ("vllm", 6, "slot"), ("llama.cpp", 6, "replica")])
async def test_no_slot_where_the_engine_has_none_or_nobody_asked(preset: str, slots: int, share: str) -> None:
    b = Bench(answer, policy=asking(piece(share=share)), config=engine(preset, slots))
    await b.call(chat(text="word " * 500))
    assert all("id_slot" not in json.loads(r.body) for r in b.upstream.requests)


@pytest.mark.parametrize(("preset", "sent"), [("vllm", -3), ("sglang", 3), ("llama.cpp", None)])
async def test_the_priority_of_an_admission_reaches_engines_that_take_one(preset: str, sent: int | None) -> None:
    body = chat(text="hello")
    b = Bench(answer, policy=asking(priority=-3), config=engine(preset, priority=True))
    await b.call(body)
    expected = json.loads(body) | {"model": "m1"} | ({"priority": sent} if sent is not None else {})
    assert json.loads(b.upstream.requests[0].body) == expected
    plain = Bench(answer, policy=asking(), config=engine(preset, priority=True))
    await plain.call(body)
    assert "priority" not in json.loads(plain.upstream.requests[0].body)


async def test_no_priority_where_the_provider_is_not_said_to_take_one() -> None:
    b = Bench(answer, policy=asking(priority=-3), config=engine("vllm"))
    await b.call(chat(text="hello"))
    assert "priority" not in json.loads(b.upstream.requests[0].body)


async def test_a_callers_own_priority_gives_way_to_the_policys() -> None:
    b = Bench(answer, policy=asking(priority=7), config=engine("vllm", priority=True))
    await b.call(chat(priority=-1_000))
    assert b.upstream.requests[0].body.count(b'"priority"') == 1
    assert json.loads(b.upstream.requests[0].body)["priority"] == 7
