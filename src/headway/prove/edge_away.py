"""Control or its store away, at start and in flight: traffic goes on with what the gateway knows, and nothing is lost."""

import asyncio
import sqlite3
from contextlib import closing

from headway.kernel.limits import SPOOL_FLUSH_MS
from headway.prove.checked import Checked, at_least, at_most
from headway.prove.forms import DIALECTS
from headway.prove.rawhttp import Broken, RawAnswer, request, until
from headway.prove.world import World

CALLS_A_PHASE = 150
AT_ONCE = 10
CAP_TOKENS = 200_000
CONFIGURATION = f"[tenants.leased]\nbudget_tokens_per_month = {CAP_TOKENS}\n"
RECOVER_WITHIN_S = 15.0


async def _phase(stage: World, key: str, n: int = CALLS_A_PHASE) -> list[RawAnswer | None]:
    """``n`` short calls over all dialects, AT_ONCE at a time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(place: int) -> RawAnswer | None:
        async with gate:
            try:
                return await stage.call(DIALECTS[place % 3], "<<words=3>> hello", key=key, stream=place % 2 == 0, max_tokens=16)
            except (OSError, Broken):
                return None

    return list(await asyncio.gather(*(one(place) for place in range(n))))


def _refused(answers: list[RawAnswer | None]) -> list[str]:
    return ["no answer" if a is None else f"{a.status} {a.body[:160]!r}" for a in answers if a is None or a.status != 200]


def _row(name: str, answers: list[RawAnswer | None]) -> Checked:
    refused = _refused(answers)
    return at_most(name, len(refused), 0, unit="calls", n=len(answers), method=f"first: {refused[0]}" if refused else "200 each")


async def control_away(stage: World) -> list[Checked]:
    """Killed in flight, away at the gateway's start, back again: known keys are served throughout, facts arrive afterwards."""
    budgeted = await stage.product.new_key("leased")
    before = await _phase(stage, budgeted, 30)
    stage.product.control.kill()
    in_flight = await _phase(stage, stage.key)
    leased = await _phase(stage, budgeted, 40)
    await asyncio.sleep(3 * SPOOL_FLUSH_MS / 1000)  # what a kill may lose is another story's figure
    stage.product.gateway.kill()
    await stage.product.start_gateway(ready=False)
    at_start = await _phase(stage, stage.key)
    degraded = await request(stage.product.url, "GET", "/health/ready")
    await stage.product.start_control()
    again = await _phase(stage, stage.key, 30)
    took_s = await _recovered(stage)
    every = before + in_flight + leased + at_start + again
    ids = {a.header("x-headway-call") or "" for a in every if a is not None}
    lost = ids - (await stage.facts_of(ids)).keys()
    return [
        _row("control_away_in_flight_refusals", in_flight),
        _row("control_away_leased_budget_refusals", leased),
        _row("control_away_at_start_refusals", at_start),
        at_least(
            "control_away_readiness_says_so", b"degraded" in degraded.body, 1, unit="", n=1, method=degraded.body.decode()[:200]
        ),
        at_most("control_back_recovery_s", took_s, RECOVER_WITHIN_S, unit="s", n=1, method="until a new key is let in, no restart"),
        at_most("control_away_facts_lost", len(lost), 0, unit="calls", n=len(ids), method="calls answered that have no fact"),
    ]


async def _recovered(stage: World) -> float:
    """Seconds until a key made now is known to the gateway."""

    async def works() -> bool:
        try:
            await stage.product.new_key()
        except (OSError, Broken, ValueError, TimeoutError):
            return False
        return True

    return await until("a new key is let in", works, within_s=60)


async def store_away(stage: World) -> list[Checked]:
    """The ledger locked by somebody else, in flight and at the gateway's start: no call notices, and it recovers by itself."""
    budgeted = await stage.product.new_key("leased")
    await _phase(stage, budgeted, 10)
    with closing(sqlite3.connect(stage.product.state / "ledger.db", isolation_level=None, timeout=10)) as thief:
        thief.execute("BEGIN EXCLUSIVE")
        in_flight = await _phase(stage, stage.key)
        leased = await _phase(stage, budgeted, 30)
        stage.product.gateway.stop()
        await stage.product.start_gateway(ready=False)
        at_start = await _phase(stage, stage.key)
        thief.execute("ROLLBACK")
    took_s = await _recovered(stage)
    ids = {a.header("x-headway-call") or "" for a in in_flight + leased + at_start if a is not None}
    lost = ids - (await stage.facts_of(ids)).keys()
    return [
        _row("store_away_in_flight_refusals", in_flight),
        _row("store_away_leased_budget_refusals", leased),
        _row("store_away_at_start_refusals", at_start),
        at_most("store_back_recovery_s", took_s, RECOVER_WITHIN_S, unit="s", n=1, method="until a new key is let in, no restart"),
        at_most("store_away_facts_lost", len(lost), 0, unit="calls", n=len(ids), method="calls answered that have no fact"),
    ]
