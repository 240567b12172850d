"""Probes on the wire: through a gateway's own door to a scripted upstream, and at gateways that misbehave."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest
from gateway_served import Served, served

from headway.calls.phases.probes import DAY_MS, ROUND
from headway.calls.pricing import PriceRow, PriceTable
from headway.config.model import Probes, Provider, ProviderProbes, Settings
from headway.control.errors import Refused
from headway.control.probes import PRINCIPAL, ProbeJob
from headway.control.probes_http import send
from headway.control.probes_plan import body, caps, models, plans
from headway.facts.answers import FactsAway
from headway.facts.model import AttemptFact, CallFact
from headway.facts.probes import ProbeSpent
from headway.kernel import limits
from headway.kernel.instants import WallMs, wall_ms

PRICED = PriceTable(version="v", rows=(PriceRow(provider="openai", model="m1", input_pico=1_000_000, output_pico=4_000_000),))


class Facts:
    """What probes cost before, by the facts."""

    def __init__(self) -> None:
        self.rows: Sequence[ProbeSpent] = ()
        self.away = ""
        self.asked = 0

    async def probe_spent(self, since_wall_ms: int, until_wall_ms: int) -> Sequence[ProbeSpent]:
        assert (since_wall_ms % DAY_MS, until_wall_ms - since_wall_ms) == (0, DAY_MS)
        self.asked += 1
        if self.away:
            raise FactsAway(self.away)
        return self.rows


class Bench:
    def __init__(self, gateway: Served, **probes: object) -> None:
        self.gateway, self.facts = gateway, Facts()
        self.ahead_ms = 0
        before = gateway.services.live.settings  # type: ignore[union-attr]
        values = {"on": True, "every_s": 10, "gateway": f"http://127.0.0.1:{gateway.port}", "long_tokens": 300, **probes}
        self.settings = msgspec.structs.replace(before, probes=Probes(**values))  # type: ignore[arg-type]
        self.prices = PRICED
        self.job = ProbeJob(lambda: self.settings, lambda: self.prices, self.facts, seed=5, clock=self.now)
        self.publish()

    def now(self) -> WallMs:
        return WallMs(wall_ms() + self.ahead_ms)

    def publish(self) -> None:
        """What the publisher does with control's own key."""
        live = self.gateway.services.live
        assert live is not None
        own = self.job.own_key(self.settings)
        live.keys[own.id], live.probe_key = own, own.id

    async def round_over(self) -> None:
        async with asyncio.timeout(10):
            while any(route.running for route in self.job.view().routes):
                await asyncio.sleep(0.005)

    def calls(self) -> list[CallFact]:
        return [fact for fact in self.gateway.facts.rows if isinstance(fact, CallFact)]

    def bodies(self) -> list[dict[str, object]]:
        return [json.loads(seen["body"]) for seen in self.gateway.scripted.seen.report(last=50, bodies=True)["last"]]


@asynccontextmanager
async def bench(**probes: object) -> AsyncIterator[Bench]:
    async with served() as gateway:
        made = Bench(gateway, **probes)
        try:
            yield made
        finally:
            await asyncio.gather(*made.job._rounds)


async def test_a_round_goes_through_the_gateway_as_probe() -> None:
    async with bench() as b:
        assert await b.job.start("one/m1") == ["one/m1"]
        await b.round_over()
        calls = b.calls()
        assert [call.prompt_ref for call in calls] == ["headway-probe/" + kind for kind in ROUND]
        for call in calls:
            assert (call.origin, call.tenant, call.charged_to, call.principal) == ("probe", "probes", "probes", PRINCIPAL)
            assert (call.outcome, call.routed, call.stream) == ("done", "one/m1", True)
            assert call.first_token_ms is not None
            assert call.input_tokens
        tries = [fact for fact in b.gateway.facts.rows if isinstance(fact, AttemptFact)]
        assert len(tries) == 4
        view = next(route for route in b.job.view().routes if route.route == "one/m1")
        assert [result.call for result in view.results] == [call.call for call in reversed(calls)]
        assert not any(result.problem for result in view.results)
        used = sum(result.cost_nano_usd or 0 for result in view.results)
        assert used == sum((c.input_tokens or 0) * 1_000 + (c.output_tokens or 0) * 4_000 for c in calls), (
            "as reported, not as feared"
        )
        assert b.job.view().spent_nano_usd == used
        assert view.round_nano_usd_max is not None
        assert used <= view.round_nano_usd_max


async def test_nobody_else_is_a_probe() -> None:
    async with bench() as b:
        answer = await b.gateway.call(
            "POST",
            "/v1/chat/completions",
            {"model": "chat", "messages": [{"role": "user", "content": "hello"}]},
            x_headway_prompt="headway-probe/long.cold",
        )
        assert answer.status == 200
        assert b.calls()[0].origin == "client"


async def test_probes_are_no_client_traffic_in_the_metrics() -> None:
    async with bench() as b:
        await b.job.start("one/m1")
        await b.round_over()
        page = b.gateway.metrics.render()
        assert 'headway_calls_total{outcome="done",dialect="openai-chat",feature="",tenant="probes"} 4' in page
        assert "headway_calls_lost 0" in page
        assert "headway_first_token_seconds_count{" not in page
        assert "headway_call_seconds_count{" not in page


async def test_the_schedule_starts_rounds_and_stops_with_the_day_s_money() -> None:
    async with bench(usd_per_day="0.000001") as b:
        await b.job.tick()
        assert b.job.problem == ""
        b.ahead_ms = 24 * 3600 * 1000
        await b.job.tick()
        await b.round_over()
        assert b.calls() == [], "no round fits this cap"
        assert "money" in next(r.refused for r in b.job.view().routes if r.route == "one/m1")
    async with bench() as b:
        await b.job.tick()
        b.ahead_ms = 25_000
        await b.job.tick()
        await b.round_over()
        assert {call.routed for call in b.calls()} == {"one/m1"}, "prices of the others are unknown"
        refused = {route.route: route.refused for route in b.job.view().routes}
        assert "price is unknown" in refused["claude/opus"]


async def test_what_the_facts_say_was_spent_counts_after_a_restart() -> None:
    async with bench(usd_per_day=1) as b:
        b.facts.rows = (ProbeSpent(route="one/m1", calls=9, nano_usd=10**9, unknown=0),)
        with pytest.raises(Refused, match="money"):
            await b.job.start("one/m1")
        assert b.job.view().spent_nano_usd == 10**9


async def test_what_a_round_costs_counts_once_though_the_facts_tell_it_while_it_runs() -> None:
    async with bench() as b:
        await b.job.start("one/m1")
        b.facts.rows = (ProbeSpent(route="one/m1", calls=2, nano_usd=500, unknown=0),)
        b.ahead_ms = 5 * 60_000
        await b.job.tick()
        assert b.facts.asked == 1, "not between its calls"
        await b.round_over()
        cost = b.job.view().spent_nano_usd
        b.facts.rows = (ProbeSpent(route="one/m1", calls=4, nano_usd=cost, unknown=0),)
        b.ahead_ms = 5 * 60_000 + 1
        await asyncio.gather(*b.job._rounds)
        with pytest.raises(Refused):
            await b.job.start("claude/opus")
        assert b.facts.asked == 2
        assert b.job.view().spent_nano_usd == cost


async def test_a_route_that_is_taken_out_while_its_round_runs() -> None:
    async with bench() as b:
        await b.job.start("one/m1")
        b.settings = msgspec.structs.replace(b.settings, providers={})
        assert b.job.view().routes == ()
        await asyncio.gather(*b.job._rounds)
        view = b.job.view()
        assert view.reserved_nano_usd == 0
        assert view.spent_nano_usd > 0
        assert len(b.calls()) == 4


async def test_while_the_facts_are_away_nothing_goes() -> None:
    async with bench() as b:
        b.facts.away = "the disk is on fire"
        b.ahead_ms = 60_000
        await b.job.tick()
        assert "on fire" in b.job.problem
        with pytest.raises(Refused, match="on fire"):
            await b.job.start("one/m1")
        b.facts.away = ""
        await b.job.tick()
        assert b.job.problem == ""


async def test_off_by_default_and_only_then_by_name() -> None:
    async with bench(on=False) as b:
        b.ahead_ms = 3600_000
        await b.job.tick()
        assert (b.calls(), b.facts.asked) == ([], 0)
        with pytest.raises(Refused, match="schedule"):
            await b.job.start("")
        with pytest.raises(Refused, match="no route"):
            await b.job.start("nobody/none")
        await b.job.start("one/m1")
        with pytest.raises(Refused, match="under way"):
            await b.job.start("one/m1")
        await b.round_over()
        assert len(b.calls()) == 4
    assert not Probes().on


async def test_what_fails_is_told_and_charged_as_feared_only_where_nobody_knows() -> None:
    async with bench() as b:
        b.gateway.script(status=400)
        b.gateway.script(cut_after=2)
        await b.job.start("one/m1")
        await b.round_over()
        first, second, *rest = reversed(next(r.results for r in b.job.view().routes if r.route == "one/m1"))
        assert "400" in first.problem
        assert first.cost_nano_usd == 0
        assert second.problem
        assert second.cost_nano_usd
        assert second.call, "it stands in the facts"
        assert [result.problem for result in rest] == ["", ""], "a round goes on"


@asynccontextmanager
async def speaking(said: bytes | None) -> AsyncIterator[str]:
    """Answers any request with ``said`` and closes; None says nothing. Ends when its one connection has ended."""
    over = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            if said is not None:
                writer.write(said)
                writer.close()
            with contextlib.suppress(ConnectionError):
                await reader.read()
        finally:
            writer.transport.abort()
            over.set()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.wait_for(over.wait(), 5)


async def test_a_gateway_that_is_not_there() -> None:
    found = await send("http://127.0.0.1:9", "hw_x", {}, {})
    assert "cannot be used" in found.problem
    assert found.call == ""


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (b"", "closed|cannot be used"),
        (b"nonsense\r\n\r\n", "cannot be used"),
        (b"HTTP/1.1 200 OK\r\nx-headway-call: call_1\r\ntransfer-encoding: chunked\r\n\r\n5\r\ndata:", "cannot be used|closed"),
        (b"HTTP/1.1 200 OK\r\nx-headway-call: call_1\r\ncontent-length: 14\r\n\r\ndata: {broken}", "before its end"),
        (b"HTTP/1.1 503 No\r\ncontent-length: 3\r\n\r\n<p>", "answered 503: no reason"),
        (b'HTTP/1.1 429 No\r\ncontent-length: 28\r\n\r\n{"error":{"message":"later"}}'[:-1] + b"}", "429"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3000000\r\n\r\n" + b"x" * 3_000_000, "longer than"),
    ],
)
async def test_answers_that_are_none(said: bytes, problem: str) -> None:
    async with speaking(said) as address:
        found = await send(address, "hw_x", {"a": 1}, {})
    assert re.search(problem, found.problem), found.problem


async def test_a_gateway_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.control.probes_http.PROBE_TIMEOUT_MS", 50)

    async with speaking(None) as address:
        found = await send(address, "hw_x", {}, {})
    assert "50 ms" in found.problem


def test_which_routes_and_what_they_may_cost() -> None:
    settings = msgspec.convert(
        {
            "probes": {"on": True, "usd_per_day": "0.25", "every_s": 60},
            "providers": {
                "openai": {"preset": "openai", "models": ["m1", "m2"], "probes": {"every_s": 30, "usd_per_day": 2}},
                "own": {"preset": "vllm", "base_url": "http://h", "models": ["x"], "probes": {"on": False}},
                "asked": {"preset": "openai", "probes": {"models": ["z", "z"], "unpriced": True}},
                "unknown": {"preset": "openai"},
            },
            "features": {"f": {"targets": ["openai/m2", "own/x"]}},
        },
        Settings,
    )
    found = {plan.route: plan for plan in plans(settings, PRICED)}
    assert list(found) == ["openai/m2", "asked/z", "own/x"], "what features use; those off the schedule last"
    assert found["openai/m2"].every_ms == 30_000
    assert (found["openai/m2"].cap, found["asked/z"].cap) == ("openai", "")
    assert (found["asked/z"].unpriced, found["asked/z"].price) == (True, None)
    assert not found["own/x"].on
    assert found["own/x"].price is not None
    assert caps(settings) == {"": 250_000_000, "openai": 2_000_000_000}
    assert models(settings, "openai", Provider(models=("m1",), probes=ProviderProbes(models=("q",)))) == ("q",)


def test_the_body_names_the_most_as_the_provider_takes_it() -> None:
    settings = Settings(providers={"o": Provider(preset="openai"), "l": Provider(preset="llama.cpp")})
    assert "max_completion_tokens" in body(settings, "o/m", ROUND[0], "s", 1)
    assert "max_tokens" in body(settings, "l/m", ROUND[0], "s", 1)


def test_answers_have_a_bound() -> None:
    assert limits.PROBE_ANSWER_BYTES_MAX < 3_000_000
