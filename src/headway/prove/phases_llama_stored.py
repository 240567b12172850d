"""What the product stored of the calls: as phases see them, with their splits and verdicts, by the product's own code."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from headway.calls.phases.model import Seen, Split, Verdict
from headway.calls.phases.split import split
from headway.calls.phases.watch import Watch
from headway.facts.engine import Engine
from headway.facts.opening import FOLDER
from headway.facts.parquet_store import ParquetStore
from headway.facts.phases import PhaseQuery, read_phases
from headway.prove.product import Product
from headway.prove.rawhttp import until

CALLS_MAX: Final = 10_000
FAR_MS: Final = 1 << 45


class Stored(msgspec.Struct, frozen=True):
    seen: Seen
    split: Split
    verdict: Verdict


async def until_stored(product: Product, call: str, within_s: float) -> None:
    """Until control has the last call's row. TimeoutError."""

    async def there() -> bool:
        with contextlib.suppress(ValueError):
            return bool((await product.api_json(f"/phases/calls/{call}"))["call"])
        return False

    await until("the last call is stored", there, within_s=within_s, every_s=0.5)


async def stored(state: Path) -> Mapping[str, Stored]:
    """Of a product that has stopped, by call. Calls are learnt in order of time, each judged a little later."""
    store = ParquetStore.open(state / FOLDER)
    engine = Engine(store)
    try:
        where = (PhaseQuery(since_wall_ms=0, until_wall_ms=FAR_MS),)
        read = await engine.run(lambda reader: read_phases(reader, where, CALLS_MAX))
    finally:
        await engine.close()
        store.close()
    by_call = {seen.call: seen for seen in read.seen}
    watch = Watch()
    told = [each for seen in sorted(read.seen, key=_ended) for each in watch.learn(seen)] + watch.finish()
    return {each.verdict.call: Stored(by_call[each.verdict.call], split(by_call[each.verdict.call]), each.verdict) for each in told}


def _ended(seen: Seen) -> float:
    return seen.at_ms + seen.duration_ms
