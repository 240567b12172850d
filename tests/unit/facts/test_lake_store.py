"""DuckLake behind the port of a fact store: each segment once, all of it or nothing, one house-keeper, nothing kept longer than was promised."""

import time
from pathlib import Path

import duckdb
import psycopg
import pytest
from lake_stage import NOW, append, facts, name

from headway.facts import lake_store
from headway.facts.answers import CallQuery, FactsAway
from headway.facts.engine import Engine
from headway.facts.files import BadSegmentName
from headway.facts.lake import LAKE, conninfo, prepare
from headway.facts.lake_house import bytes_held, elected
from headway.facts.lake_place import LakePlace
from headway.facts.lake_store import LakeStore
from headway.facts.model import CallFact, RecordingFact, SpanFact
from headway.facts.store import Keep, StoreAway
from headway.facts.table import FactTable
from headway.kernel.instants import WallMs
from headway.kernel.limits import FACT_LAKE_GRACE_S

pytestmark = pytest.mark.postgres
DAY_MS = 24 * 3600 * 1000
FOREVER = Keep(days=36_500)
PLANTED = "the heron at the weir said seventeen"


def files_of(place: LakePlace) -> list[Path]:
    return sorted(Path(place.data).rglob("*.parquet"))


def count(store: LakeStore, table: str = "call") -> int:
    row = store._reached().execute(f"SELECT count(*) FROM {LAKE}.{table}").fetchone()
    assert row is not None
    return int(row[0])


def later(seconds: float) -> WallMs:
    """By the wall: DuckLake dates its own snapshots."""
    return WallMs(int((time.time() + seconds) * 1000))


async def test_once_however_often_and_by_whomever_it_is_sent(place: LakePlace) -> None:
    one, other = LakeStore(place), LakeStore(place)
    assert one.append("g", name(1), facts("g", 1, 5), NOW) == {"call", "attempt"}
    assert one.append("g", name(1), facts("g", 1, 5), NOW) == frozenset()
    assert other.append("g", name(1), facts("g", 1, 5), NOW) == frozenset()
    assert other.append("h", name(1), facts("h", 1, 5), NOW) == {"call", "attempt"}
    assert other.append("g", name(2), {}, NOW) == frozenset()
    engine = Engine(one)
    table = FactTable(engine)
    assert (await table.count("call"), await table.count("attempt"), await table.count("span")) == (10, 10, 0)
    assert len((await table.calls(CallQuery(), 50)).calls) == 10
    story = await table.story("g-0001-0003")
    assert story is not None
    assert (story.fact.tenant, len(story.attempts), story.fact.prefix_hashes) == ("t", 1, ())
    await engine.close()
    with pytest.raises(BadSegmentName):
        one.append("g", "../x", facts("g", 1, 1), NOW)


def test_two_that_both_saw_nothing_cannot_both_commit(place: LakePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = LakeStore(place), LakeStore(place)
    assert append(one, "g", 1, 5)
    real = lake_store._is_stored
    blind = iter([True])
    monkeypatch.setattr(lake_store, "_is_stored", lambda database, name: False if next(blind, False) else real(database, name))
    assert other.append("g", name(1), facts("g", 1, 5), NOW) == frozenset()
    assert next(blind, "looked") == "looked"
    assert (count(one), count(one, "attempt")) == (5, 5)


def test_merging_doubles_nothing_and_a_merged_segment_is_known(place: LakePlace) -> None:
    store = LakeStore(place)
    for number in range(12):
        append(store, "g", number, 10)
    assert store.maintain(NOW, FOREVER).merged_files >= 24
    assert store.files()["call"] == 1
    assert count(store) == 120
    assert not append(store, "g", 7, 10)
    old = len(files_of(place))
    assert store.maintain(later(0), FOREVER).deleted_files == 0, "a question may still read what was merged"
    assert store.maintain(later(FACT_LAKE_GRACE_S + 60), FOREVER).deleted_files >= 24
    assert len(files_of(place)) < old
    assert count(store) == 120


def test_one_process_keeps_house(place: LakePlace) -> None:
    store = LakeStore(place)
    append(store, "g", 1, 5)
    with elected(place) as mine, elected(place) as second:
        assert (mine, second) == (True, False)
        assert not store.maintain(NOW, FOREVER).elected
    assert store.maintain(NOW, FOREVER).elected


def test_old_days_go_and_young_ones_stay(place: LakePlace) -> None:
    store = LakeStore(place)
    old = [CallFact(call=f"old{i}", started_wall_ms=NOW - 10 * DAY_MS, duration_ms=1.0, gateway="g") for i in range(3)]
    spans = [
        SpanFact(trace="a", span="b", start_wall_us=(NOW - 10 * DAY_MS) * 1000),
        SpanFact(trace="a", span="c", start_wall_us=NOW * 1000),
    ]
    store.append("g", name(1), {"call": old, "span": spans}, NOW)
    append(store, "g", 2, 4)
    assert store.maintain(NOW, Keep(days=5)).expired_files == 4
    assert (count(store), count(store, "span")) == (4, 1)
    assert store.maintain(NOW, Keep(days=5)).expired_files == 0


def test_what_passes_the_size_goes_oldest_first(place: LakePlace) -> None:
    store = LakeStore(place)
    for number in range(8):
        hour = NOW - (8 - number) * 3_600_000
        calls = [
            CallFact(call=f"{number}-{row}", started_wall_ms=hour, duration_ms=float(row), gateway="g") for row in range(2_000)
        ]
        store.append("g", name(number), {"call": calls}, NOW)
    held = bytes_held(store._reached())
    store.maintain(NOW, Keep(days=90, bytes_max=held // 2))
    left = [row[0] for row in store._reached().execute(f"SELECT DISTINCT started_wall_ms FROM {LAKE}.call ORDER BY 1").fetchall()]
    assert left == [NOW - hours * 3_600_000 for hours in range(len(left), 0, -1)]
    assert 1 <= len(left) <= 4
    assert bytes_held(store._reached()) <= held // 2


def test_recorded_text_is_gone_from_every_file_after_its_day(place: LakePlace) -> None:
    store = LakeStore(place)
    told = {"call": "c", "feature": "f", "tenant": "t", "at_wall_ms": NOW}
    kept = RecordingFact(**told, keep_until_wall_ms=NOW + 9_000 * DAY_MS, prompt="kept")  # type: ignore[arg-type]
    gone = RecordingFact(**told, keep_until_wall_ms=NOW + 1000, prompt=PLANTED)  # type: ignore[arg-type]
    late = RecordingFact(**told, keep_until_wall_ms=NOW - 1, prompt=PLANTED)  # type: ignore[arg-type]
    store.append("g", name(1), {"recording": [kept, gone, late]}, NOW)
    assert count(store, "recording") == 2
    assert store.maintain(NOW, FOREVER).expired_recordings == 0
    assert [where[:9] for where in places_of(place, PLANTED)] == ["ducklake-"], "in one file, and nothing of it in the catalog"
    assert store.maintain(WallMs(NOW + (FACT_LAKE_GRACE_S + 2) * 1000), FOREVER).expired_recordings == 1
    store.maintain(later(FACT_LAKE_GRACE_S + 60), FOREVER)
    store.maintain(later(FACT_LAKE_GRACE_S + 60), FOREVER)
    assert count(store, "recording") == 1
    assert places_of(place, PLANTED) == []


def places_of(place: LakePlace, text: str) -> list[str]:
    """Every file on the disk, listed by the catalog or not, and every table of the catalog with ``text`` in any row."""
    found: list[str] = []
    with duckdb.connect(":memory:") as database:
        for path in files_of(place):
            if text in str(database.execute(f"SELECT * FROM read_parquet('{path}')").fetchall()):
                found.append(path.name)
    with psycopg.connect(conninfo(place.catalog)) as catalog:
        tables = catalog.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = %s", (place.schema,)
        ).fetchall()
        for (table,) in tables:
            if text in str(catalog.execute(f'SELECT * FROM {place.schema}."{table}"').fetchall()):  # type: ignore[call-overload]
                found.append(table)
    return found


async def test_a_lake_of_an_older_version_gets_the_new_columns(place: LakePlace) -> None:
    old = LakeStore(place)
    append(old, "g", 1, 3)
    old._reached().execute(f"ALTER TABLE {LAKE}.call DROP COLUMN usage_source")
    old._reached().execute(f"ALTER TABLE {LAKE}.call DROP COLUMN first_token_ms")
    old.close()
    new = LakeStore(place)
    append(new, "g", 2, 3)
    engine = Engine(new)
    calls = (await FactTable(engine).calls(CallQuery())).calls
    await engine.close()
    assert {(call.call[:6], call.usage_source, call.first_token_ms) for call in calls} == {
        ("g-0001", "unknown", None),
        ("g-0002", "unknown", None),
    }


async def test_a_lake_of_a_newer_version_is_written_and_read(place: LakePlace) -> None:
    newer = LakeStore(place)
    newer._reached().execute(f"ALTER TABLE {LAKE}.call ADD COLUMN mood VARCHAR DEFAULT 'calm'")
    newer.close()
    store = LakeStore(place)
    assert append(store, "g", 1, 3)
    engine = Engine(store)
    assert len((await FactTable(engine).calls(CallQuery())).calls) == 3
    await engine.close()
    assert store._reached().execute(f"SELECT DISTINCT mood FROM {LAKE}.call").fetchall() == [("calm",)]


def test_starting_together_is_safe(place: LakePlace) -> None:
    for _ in range(2):
        database = duckdb.connect(":memory:")
        prepare(database, place)
        prepare(database, place)
        database.close()


async def test_away_and_back(place: LakePlace) -> None:
    store = LakeStore(place)
    append(store, "g", 1, 3)
    engine = Engine(store)
    table = FactTable(engine)
    assert await table.count("call") == 3
    with psycopg.connect(conninfo(place.catalog), autocommit=True) as admin:
        mine = "datname = current_database() AND pid != pg_backend_pid()"
        admin.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}")  # type: ignore[call-overload]
        assert append(store, "g", 2, 3)
        admin.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}")  # type: ignore[call-overload]
        for _ in range(3):
            try:
                assert await table.count("call") == 6
                break
            except FactsAway:
                continue
        else:
            raise AssertionError("questions do not come back")
    await engine.close()


def test_a_catalog_that_cannot_be_reached_is_told_without_its_password(tmp_path: Path) -> None:
    place = LakePlace(catalog=f"postgresql://u:hunter2@/x?host={tmp_path}", schema="headway_facts", data=str(tmp_path / "lake"))
    store = LakeStore(place)
    with pytest.raises(StoreAway) as away:
        store.append("g", name(1), facts("g", 1, 1), NOW)
    assert "hunter2" not in str(away.value)
    assert "hunter2" not in repr(place)
