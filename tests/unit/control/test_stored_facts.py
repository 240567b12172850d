"""The board's questions reach the fact tables and come back in the board's own words."""

from pathlib import Path

import pytest

from headway.control.ports import Away, CallFilter, Overview, StoredCall
from headway.control.stored import StoredFacts
from headway.facts.answers import FactsAway
from headway.facts.engine import Engine
from headway.facts.files import FactFiles, segment_file
from headway.facts.model import AttemptFact, CallFact
from headway.facts.parquet import arrow_table, write_durably
from headway.facts.parquet_store import ParquetStore
from headway.facts.table import FactTable
from headway.kernel.instants import WallMs

T0 = 1_764_000_000_000
SEGMENT = f"{T0}-0123456789abcdef-000001"


def call(name: str, **more: object) -> CallFact:
    return CallFact(call=name, started_wall_ms=T0, duration_ms=10.0, gateway="g", **more)  # type: ignore[arg-type]


async def test_the_ports_questions(tmp_path: Path) -> None:
    files = FactFiles.open(tmp_path)
    calls = [
        call("call_a", tenant="a", first_token_ms=3.0),
        call("call_b", tenant="b", outcome="timeout"),
        call("call_c", tenant="a"),
    ]
    attempt = AttemptFact(call="call_a", attempt=1, started_wall_ms=T0, gateway="g")
    for table, rows in (("call", calls), ("attempt", [attempt])):
        file = segment_file(files.folder / table, "g", SEGMENT)
        write_durably(file.path, arrow_table(table, rows))
        files.added(table, file)
    engine = Engine(ParquetStore(files))
    facts = StoredFacts(FactTable(engine), lambda: WallMs(T0 + 5000))
    assert await facts.calls(CallFilter(), "", 2) == (calls[2], calls[1])
    assert await facts.calls(CallFilter(tenant="a"), "call_c", 2) == (calls[0],)
    assert await facts.calls(CallFilter(state="failed"), "", 9) == (calls[1],)
    assert await facts.one("call_a") == StoredCall(fact=calls[0], attempts=(attempt,))
    assert await facts.one("call_x") is None
    assert len(await facts.beside(T0, T0 + 1, 9)) == 3
    overview = await facts.overview(T0, T0 + 1, 1000, "")
    assert isinstance(overview, Overview)
    assert (overview.total.calls, overview.total.failed, [group.name for group in overview.tenants]) == (3, 1, ["a", "b"])
    assert overview.total.first_token_p50.value == 3.0
    assert overview.total.series[0].calls == 3
    await engine.close()
    files.close()


async def test_facts_that_are_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def away(*args: object, **more: object) -> None:
        raise FactsAway("too many questions")

    files = FactFiles.open(tmp_path)
    engine = Engine(ParquetStore(files))
    monkeypatch.setattr(engine, "run", away)
    facts = StoredFacts(FactTable(engine))
    for asked in (facts.calls(CallFilter(), "", 1), facts.one("x"), facts.beside(0, 1, 1), facts.overview(0, 1, 1, "")):
        with pytest.raises(Away, match="too many"):
            await asked
    await engine.close()
    files.close()
