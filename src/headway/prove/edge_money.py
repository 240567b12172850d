"""Budgets at their edge: a thousand calls at once, and processes killed in the middle. Nothing here may overspend."""

import asyncio
from typing import Any

from headway.kernel.limits import BUDGET_BLOCK_MAX_SHARE
from headway.prove.checked import Checked, at_most
from headway.prove.forms import CHAT
from headway.prove.rawhttp import Broken, RawAnswer
from headway.prove.world import World

CAP_TOKENS = 40_000
CONCURRENT = 1_000
POLL_EVERY_S = 0.03
MAX_TOKENS = 64
TENANTS = ("capped", "gateway-killed", "control-killed")
CONFIGURATION = "\n".join(f"[tenants.{name}]\nbudget_tokens_per_month = {CAP_TOKENS}\n" for name in TENANTS)
PROMPT = "<<words=20 head_delay_ms=200>> and so on "


class Watch:
    """Polls control while a story goes on and keeps the worst it has seen of one tenant's budget."""

    def __init__(self, stage: World, tenant: str) -> None:
        self._stage, self._scope = stage, f"tenant:{tenant}"
        self.polls = self.away = 0
        self.worst = -CAP_TOKENS
        self.last: dict[str, Any] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Watch":
        self._task = asyncio.create_task(self._poll())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def look(self) -> dict[str, Any]:
        budgets: Any = (await self._stage.product.api_json("/budgets"))["budgets"]
        self.last = next(b for b in budgets if b["scope"] == self._scope)
        self.worst = max(self.worst, self.last["spent"] + self.last["leased"] - self.last["cap"])
        self.polls += 1
        return self.last

    async def _poll(self) -> None:
        while True:
            try:
                await self.look()
            except (OSError, Broken, ValueError):
                self.away += 1
            await asyncio.sleep(POLL_EVERY_S)


async def _crowd(stage: World, key: str, n: int = CONCURRENT) -> list[RawAnswer | None]:
    """``n`` calls at once; None where the connection broke."""

    async def one(place: int) -> RawAnswer | None:
        try:
            return await stage.call(CHAT, f"{PROMPT}{place}", key=key, max_tokens=MAX_TOKENS)
        except (OSError, Broken):
            return None

    return await asyncio.gather(*(one(place) for place in range(n)))


async def _drain(stage: World, key: str) -> int:
    """One call after the other until one is refused; how many were let in."""
    for served in range(10_000):
        answer = await stage.call(CHAT, "<<words=20>> and so on", key=key, max_tokens=MAX_TOKENS)
        if answer.status != 200:
            return served
    return -1


async def _used(stage: World, tenant: str) -> tuple[int, int]:
    """Tokens that the facts of a tenant report, and how many calls they are."""
    facts = [f for f in (await stage.facts()).values() if f["tenant"] == tenant]
    return sum((f.get("input_tokens") or 0) + (f.get("output_tokens") or 0) for f in facts), len(facts)


def _rows(
    tenant: str, watch: Watch, answers: list[RawAnswer | None], used: int, facts: int, left: int, slack: int
) -> list[Checked]:
    served = sum(a is not None and a.status == 200 for a in answers)
    refused = [a for a in answers if a is not None and a.status != 200]
    odd = [a for a in refused if not _honest(a)]
    story = f"{served} of {len(answers)} at once were served, {len(refused)} refused; {watch.away} polls found control away"
    return [
        at_most(f"budget_{tenant}_over_cap", watch.worst, 0, unit="tokens", n=watch.polls, method=f"spent + leased - cap; {story}"),
        at_most(f"budget_{tenant}_used_over_cap", used - CAP_TOKENS, 0, unit="tokens", n=facts, method="by the facts"),
        at_most(
            f"budget_{tenant}_refused_early",
            left,
            slack,
            unit="tokens",
            n=len(refused),
            method="left in the cap when refused for good",
        ),
        at_most(
            f"budget_{tenant}_odd_refusals",
            len(odd),
            0,
            unit="calls",
            n=max(1, len(refused)),
            method=f"first: {odd[0].status} {odd[0].headers} {odd[0].body[:200]!r}"
            if odd
            else "429 with x-should-retry: false; 503 with true where control is away",
        ),
    ]


def _honest(answer: RawAnswer) -> bool:
    """A spent budget is final; one that control, which is away, could not be asked about may be asked for again in a second."""
    again = answer.header("x-should-retry")
    if answer.status == 503:
        return again == "true" and b"budget_unavailable" in answer.body and bool(answer.header("retry-after"))
    return answer.status == 429 and again == "false"


SLACK_TOKENS = int(CAP_TOKENS * BUDGET_BLOCK_MAX_SHARE) + 3 * MAX_TOKENS
"""One block, and what a single call may still ask to reserve."""


async def crowd(stage: World) -> list[Checked]:
    """A thousand at once, then one by one until the end: nothing over the cap, at most one block left over."""
    key = await stage.product.new_key("capped")
    async with Watch(stage, "capped") as watch:
        answers = await _crowd(stage, key)
        await _drain(stage, key)
        await asyncio.sleep(1.5)
        state = await watch.look()
    used, facts = await _used(stage, "capped")
    return _rows("crowd", watch, answers, used, facts, CAP_TOKENS - state["spent"], SLACK_TOKENS)


async def gateway_killed(stage: World) -> list[Checked]:
    """The gateway dies (-9) under the crowd and comes back: its open blocks count as spent until its spool says otherwise."""
    key = await stage.product.new_key("gateway-killed")
    async with Watch(stage, "gateway-killed") as watch:
        crowded = asyncio.create_task(_crowd(stage, key))
        await asyncio.sleep(0.7)  # some were served, many are under way
        stage.product.gateway.kill()
        answers = await crowded
        await stage.product.start_gateway()
        answers += await _crowd(stage, key)
        await _drain_reconciled(stage, key)
        state = await watch.look()
    used, facts = await _used(stage, "gateway-killed")
    return _rows("gateway_killed", watch, answers, used, facts, CAP_TOKENS - state["spent"], SLACK_TOKENS)


async def _drain_reconciled(stage: World, key: str) -> None:
    """Until refused, and again some seconds later when blocks of the dead gateway have been reconciled."""
    for _ in range(4):
        await _drain(stage, key)
        await asyncio.sleep(2.0)


async def control_killed(stage: World) -> list[Checked]:
    """Control dies (-9) under the crowd and comes back."""
    key = await stage.product.new_key("control-killed")
    async with Watch(stage, "control-killed") as watch:
        crowded = asyncio.create_task(_crowd(stage, key))
        await asyncio.sleep(0.35)
        stage.product.control.kill()
        await asyncio.sleep(1.0)
        await stage.product.start_control()
        answers = await crowded
        await asyncio.sleep(2.5)
        answers += await _crowd(stage, key)
        await _drain_reconciled(stage, key)
        state = await watch.look()
    used, facts = await _used(stage, "control-killed")
    return _rows("control_killed", watch, answers, used, facts, CAP_TOKENS - state["spent"], SLACK_TOKENS)
