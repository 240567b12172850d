"""What changes under load: configuration, processes that are killed, an upstream that fails altogether."""

import asyncio
import random
import time
from typing import Any

from headway.kernel.limits import SPOOL_FLUSH_MS
from headway.prove.checked import Checked, at_least, at_most
from headway.prove.forms import CHAT, DIALECTS, stream_end
from headway.prove.rawhttp import Broken, RawAnswer, request
from headway.prove.world import World, configuration

RELOADS = 20
STREAMS_AT_ONCE = 60
OFFERED_CALLS = 300
ATTEMPTS_A_CALL_MAX = 1.2
KILLS = 3


async def reload(stage: World) -> list[Checked]:
    """Short streams without pause while the file changes RELOADS times, once to nonsense."""
    stop = asyncio.Event()
    lost: list[str] = []
    generations: set[str] = set()
    done = 0

    async def caller(place: int) -> None:
        nonlocal done
        dialect = DIALECTS[place % 3]
        while not stop.is_set():
            try:
                answer = await stage.call(dialect, "<<words=12 delay_ms=2>>", stream=True)
            except (OSError, Broken) as error:
                lost.append(repr(error))
                continue
            done += 1
            generations.add(answer.header("x-headway-generation") or "")
            if answer.status != 200 or not stream_end(dialect, answer.body).clean:
                lost.append(f"{answer.status} {answer.body[-160:]!r}")

    callers = [asyncio.create_task(caller(place)) for place in range(STREAMS_AT_ONCE)]
    for n in range(RELOADS):
        more = f'[features.extra-{n}]\ntargets = ["chat/harbour-chat"]\n'
        stage.product.write(configuration(stage.upstream.url, more=more))
        await stage.product.api("POST", "/generation/reload")
        await asyncio.sleep(0.2)
    standing = (await stage.product.api_json("/generation"))["number"]
    stage.product.write(configuration(stage.upstream.url, more="[features.broken]\ntargts = []\n"))
    await stage.product.api("POST", "/generation/reload")
    kept: Any = await stage.product.api_json("/generation")
    ready = await request(stage.product.control_url, "GET", "/health/ready")
    stage.product.write(configuration(stage.upstream.url))
    await stage.product.api("POST", "/generation/reload")
    stop.set()
    await asyncio.gather(*callers)
    told = "targts" in kept["problem"] and b"problem" in ready.body
    return [
        at_most(
            "reload_streams_lost", len(lost), 0, unit="streams", n=done, method=f"first: {lost[0]}" if lost else "all ended well"
        ),
        at_least("reload_generations_seen", len(generations), RELOADS // 2, unit="", n=RELOADS, method="by the header of answers"),
        at_least(
            "reload_bad_file_keeps_the_old", kept["number"] == standing, 1, unit="", n=1, method=f"generation {kept['number']}"
        ),
        at_least(
            "reload_bad_file_is_told", told, 1, unit="", n=1, method=f"{kept['problem'][:120]!r}; {ready.body.decode()[:120]}"
        ),
    ]


async def full_failure(stage: World) -> list[Checked]:
    """The upstream answers 500 to everything: attempts stay within one budget, and callers are told not to pile on."""
    rows = []
    for status in (500, 529, 429):
        await stage.upstream.forget()
        await stage.upstream.script({"status": status, "times": 0, "match": "full-failure"})
        gate = asyncio.Semaphore(10)

        async def one(place: int, gate: asyncio.Semaphore = gate) -> RawAnswer:
            async with gate:
                return await stage.call(DIALECTS[place % 3], "full-failure", stream=place % 2 == 0)

        answers = await asyncio.gather(*(one(place) for place in range(OFFERED_CALLS)))
        seen: Any = await stage.upstream.seen(last=0)
        await stage.upstream.forget()
        silent = [a for a in answers if a.header("x-should-retry") != "false"]
        rows += [
            at_most(
                f"attempts_a_call_while_all_is_{status}",
                seen["requests"] / OFFERED_CALLS,
                ATTEMPTS_A_CALL_MAX,
                unit="attempts",
                n=OFFERED_CALLS,
                method=f"{seen['requests']} attempts at the upstream, first tries included",
            ),
            at_most(
                f"answers_that_invite_more_while_all_is_{status}",
                len(silent),
                0,
                unit="calls",
                n=OFFERED_CALLS,
                method=f"first: {silent[0].status} {silent[0].headers}" if silent else "x-should-retry: false",
            ),
        ]
    return rows


async def kills(stage: World, seed: int = 7) -> list[Checked]:
    """Gateway and control killed at moments drawn by ``seed``: each call that ended a flush before a kill has its fact, exactly one."""
    draw = random.Random(seed)
    stop = asyncio.Event()
    ended: list[tuple[str, float]] = []
    dead: list[tuple[float, float]] = []
    """From each kill of the gateway until it answers again: what came then was read out of a dead process' socket."""

    async def caller(place: int) -> None:
        while not stop.is_set():
            try:
                answer = await stage.call(CHAT, "<<words=5 delay_ms=2>>", stream=place % 2 == 0)
            except (OSError, Broken):
                await asyncio.sleep(0.05)
                continue
            if answer.status == 200 and not answer.torn:
                ended.append((answer.header("x-headway-call") or "", time.monotonic()))

    callers = [asyncio.create_task(caller(place)) for place in range(12)]
    for n in range(KILLS * 2):
        await asyncio.sleep(0.8 + draw.random())
        if n % 2:
            stage.product.control.kill()
            await asyncio.sleep(draw.random())
            await stage.product.start_control()
        else:
            began = time.monotonic()
            stage.product.gateway.kill()
            await stage.product.start_gateway(ready=False)
            dead.append((began, time.monotonic()))
    await asyncio.sleep(1)
    stop.set()
    await asyncio.gather(*callers)
    flush_s = SPOOL_FLUSH_MS / 1000 + 0.1
    due = {call for call, at in ended if not any(kill - flush_s <= at <= back for kill, back in dead)}
    found = await stage.facts_of(due, within_s=30)
    lost = [
        min((kill - at for kill, _ in dead if kill >= at), default=-1.0) for call, at in ended if call in due and call not in found
    ]
    when = f"; lost ones ended {sorted(round(s, 2) for s in lost)[:20]} s before a kill of the gateway" if lost else ""
    return [
        at_most(
            "facts_lost_after_kills",
            len(lost),
            0,
            unit="calls",
            n=len(due),
            method=f"{KILLS} kills each; {len(ended) - len(due)} calls ended within a flush of a kill and may be lost{when}",
        )
    ]
