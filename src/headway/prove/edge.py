"""``make edge``: what must hold when upstreams, callers, processes, stores and budgets are at their edge.

    python -m headway.prove.edge [--only cuts,gone] [--json FILE]

Each story runs against a gateway and a control of its own, started from the command line on free ports. Exit 1 when a bound does not hold.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

import msgspec

from headway.prove import edge_away, edge_change, edge_money, edge_streams
from headway.prove.checked import Checked, finish
from headway.prove.world import World, world


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """``retries`` and ``more`` go into headway.toml."""

    tell: Callable[[World], Awaitable[list[Checked]]]
    retries: int = 0
    more: str = ""


STORIES = {
    "cuts": Story(tell=edge_streams.cuts),
    "gone": Story(tell=edge_streams.gone),
    "crowd": Story(tell=edge_money.crowd, more=edge_money.CONFIGURATION),
    "gateway_killed": Story(tell=edge_money.gateway_killed, more=edge_money.CONFIGURATION),
    "control_killed": Story(tell=edge_money.control_killed, more=edge_money.CONFIGURATION),
    "control_away": Story(tell=edge_away.control_away, more=edge_away.CONFIGURATION),
    "store_away": Story(tell=edge_away.store_away, more=edge_away.CONFIGURATION),
    "reload": Story(tell=edge_change.reload),
    "full_failure": Story(tell=edge_change.full_failure, retries=2),
    "kills": Story(tell=edge_change.kills),
}


async def tell(name: str) -> list[Checked]:
    """One story on a stage of its own."""
    story = STORIES[name]
    async with world(retries=story.retries, more=story.more) as stage:
        return await story.tell(stage)


async def _all(names: list[str]) -> list[Checked]:
    rows: list[Checked] = []
    for place, name in enumerate(names, 1):
        began = time.monotonic()
        print(f"{place}/{len(names)} {name} ...", file=sys.stderr, flush=True)
        rows += await tell(name)
        print(f"{place}/{len(names)} {name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m headway.prove.edge", description="What must hold at the edge.")
    parser.add_argument("--only", default="", help=f"some of: {', '.join(STORIES)}")
    parser.add_argument("--json", default="", help="write the figures here")
    given = parser.parse_args()
    names = [name for name in given.only.split(",") if name] or list(STORIES)
    if unknown := set(names) - set(STORIES):
        parser.error(f"no story {', '.join(sorted(unknown))}; there are: {', '.join(STORIES)}")
    return finish(asyncio.run(_all(names)), json_file=given.json)


if __name__ == "__main__":
    sys.exit(main())
