"""Calls of several tenants at one shared endpoint, through the whole pipeline: fair, refused in words, re-ordered while they wait."""

import asyncio
import json
import re

import msgspec
import pytest
from gateway_bench import FakeReply
from gateway_engine import Engine, SharedBench, shared_settings

from headway.config.model import Admission, AdmissionCapacity, AdmissionLong, AdmissionPacing, AdmissionRun, Tenant
from headway.gateway.state import GatewayState

TWO = AdmissionCapacity(requests_max=2)
PLAIN = Admission(capacity=TWO, pacing=AdmissionPacing(on=False))
WORDS = 0.004


def slow() -> Engine:
    return Engine(word_s=WORDS, words=2)


async def test_a_flood_of_one_tenant_leaves_the_other_its_turn() -> None:
    b = SharedBench(slow(), shared_settings(PLAIN))
    flood = [b.start("acme", f"flood {n}") for n in range(60)]
    await asyncio.sleep(0.02)
    light = [b.start("globex", f"light {n}") for n in range(5)]
    await asyncio.gather(*light)
    before = [s.text for s in b.engine.served]
    replies = await asyncio.gather(*flood)
    assert all(reply.status == 200 for reply in replies)
    begun = [n for n, text in enumerate(before) if text.startswith("light")]
    assert len(begun) == 5
    assert begun[-1] - begun[0] <= 12, "every other place is the light tenant's"
    assert len(before) < 40
    assert b.engine.running_max == 2
    waits = {c.call: c.queue_ms for c in b.facts.calls() if c.tenant == "globex"}
    assert all(wait > 0 for wait in waits.values())


async def test_too_many_are_refused_with_the_truth_about_when() -> None:
    config = shared_settings(msgspec.structs.replace(PLAIN, queued_max=6, queued_per_tenant_max=6))
    b = SharedBench(slow(), config)
    for n in range(10):
        await b.ask("acme", f"before {n}")
    replies = await asyncio.gather(*(b.start("acme", f"call {n}") for n in range(20)))
    refused = [reply for reply in replies if reply.status == 429]
    assert len(refused) == 12
    for reply in refused:
        error = json.loads(reply.body)["error"]
        assert error["type"] == "rate_limit_error"
        assert "wait here" in error["message"]
        assert reply.headers[b"x-should-retry"] == b"true"
        assert int(reply.headers[b"retry-after-ms"]) >= 1
        assert int(reply.headers[b"retry-after"]) >= 1
    facts = [c for c in b.facts.calls() if c.outcome == "refused"]
    assert {c.error_code for c in facts} == {"overloaded"}
    assert len(facts) == 12
    later_s = max(int(reply.headers[b"retry-after-ms"]) for reply in refused) / 1000
    assert later_s < 30
    await asyncio.sleep(later_s)
    again = await asyncio.gather(*(b.start("acme", f"again {n}") for n in range(2)))
    assert [reply.status for reply in again] == [200, 200]


async def test_a_refusal_in_anthropics_words() -> None:
    b = SharedBench(Engine(word_s=0.05), shared_settings(msgspec.structs.replace(PLAIN, queued_max=1, queued_per_tenant_max=1)))
    first = [b.start("acme", f"call {n}") for n in range(3)]
    await asyncio.sleep(0.005)
    body = json.dumps({"model": "chat", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}).encode()
    key = f"Bearer {b.minted['acme'].text}"
    reply = await b.call(body, path="/v1/messages", dialect="anthropic", authorization=key)
    assert reply.status == 429
    assert json.loads(reply.body)["error"]["type"] == "rate_limit_error"
    await asyncio.gather(*first)


async def test_new_weights_hold_for_those_that_wait() -> None:
    b = SharedBench(slow(), shared_settings(PLAIN, acme=Tenant(), globex=Tenant()))
    calls = [b.start(tenant, f"{tenant} {n}", max_tokens=2) for n in range(60) for tenant in ("acme", "globex")]
    await asyncio.sleep(0.06)
    b.install(shared_settings(PLAIN, acme=Tenant(weight=1.0), globex=Tenant(weight=9.0)))
    at = len(b.engine.served)
    while len(b.engine.served) < at + 28:
        await asyncio.sleep(0.005)
    window = [s.text.split()[0] for s in b.engine.served[at + 8 : at + 28]]
    assert window.count("globex") >= 5 * window.count("acme")
    assert all(reply.status == 200 for reply in await asyncio.gather(*calls))


async def test_without_its_table_an_endpoint_lets_everybody_go() -> None:
    b = SharedBench(Engine(word_s=0.03), shared_settings(PLAIN))
    calls = [b.start("acme", f"call {n}") for n in range(10)]
    await asyncio.sleep(0.005)
    assert b.engine.running == 2
    b.install(shared_settings(None))
    replies = [*await asyncio.gather(*calls), await b.ask("globex")]
    assert b.engine.running_max >= 8
    assert all(reply.status == 200 for reply in replies)
    assert b.admission.views(0) == ()  # type: ignore[arg-type]


async def test_nothing_is_asked_where_nobody_shares() -> None:
    b = SharedBench(slow(), shared_settings(None))
    assert not b.services.desk.active
    assert (await b.ask("acme")).status == 200
    b.install(shared_settings(PLAIN))
    assert (await b.ask("acme", model="aside")).status == 200
    assert b.admission.policy is not None
    assert b.admission.policy.endpoints == ()
    assert b.admission.policy.ignored == 0
    assert (await b.ask("acme")).status == 200
    assert b.admission.policy.endpoints == ("engine",)


async def test_one_run_cannot_take_all_places() -> None:
    admission = msgspec.structs.replace(PLAIN, capacity=AdmissionCapacity(requests_max=6), run=AdmissionRun(concurrency_max=2))
    b = SharedBench(Engine(word_s=0.05), shared_settings(admission))
    children = [b.start("acme", f"child {n}", x_headway_run="r1") for n in range(10)]
    await asyncio.sleep(0.01)
    assert b.engine.running == 2
    other = await b.ask("acme", "alone")
    assert other.status == 200
    assert [s.text for s in b.engine.served].index("alone") <= 4
    await asyncio.gather(*children)


async def test_a_caller_that_goes_leaves_its_place_in_the_queue() -> None:
    b = SharedBench(Engine(word_s=0.05), shared_settings(PLAIN))
    first = [b.start("acme", f"call {n}") for n in range(2)]
    await asyncio.sleep(0.005)
    gone = b.start("acme", "gone")
    await asyncio.sleep(0.005)
    (flow,) = [f for f in b.services.in_flight.values() if b"gone" in f.inbound.body]
    flow.interrupt("gone")
    await asyncio.gather(gone, *first)
    (view,) = b.admission.views(0)  # type: ignore[arg-type]
    assert (view.submitted, view.done, view.evicted, view.queued, view.running) == (3, 2, 1, 0, 0)
    assert all(s.text != "gone" for s in b.engine.served)


async def test_a_deadline_ends_the_wait() -> None:
    admission = msgspec.structs.replace(PLAIN, capacity=AdmissionCapacity(requests_max=1), refuse=False)
    b = SharedBench(Engine(word_s=0.1), shared_settings(admission))
    first = b.start("acme", "long")
    await asyncio.sleep(0.005)
    late = await b.ask("globex", "late", x_headway_deadline_ms="30")
    assert late.status == 504
    assert (await first).status == 200
    (view,) = b.admission.views(0)  # type: ignore[arg-type]
    assert view.submitted == view.done + view.evicted == 2


async def test_calls_add_up_and_saturation_is_shown() -> None:
    b = SharedBench(Engine(word_s=0.03), shared_settings(PLAIN))
    calls = [b.start("acme", f"call {n}") for n in range(8)]
    await asyncio.sleep(0.005)
    state = GatewayState(b.services.metrics)
    state.link_up = True
    status, detail = state.readiness(b.services)
    assert status == 200
    assert detail["status"] == "ready"
    (saturated,) = detail["saturated"]  # type: ignore[misc]
    assert re.match(r"engine: 6 calls wait, 2 of 2 run; a call would wait", saturated)
    assert b.metric("headway_admission_calls")['state="queued",endpoint="engine"'] == 6
    assert b.metric("headway_admission_lost") == {'endpoint="engine"': 0}
    await asyncio.gather(*calls)
    totals = b.metric("headway_admission_calls")
    assert totals['state="submitted",endpoint="engine"'] == totals['state="done",endpoint="engine"'] == 8
    assert b.metric("headway_admission_lost") == {'endpoint="engine"': 0}
    assert b.metric("headway_admission_wait_seconds_count") == {'class="interactive"': 8}
    assert state.readiness(b.services)[1]["saturated"] == []


# --- a long prompt in pieces

LONG = "".join(f"line {n:05d} of a long report\n" for n in range(600))
"""About 4,350 of the engine's tokens."""
PACED = Admission(
    capacity=AdmissionCapacity(requests_max=8),
    long=AdmissionLong(prompt_tokens_over=1_000),
    pacing=AdmissionPacing(on=True, stall_ms=20, piece_tokens_min=64, delay_factor_max=4.0),
)


async def chatter(b: SharedBench, until: "asyncio.Task[FakeReply]") -> list[float]:
    """Small calls one after the other while something long goes on; seconds that each took."""
    took: list[float] = []
    loop = asyncio.get_running_loop()
    while not until.done():
        began = loop.time()
        assert (await b.ask("globex", f"small {len(took)}")).status == 200
        took.append(loop.time() - began)
        await asyncio.sleep(0.005)
    return took


def sent_pieces(b: SharedBench) -> list[int]:
    return [s.tokens for s in b.engine.served if s.text.startswith("line") and s.max_tokens == 1]


async def test_a_long_prompt_goes_in_pieces_while_others_are_about() -> None:
    b = SharedBench(Engine(read_tokens_per_s=10_000), shared_settings(PACED))
    for n in range(5):
        await b.ask("globex", f"warm {n}")
    giant = b.start("acme", LONG)
    took = await chatter(b, giant)
    reply = await giant
    assert reply.status == 200
    pieces = sent_pieces(b)
    assert pieces == sorted(pieces)
    assert len(pieces) >= 8
    (last,) = [s for s in b.engine.served if s.text == LONG]
    assert last.cached >= 0.85 * last.tokens
    assert all(LONG.startswith(s.text) for s in b.engine.served if s.text.startswith("line"))
    assert sorted(took)[len(took) * 3 // 4] < 0.2, "the whole prompt would keep the engine for 0.43 s"
    assert len(took) > len(pieces) / 2
    assert {s.slot for s in b.engine.served if s.text.startswith("line")} == {last.slot}
    assert last.slot is not None
    facts = [c for c in b.facts.calls() if c.origin == "piece"]
    (parent,) = [c for c in b.facts.calls() if c.tenant == "acme" and c.origin == "client"]
    assert len(facts) == len(pieces)
    assert {(c.parent_call, c.charged_to, c.tenant, c.cost_nano_usd) for c in facts} == {(parent.call, "acme", "acme", 0)}
    assert parent.queue_ms > 0
    (view,) = b.admission.views(0)  # type: ignore[arg-type]
    assert view.paced_pieces == len(pieces)
    assert b.metric("headway_admission_pieces") == {'endpoint="engine"': len(pieces)}
    assert b.metric("headway_admission_pacing") == {'endpoint="engine",state="idle"': 1}


async def test_the_tenant_pays_for_the_prompt_once() -> None:
    b = SharedBench(Engine(read_tokens_per_s=6_000), shared_settings(PACED))
    await b.ask("globex", "warm")
    giant = b.start("acme", LONG)
    await chatter(b, giant)
    assert (await giant).status == 200
    assert len(sent_pieces(b)) > 3
    (view,) = b.admission.views(0)  # type: ignore[arg-type]
    (acme,) = [t for t in view.tenants if t.tenant == "acme"]
    whole = max(s.tokens for s in b.engine.served) + 2 * b.engine.words
    assert acme.served_tokens == pytest.approx(whole, rel=0.02)
    assert b.metric("headway_tokens_total").keys() >= {'kind="input",feature="chat",tenant="acme"'}
    assert b.metric("headway_tokens_total")['kind="input",feature="chat",tenant="acme"'] == max(s.tokens for s in b.engine.served)


async def test_nobody_about_means_no_pieces() -> None:
    b = SharedBench(Engine(read_tokens_per_s=50_000), shared_settings(PACED))
    assert (await b.ask("acme", LONG)).status == 200
    assert sent_pieces(b) == []


async def test_a_cache_that_does_not_hold_ends_it() -> None:
    b = SharedBench(Engine(read_tokens_per_s=6_000, caches=False), shared_settings(PACED))
    await b.ask("globex", "warm")
    giant = b.start("acme", LONG)
    await chatter(b, giant)
    assert (await giant).status == 200
    (view,) = b.admission.views(0)  # type: ignore[arg-type]
    assert view.pacing == "cache does not hold"
    assert max(sent_pieces(b)) < 2_500


async def test_a_caller_that_goes_midway_ends_its_pieces() -> None:
    b = SharedBench(Engine(read_tokens_per_s=5_000), shared_settings(PACED))
    await b.ask("globex", "warm")
    giant = b.start("acme", LONG)
    while len(sent_pieces(b)) < 3:
        await b.ask("globex", "small")
    (flow,) = [f for f in b.services.in_flight.values() if f.caller.tenant == "acme" and not f.parent]
    flow.interrupt("gone")
    await giant
    sent = len(sent_pieces(b))
    await asyncio.sleep(0.05)
    assert len(sent_pieces(b)) == sent
    (view,) = b.admission.views(0)  # type: ignore[arg-type]
    assert view.submitted == view.done + view.evicted
    assert view.evicted == 1
    assert view.long_running == 0
    assert (view.queued, view.running) == (0, 0)
    assert b.metric("headway_calls_lost") == {"": 0}
