"""The live feed: what it keeps, what it gives up on, and what a slow watcher misses."""

import asyncio

import pytest

from headway.control.errors import Refused
from headway.control.live import LiveFeed
from headway.facts.model import CallFact
from headway.kernel import limits
from headway.kernel.instants import WallMs
from headway.link.messages import CallOpened, CallSeen


def opened(call: str, at: int = 1_000, tenant: str = "acme") -> CallOpened:
    return CallOpened(call=call, started_wall_ms=at, tenant=tenant, feature="f", requested="m", dialect="openai-chat", stream=True)


def seen(call: str, at: int = 1_000, **fields: str) -> CallSeen:
    return CallSeen(fact=CallFact(call=call, started_wall_ms=at, duration_ms=5.0, gateway="gw", tenant="acme", **fields))


def test_a_call_moves_from_open_to_ended():
    live = LiveFeed()
    live.opened("gw", opened("a"))
    assert [c.state for c in live.in_flight()] == ["in_flight"]
    live.seen("gw", seen("a", outcome="timeout"))
    assert list(live.in_flight()) == []
    assert [(c.call, c.state, c.fact.outcome) for c in live.ended()] == [("a", "ended", "timeout")]
    assert live.find("a").fact is not None


def test_an_end_that_overtakes_its_begin_stays_ended():
    live = LiveFeed()
    live.seen("gw", seen("a"))
    live.opened("gw", opened("a"))
    assert list(live.in_flight()) == []


def test_told_twice_is_kept_once():
    live = LiveFeed()
    for _ in range(2):
        live.opened("gw", opened("a"))
    for _ in range(2):
        live.seen("gw", seen("a"))
    assert len(list(live.ended())) == 1


def test_newest_come_first_and_the_oldest_leave(monkeypatch):
    monkeypatch.setattr(limits, "LIVE_CALLS_KEPT", 3)
    live = LiveFeed()
    for name in "abcde":
        live.seen("gw", seen(name))
    assert [c.call for c in live.ended()] == ["e", "d", "c"]
    assert live.find("a") is None


def test_too_many_open_calls_lose_the_oldest(monkeypatch):
    monkeypatch.setattr(limits, "LIVE_OPEN_MAX", 2)
    live = LiveFeed()
    for name in "abc":
        live.opened("gw", opened(name))
    assert [c.call for c in live.in_flight()] == ["c", "b"]
    assert live.find("a").state == "unknown"
    assert live.lost_calls == 1


def test_open_calls_of_a_gateway_that_stays_away_become_unknown():
    live = LiveFeed()
    live.opened("gone", opened("a"))
    live.opened("here", opened("b"))
    live.gateway_gone("gone", WallMs(5_000))
    live.gateway_gone("gone", WallMs(9_000))
    live.tick(WallMs(5_000 + limits.LIVE_UNKNOWN_AFTER_MS - 1))
    assert live.find("a").state == "in_flight"
    live.tick(WallMs(5_000 + limits.LIVE_UNKNOWN_AFTER_MS))
    assert live.find("a").state == "unknown"
    assert live.find("b").state == "in_flight"
    live.seen("gone", seen("a"))
    assert live.find("a").state == "ended"


def test_a_gateway_that_comes_back_keeps_its_calls():
    live = LiveFeed()
    live.opened("gw", opened("a"))
    live.gateway_gone("gw", WallMs(0))
    live.gateway_back("gw")
    live.tick(WallMs(10 * limits.LIVE_UNKNOWN_AFTER_MS))
    assert live.find("a").state == "in_flight"


def test_nothing_stays_open_for_ever():
    live = LiveFeed()
    live.opened("gw", opened("a", at=1))
    live.tick(WallMs(limits.LIVE_OPEN_AGE_MS_MAX + 2))
    assert live.find("a").state == "unknown"


async def test_a_watcher_gets_what_it_wants():
    live = LiveFeed()
    watcher = live.watch(lambda call: call.tenant == "acme")
    live.opened("gw", opened("a"))
    live.opened("gw", opened("b", tenant="globex"))
    assert await watcher.ready(1)
    calls, dropped = watcher.drain()
    assert [c.call for c in calls] == ["a"]
    assert dropped == 0
    assert not await watcher.ready(0.01)


async def test_a_slow_watcher_misses_and_is_told(monkeypatch):
    monkeypatch.setattr(limits, "EVENT_QUEUE_MAX", 2)
    live = LiveFeed()
    slow = live.watch(lambda _: True)
    for name in "abcde":
        live.opened("gw", opened(name))
    calls, dropped = slow.drain()
    assert [c.call for c in calls] == ["a", "b"]
    assert dropped == 3
    assert live.dropped_events == 3
    assert slow.drain() == ([], 0)


async def test_watchers_are_bounded_and_given_back(monkeypatch):
    monkeypatch.setattr(limits, "EVENT_SUBSCRIBERS_MAX", 1)
    live = LiveFeed()
    watcher = live.watch(lambda _: True)
    with pytest.raises(Refused) as refused:
        live.watch(lambda _: True)
    assert refused.value.status == 503
    live.unwatch(watcher)
    live.watch(lambda _: True)
    assert live.watchers == 1


async def test_closing_ends_a_watcher_that_waits():
    live = LiveFeed()
    watcher = live.watch(lambda _: True)
    waiting = asyncio.create_task(watcher.ready(60))
    await asyncio.sleep(0)
    live.close()
    assert await waiting
    assert watcher.closed
