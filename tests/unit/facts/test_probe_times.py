"""Probes as stored: the control group, and what it has cost."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headway.calls.phases.probes import ProbeKind
from headway.facts.engine import Engine
from headway.facts.files import FactFiles
from headway.facts.model import AttemptFact, CallFact, Fact
from headway.facts.parquet_store import ParquetStore
from headway.facts.table import FactTable
from headway.kernel.instants import WallMs

T0 = 1_790_000_000_000


@pytest.fixture
async def stored(tmp_path: Path) -> AsyncIterator[FactTable]:
    files = FactFiles.open(tmp_path / "facts")
    store = ParquetStore(files)
    rows: dict[str, list[Fact]] = {"call": [], "attempt": []}

    def put(number: int, route: str = "one/m1", *, tries: int = 1, **more: object) -> None:
        call = f"call_{number:026d}"
        values = {
            "call": call,
            "started_wall_ms": T0 + number * 1_000,
            "duration_ms": 500.0,
            "gateway": "g",
            "origin": "probe",
            "prompt_ref": "headway-probe/long.cold",
            "routed": route,
            "attempts": tries,
            "first_token_ms": 300.0,
            "queue_ms": 12.0,
            "input_tokens": 1_500,
            "cached_tokens": 0,
            "output_tokens": 9,
            "cost_nano_usd": 1_000 + number,
        }
        rows["call"].append(CallFact(**{**values, **more}))  # type: ignore[arg-type]
        for attempt in range(1, tries + 1):
            rows["attempt"].append(
                AttemptFact(
                    call=call,
                    attempt=attempt,
                    started_wall_ms=T0,
                    gateway="g",
                    start_ms=float(attempt - 1) * 100,
                    sent_ms=20.0,
                    connect_ms=5.0,
                    region=f"r{attempt}",
                    fingerprint="fp",
                    gap_p50_ms=30.0,
                    stalls=0,
                )
            )

    put(1)
    put(2, prompt_ref="headway-probe/short.warm", tries=2)
    put(3, "two/m2", cost_nano_usd=None)
    put(4, origin="client")
    put(5, prompt_ref="not-ours")
    put(6, first_token_ms=None, outcome="upstream_error", tries=0)
    store.append("g", f"{T0:013d}-0123456789abcdef-000001", rows, WallMs(T0))
    engine = Engine(store)
    yield FactTable(engine)
    await engine.close()
    files.close()


async def test_times_of_a_route_newest_first(stored: FactTable) -> None:
    found = await stored.probe_times("one/m1", T0, T0 + 3_600_000)
    assert [probe.at_wall_ms - T0 for probe in found] == [6_000, 2_000, 1_000], "no client's call, none of another kind"
    failed, warm, cold = found
    assert (cold.kind, warm.kind) == (ProbeKind.LONG_COLD, ProbeKind.SHORT_WARM)
    assert (cold.provider_ms, cold.first_token_ms, cold.queue_ms) == (280.0, 300.0, 12.0)
    assert (warm.region, warm.provider_ms) == ("r2", 180.0), "by the attempt that answered"
    assert (cold.fingerprint, cold.gap_p50_ms, cold.stalls, cold.input_tokens, cold.cached_tokens) == ("fp", 30.0, 0, 1_500, 0)
    assert (failed.outcome, failed.first_token_ms, failed.provider_ms) == ("upstream_error", None, None)


async def test_ranges_and_all_routes(stored: FactTable) -> None:
    assert {probe.route for probe in await stored.probe_times("", T0, T0 + 3_600_000)} == {"one/m1", "two/m2"}
    assert [probe.at_wall_ms for probe in await stored.probe_times("", T0 + 2_000, T0 + 3_000)] == [T0 + 2_000]
    assert await stored.probe_times("nobody/none", T0, T0 + 3_600_000) == ()


async def test_what_probes_have_cost(stored: FactTable) -> None:
    spent = {row.route: row for row in await stored.probe_spent(T0, T0 + 3_600_000)}
    assert (spent["one/m1"].calls, spent["one/m1"].nano_usd, spent["one/m1"].unknown) == (4, 4_000 + 1 + 2 + 5 + 6, 0)
    assert (spent["two/m2"].nano_usd, spent["two/m2"].unknown) == (0, 1)
    assert await stored.probe_spent(0, T0) == ()
