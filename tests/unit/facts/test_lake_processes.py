"""A lake and real processes: four writers at once, one killed between its files and its commit, a rival house-keeper, questions meanwhile."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from lake_stage import NOW, append
from local_s3 import BUCKET, NoS3, s3

from headway.facts.answers import FactsAway
from headway.facts.engine import Engine, Reader, load_queries
from headway.facts.lake import LAKE
from headway.facts.lake_house import elected
from headway.facts.lake_place import LakePlace
from headway.facts.lake_store import LakeStore
from headway.facts.store import Keep, StoreAway
from headway.kernel.instants import wall_ms

pytestmark = pytest.mark.postgres
ROOT = Path(__file__).resolve().parents[3]
STAGE = ROOT / "tests" / "support" / "lake_stage.py"
WRITERS, SEGMENTS, ROWS = 4, 8, 50
FOREVER = Keep(days=36_500)
LIMIT_S = 120

HOLDER = """
import sys, time
from pathlib import Path
import msgspec
from headway.facts.lake_house import elected
from headway.facts.lake_place import LakePlace
with elected(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=LakePlace)) as mine:
    print(mine, flush=True)
    time.sleep(600)
"""


def told(place: LakePlace, folder: Path) -> Path:
    path = folder / "place.json"
    path.write_bytes(msgspec.json.encode(place))
    return path


def writer(place: Path, number: int, *die_at: int) -> "subprocess.Popen[str]":
    words = [sys.executable, str(STAGE), str(place), f"w{number}", str(SEGMENTS), str(ROWS), *map(str, die_at)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def rows(store: LakeStore) -> tuple[int, int, int]:
    """Calls, distinct calls, attempts, in one look."""
    found = store._reached().execute(
        f"SELECT (SELECT count(*) FROM {LAKE}.call), (SELECT count(DISTINCT call) FROM {LAKE}.call), (SELECT count(*) FROM {LAKE}.attempt)"
    )
    calls, distinct, tries = found.fetchall()[0]
    return calls, distinct, tries


def look(reader: Reader) -> tuple[int, int]:
    queries = load_queries()
    return reader.rows(queries.count("call"))[0]["rows"], reader.rows(queries.count("attempt"))[0]["rows"]


async def four_writers(place: LakePlace, folder: Path) -> None:
    path = told(place, folder)
    watcher = LakeStore(place)
    engine = Engine(watcher)
    writers = [writer(path, number) for number in range(WRITERS)]
    seen = [0]
    merged = looks = 0
    while any(each.poll() is None for each in writers):
        try:
            calls, tries = await engine.run(look)
            assert calls == tries, "a look saw a part of a segment"
            assert calls % ROWS == 0
            assert calls >= seen[-1], "rows went away during a merge"
            seen.append(calls)
            looks += 1
            merged += watcher.maintain(NOW, FOREVER).merged_files
        except (StoreAway, FactsAway):
            continue  # it lost against a writer, and comes back
    acknowledged = sum(len(each.communicate(timeout=LIMIT_S)[0].splitlines()) for each in writers)
    assert all(each.returncode == 0 for each in writers)
    await engine.close()
    assert acknowledged == WRITERS * SEGMENTS
    assert rows(watcher) == (acknowledged * ROWS,) * 3
    assert looks > 1
    assert merged > 0
    watcher.close()


async def test_four_writers_while_one_merges_and_asks(place: LakePlace, tmp_path: Path) -> None:
    await four_writers(place, tmp_path)


@pytest.mark.slow
async def test_four_writers_on_s3(catalog: str, tmp_path: Path) -> None:
    try:
        with s3(tmp_path) as at:
            await four_writers(LakePlace(catalog=catalog, schema="headway_facts", data=f"s3://{BUCKET}/rows", s3=at), tmp_path)
    except NoS3 as missing:
        pytest.skip(str(missing))


def test_a_writer_killed_between_file_and_commit(place: LakePlace, tmp_path: Path) -> None:
    path = told(place, tmp_path)
    dead = writer(path, 1, 3)
    out = dead.communicate(timeout=LIMIT_S)[0].splitlines()
    assert dead.returncode == -signal.SIGKILL
    assert out == ["0", "1", "2"]
    store = LakeStore(place)
    assert rows(store) == (3 * ROWS,) * 3
    listed = {row[0] for row in store._reached().execute(f"SELECT data_file FROM ducklake_list_files('{LAKE}', 'call')").fetchall()}
    lying = {str(file) for file in Path(place.data).rglob("call/*.parquet")}
    assert len(lying - listed) == 1, "its file lies there, and no catalog names it"
    assert append(store, "w1", 3, ROWS), "the gateway sends the segment again"
    assert not append(store, "w1", 3, ROWS)
    assert rows(store) == (4 * ROWS,) * 3
    two_hours_ago = os.stat(next(iter(lying - listed))).st_mtime - 7_200
    for orphan in lying - listed:
        os.utime(orphan, (two_hours_ago, two_hours_ago))
    assert store.maintain(wall_ms(), FOREVER).deleted_files >= 1
    assert not any(Path(orphan).exists() for orphan in lying - listed)
    assert rows(store) == (4 * ROWS,) * 3
    store.close()


def test_the_house_keepers_office_dies_with_its_holder(place: LakePlace, tmp_path: Path) -> None:
    store = LakeStore(place)
    append(store, "g", 1, 5)
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(told(place, tmp_path))], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == "True"
    assert not store.maintain(NOW, FOREVER).elected
    holder.kill()
    holder.communicate(timeout=LIMIT_S)
    for _ in range(100):
        with elected(place) as mine:
            if mine:
                break
    assert store.maintain(NOW, FOREVER).elected
    store.close()
