"""64 streams for minutes, one in ten left by its caller: memory stays, sockets and tasks come back, every call has its fact."""

import asyncio
import random
import statistics
import time

import duckdb

from headway.prove.checked import Checked, Progress, at_most
from headway.prove.forms import DIALECTS, PATHS, body_of, headers_of, stream_end
from headway.prove.rawhttp import Broken, RawConnection, until
from headway.prove.watching import metrics, rss_mb, sockets
from headway.prove.world import MODEL_BY_DIALECT, World

STREAMS = 64
LEAVE_SHARE = 0.1
SETTLE_S = 120.0
"""Growth is counted from here on; a third of the run when it is shorter than six minutes."""
GROWTH_MAX = 0.10
IDLE_WITHIN_S = 120.0
IDLE_SOCKETS_MORE = 4
"""Above the idle count before: keep-alive connections to health checks and control."""


class Mixed:
    """Counters of one run."""

    def __init__(self, stage: World, seconds: float, seed: int) -> None:
        self.stage, self.seconds = stage, seconds
        self.draw = random.Random(seed)
        self.sent = self.left = self.ended = 0
        self.wrong: list[str] = []
        self.samples: list[tuple[float, float]] = []
        """(seconds since the start, megabytes)."""
        self.until = 0.0

    async def run(self) -> None:
        began = time.monotonic()
        self.until = began + self.seconds
        progress = Progress("soak: mixed")
        callers = [asyncio.create_task(self._caller(place)) for place in range(STREAMS)]
        try:
            while time.monotonic() < self.until:
                passed, mb = time.monotonic() - began, rss_mb(self.stage.product.gateway.pid)
                self.samples.append((passed, mb))
                progress.say(
                    f"of {self.seconds:.0f} s; {self.ended} streams ended, {self.left} left, {len(self.wrong)} wrong; {mb:.0f} MB"
                )
                await asyncio.sleep(min(1.0, max(0.01, self.until - time.monotonic())))
            await asyncio.gather(*callers)
        finally:
            progress.done()
            for caller in callers:
                caller.cancel()

    async def _caller(self, place: int) -> None:
        connection = await RawConnection.open(self.stage.product.url)
        while time.monotonic() < self.until:
            leave = self.draw.random() < LEAVE_SHARE
            try:
                await self._stream(connection, DIALECTS[place % 3], DIALECTS[self.draw.randrange(3)], leave)
            except (OSError, Broken) as error:
                self.wrong.append(repr(error))
                connection.reusable = False
            if leave or not connection.reusable:
                connection.close()
                connection = await RawConnection.open(self.stage.product.url)
        connection.close()

    async def _stream(self, connection: RawConnection, caller: str, target: str, leave: bool) -> None:
        script = f"<<words={self.draw.randrange(5, 60)} delay_ms={self.draw.choice((0, 2, 8))}>>"
        prompt = f"{script} {'lorem ipsum ' * self.draw.randrange(1, 200)}"
        body = body_of(caller, MODEL_BY_DIALECT[target], prompt, stream=True)
        await connection.send("POST", PATHS[caller], headers_of(caller, self.stage.key), body)
        self.sent += 1
        status, headers = await connection.head()
        pieces = []
        async for piece in connection.chunks(headers):
            pieces.append(piece)
            if leave:
                self.left += 1
                return
        if status != 200 or not stream_end(caller, b"".join(pieces)).clean:
            self.wrong.append(f"{status} {b''.join(pieces)[-160:]!r}")
        self.ended += 1


async def mixed(stage: World, minutes: float, seed: int) -> list[Checked]:
    pid, url = stage.product.gateway.pid, stage.product.url
    for dialect in DIALECTS:
        await stage.call(dialect, "<<words=3>> warm", stream=True)
    idle_sockets, idle_tasks = sockets(pid), (await metrics(url)).get("headway_tasks")
    run = Mixed(stage, minutes * 60, seed)
    await run.run()
    back_s, now_sockets = await _back_to_idle(pid, idle_sockets)
    after = await metrics(url)
    facts = await _facts_out(stage, run.sent)
    settle_s = min(SETTLE_S, run.seconds / 3)
    early = [mb for at, mb in run.samples if settle_s <= at <= settle_s + max(5.0, run.seconds / 20)]
    late = [mb for at, mb in run.samples if at >= run.seconds * 0.9]
    growth = statistics.median(late) / statistics.median(early) - 1 if early and late else float("inf")
    story = f"{run.sent} streams, {run.left} left by their callers"
    rows = [
        at_most("rss_growth", growth, GROWTH_MAX, unit="share", n=len(run.samples), method=f"after {settle_s:.0f} s; {story}"),
        at_most("rss_at_the_end_mb", statistics.median(late), 200, unit="MB", n=len(late), method="median of the last tenth"),
        at_most(
            "streams_wrong", len(run.wrong), 0, unit="streams", n=run.sent, method=f"first: {run.wrong[0]}" if run.wrong else story
        ),
        at_most(
            "sockets_above_idle", now_sockets - idle_sockets, IDLE_SOCKETS_MORE, unit="sockets", n=1, method=f"{back_s:.0f} s after"
        ),
        at_most(
            "calls_in_flight_after", after.get("headway_calls_in_flight", 0), 0, unit="calls", n=1, method="by the gateway's metric"
        ),
        at_most("calls_lost", abs(after.get("headway_calls_lost", 0)), 0, unit="calls", n=1, method="by the gateway's metric"),
        at_most(
            "facts_missing_or_twice",
            abs(facts - run.sent),
            0,
            unit="calls",
            n=run.sent,
            method=f"{facts} facts of {run.sent} calls",
        ),
    ]
    if idle_tasks is not None:
        rows.append(
            at_most("tasks_above_idle", after["headway_tasks"] - idle_tasks, 2, unit="tasks", n=1, method="by the gateway's metric")
        )
    return rows


async def _back_to_idle(pid: int, idle: int) -> tuple[float, int]:
    async def back() -> bool:
        return sockets(pid) <= idle + IDLE_SOCKETS_MORE

    try:
        took_s = await until("sockets are back to idle", back, within_s=IDLE_WITHIN_S, every_s=1)
    except TimeoutError:
        took_s = IDLE_WITHIN_S
    return took_s, sockets(pid)


async def _facts_out(stage: World, expected: int) -> int:
    """Client calls in the fact table that ran streamed with a lorem prompt or left: all but the warm ones, counted once each."""
    pattern = str(stage.product.state / "facts/call/**/*.parquet")
    found = 0
    for _ in range(60):
        with duckdb.connect() as base:
            row = base.execute("select count(*), count(distinct call) from read_parquet(?)", [pattern]).fetchone()
        found = (row[0] if row[0] != row[1] else row[1]) - len(DIALECTS) if row else 0
        if found >= expected:
            break
        await asyncio.sleep(0.5)
    return found
