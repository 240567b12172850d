"""``make fuzz MINUTES=5``: random streams through the codecs, random requests through the running listener.

    python -m headway.prove.fuzz [--minutes 5] [--seed N] [--case N] [--json FILE]

The seed is printed; ``--seed N --case M`` makes one case again. Exit 1 when there is a finding.
"""

import argparse
import asyncio
import random
import re
import sys
import time

from headway.prove import fuzz_codecs, fuzz_wire
from headway.prove.checked import Checked, Progress, at_least, at_most, finish
from headway.prove.fuzz_codecs import Corpus, Finding
from headway.prove.watching import metrics, rss_mb
from headway.prove.world import World, world

AT_ONCE = 64
FINDINGS_SHOWN = 10
GROWTH_MB_MAX = 25.0
UNCAUGHT = re.compile(r"Traceback|call \S+ failed|Exception in ASGI|never retrieved|exception in callback", re.IGNORECASE)


def codecs(seconds: float, seed: int) -> list[Checked]:
    corpus, progress, until = Corpus(), Progress("fuzz: codecs"), time.monotonic() + seconds
    findings: list[Finding] = []
    case = 0
    while time.monotonic() < until:
        findings += fuzz_codecs.one_case(corpus, seed, case)
        case += 1
        progress.say(f"{case} cases, {len(findings)} findings")
    progress.done()
    return [_row("codec_findings", findings, case, seed)]


def _row(name: str, findings: list[Finding], cases: int, seed: int) -> Checked:
    kinds = {re.sub(r"[0-9]+|b?'.*'", "", f.what): f for f in reversed(findings)}
    shown = "; ".join(f"case {f.case}: {f.what[:160]}" for f in list(kinds.values())[:FINDINGS_SHOWN])
    return at_most(
        name,
        len(findings),
        0,
        unit="findings",
        n=cases,
        method=f"seed {seed}; {len(kinds)} kinds: {shown}" if kinds else f"seed {seed}",
    )


async def wire(seconds: float, seed: int) -> list[Checked]:
    async with world(more=fuzz_wire.CONFIGURATION) as stage:
        return await _wire(stage, seconds, seed)


async def _wire(stage: World, seconds: float, seed: int) -> list[Checked]:
    progress, until = Progress("fuzz: listener"), time.monotonic() + seconds
    findings: list[Finding] = []
    cases = iter(range(10**9))
    done = 0
    pid = stage.product.gateway.pid
    warm_mb = 0.0

    async def work() -> None:
        nonlocal done, warm_mb
        while time.monotonic() < until:
            case = next(cases)
            if what := await fuzz_wire.one_case(stage, seed, case):
                findings.append(Finding(case, what))
            done += 1
            if not warm_mb and time.monotonic() > until - seconds * 0.6:
                warm_mb = rss_mb(pid)
            progress.say(f"{done} requests, {len(findings)} findings; {rss_mb(pid):.0f} MB")

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    progress.done()
    alive = await stage.call("openai-chat", "hello")
    after = await metrics(stage.product.url)
    log = stage.product.gateway.log.read_text(errors="replace")
    uncaught = [line for line in log.splitlines() if UNCAUGHT.search(line)]
    first = f"first: {uncaught[0][-1_500:]}" if uncaught else "nothing of the kind in the gateway's log"
    return [
        _row("listener_findings", findings, done, seed),
        at_most("uncaught_exceptions", len(uncaught), 0, unit="lines", n=done, method=first),
        at_least("serves_afterwards", alive.status == 200, 1, unit="", n=1, method=f"status {alive.status}"),
        at_most(
            "calls_in_flight_after", after.get("headway_calls_in_flight", 0), 0, unit="calls", n=1, method="by the gateway's metric"
        ),
        at_most("calls_lost", abs(after.get("headway_calls_lost", 0)), 0, unit="calls", n=1, method="by the gateway's metric"),
        at_most("memory_growth_mb", rss_mb(pid) - warm_mb, GROWTH_MB_MAX, unit="MB", n=1, method="since two fifths of the run"),
    ]


def again(seed: int, case: int) -> int:
    """One case of each kind, shown."""
    findings = fuzz_codecs.one_case(Corpus(), seed, case)
    for finding in findings:
        print(finding.what)
    print(f"as a request: {fuzz_wire.request_of(random.Random(f'{seed}:{case}'), 'KEY')!r}")
    return 1 if findings else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m headway.prove.fuzz", description="Random input, bounded in time.")
    parser.add_argument("--minutes", type=float, default=5.0, help="half for codecs, half for the listener")
    parser.add_argument("--seed", type=int, default=None, help="a new one each time when absent")
    parser.add_argument("--case", type=int, default=None, help="make this one case again, in-process")
    parser.add_argument("--json", default="", help="write the figures here")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    if given.case is not None:
        return again(seed, given.case)
    print(f"seed {seed}: repeat with --seed {seed}", file=sys.stderr, flush=True)
    try:
        rows = codecs(given.minutes * 30, seed) + asyncio.run(wire(given.minutes * 30, seed))
    except KeyboardInterrupt:
        print(f"stopped; seed {seed}", file=sys.stderr)
        return 130
    return finish(rows, json_file=given.json)


if __name__ == "__main__":
    sys.exit(main())
