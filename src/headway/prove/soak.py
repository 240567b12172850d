"""``make soak MINUTES=10``: memory, sockets, tasks and facts over minutes; slow callers; a thousand streams.

    python -m headway.prove.soak [--minutes 10] [--seed 1] [--only mixed,slow,thousand] [--json FILE]

Ctrl-C ends it and removes what it started. Exit 1 when a bound does not hold.
"""

import argparse
import asyncio
import sys

from headway.prove import soak_slow
from headway.prove.checked import Checked, finish
from headway.prove.soak_mixed import mixed
from headway.prove.world import world

PARTS = ("mixed", "slow", "thousand")


async def soak(minutes: float, seed: int, parts: list[str]) -> list[Checked]:
    """Each part on a stage of its own; ``mixed`` takes ``minutes``, the others about one minute together."""
    rows: list[Checked] = []
    if "mixed" in parts:
        async with world() as stage:
            rows += await mixed(stage, minutes, seed)
    if "slow" in parts:
        async with world(more=soak_slow.CONFIGURATION) as stage:
            rows += await soak_slow.slow(stage)
    if "thousand" in parts:
        async with world() as stage:
            rows += await soak_slow.thousand(stage)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m headway.prove.soak", description="Headway over minutes.")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the mixed part")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of: {', '.join(PARTS)}")
    parser.add_argument("--json", default="", help="write the figures here")
    given = parser.parse_args()
    parts = given.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
    try:
        rows = asyncio.run(soak(given.minutes, given.seed, parts))
    except KeyboardInterrupt:
        print("stopped; nothing was left running", file=sys.stderr)
        return 130
    return finish(rows, json_file=given.json)


if __name__ == "__main__":
    sys.exit(main())
