"""Each row counts once: whatever is sent again, merged, killed in between, or read meanwhile."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.facts import parquet
from headway.facts.compaction import DAY_MS, merge, plan
from headway.facts.files import BadSegmentName, FactFile, FactFiles, FactsInUse, segment_file
from headway.facts.model import CallFact, FeedbackFact, RecordingFact
from headway.facts.parquet import arrow_table, read_aligned, write_durably
from headway.facts.ranges import contains, meets, union, united
from headway.facts.retention import expire
from headway.facts.store import Keep
from headway.kernel.instants import WallMs

DAY = 1_764_000_000_000 // DAY_MS * DAY_MS
NOON = WallMs(DAY + DAY_MS // 2)
RUN = "0123456789abcdef"


class Killed(BaseException):
    """Stands for SIGKILL: no handler of the product catches it."""


def name(i: int, wall_ms: int = DAY) -> str:
    return f"{wall_ms + i:013d}-{RUN}-{i:06d}"


def store(files: FactFiles, i: int, wall_ms: int = DAY, table: str = "call") -> FactFile:
    file = segment_file(files.folder / table, "g", name(i, wall_ms))
    rows = arrow_table(
        table, [CallFact(call=f"call_{i}_{n}", started_wall_ms=wall_ms + i, duration_ms=1.0, gateway="g") for n in range(3)]
    )
    write_durably(file.path, rows)
    files.added(table, file)
    return file


def calls_in(files: FactFiles) -> list[str]:
    with files.pin() as paths:
        return sorted(read_aligned("call", paths["call"]).column("call").to_pylist()) if paths["call"] else []


def expected(count: int) -> list[str]:
    return sorted(f"call_{i}_{n}" for i in range(count) for n in range(3))


@pytest.fixture
def files(tmp_path: Path) -> Iterator[FactFiles]:
    opened = FactFiles.open(tmp_path / "facts")
    yield opened
    opened.close()


def test_sixteen_files_of_a_day_become_one(files: FactFiles) -> None:
    for i in range(17):
        store(files, i)
    groups = plan(files.live("call"), NOON)
    assert [len(group) for group in groups] == [16]
    merge(files, "call", groups[0], NOON)
    assert [file.level for file in files.live("call")] == [1, 0]
    assert calls_in(files) == expected(17)
    assert files.sweep() == 16
    assert calls_in(files) == expected(17)
    assert len(list((files.folder / "call").iterdir())) == 2
    assert plan(files.live("call"), NOON) == []


def test_a_day_that_is_over_becomes_one_file_and_days_stay_apart(files: FactFiles) -> None:
    for i in range(3):
        store(files, i)
        store(files, 100 + i, DAY + DAY_MS)
    now = WallMs(NOON + DAY_MS)
    (group,) = plan(files.live("call"), now)
    merge(files, "call", group, now)
    assert len(files.live("call")) == 4
    assert plan(files.live("call"), now) == []


def test_a_segment_sent_again_after_the_merge_is_known(files: FactFiles) -> None:
    for i in range(16):
        store(files, i)
    merge(files, "call", plan(files.live("call"), NOON)[0], NOON)
    files.sweep()
    again, other = segment_file(files.folder / "call", "g", name(7)), segment_file(files.folder / "call", "g", name(16))
    assert files.holds("call", again)
    assert not files.holds("call", other)
    assert not files.holds("call", segment_file(files.folder / "call", "elsewhere", name(7)))
    assert not files.holds("attempt", segment_file(files.folder / "attempt", "g", name(7)))
    files.close()
    reopened = FactFiles.open(files.folder)
    assert reopened.holds("call", again)
    assert not reopened.holds("call", other)
    reopened.close()


def steps(monkeypatch: pytest.MonkeyPatch, at: int) -> Callable[[], int]:
    """Kill at the ``at``-th operation on the disk; says how many there were."""
    count = 0

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def operation(*args: object, **more: object) -> object:
            nonlocal count
            count += 1
            if count == at:
                raise Killed
            return real(*args, **more)

        return operation

    monkeypatch.setattr(parquet.os, "fsync", counted(parquet.os.fsync))
    monkeypatch.setattr(Path, "rename", counted(Path.rename))
    monkeypatch.setattr(Path, "unlink", counted(Path.unlink))
    monkeypatch.setattr(pq, "write_table", counted(pq.write_table))
    return lambda: count


def test_the_bytes_are_durable_before_the_name_is(files: FactFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def logged(what: str, real: Callable[..., object]) -> Callable[..., object]:
        def operation(*args: object) -> object:
            done.append(what)
            return real(*args)

        return operation

    monkeypatch.setattr(parquet.os, "fsync", logged("sync", parquet.os.fsync))
    monkeypatch.setattr(Path, "rename", logged("rename", Path.rename))
    store(files, 1)
    assert done == ["sync", "rename", "sync"]


def merge_all(files: FactFiles) -> None:
    while groups := plan(files.live("call"), WallMs(NOON + DAY_MS)):
        for group in groups:
            merge(files, "call", group, NOON)
    files.sweep()


def test_killed_at_every_step_of_a_merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = done = 0
    while not done:
        at += 1
        folder = tmp_path / str(at)
        files = FactFiles.open(folder)
        for i in range(5):
            store(files, i)
        with monkeypatch.context() as patched:
            count = steps(patched, at)
            try:
                merge_all(files)
                done = count()
            except Killed:
                pass
        files.close()
        after = FactFiles.open(folder)
        assert calls_in(after) == expected(5), f"killed at step {at}"
        assert all(after.holds("call", segment_file(folder / "call", "g", name(i))) for i in range(5))
        merge_all(after)
        assert calls_in(after) == expected(5), f"killed at step {at}, then merged"
        assert [path.suffix for path in (folder / "call").iterdir()] == [".parquet"]
        after.close()
    assert at > 8, "write, two syncs, a rename, five deletions and a sync of the folder"


def test_killed_while_cleaning_up_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "facts"
    files = FactFiles.open(folder)
    for i in range(5):
        store(files, i)
    merge(files, "call", plan(files.live("call"), WallMs(NOON + DAY_MS))[0], NOON)
    files.close()
    assert len(list((folder / "call").iterdir())) == 6
    for at in range(1, 5):
        with monkeypatch.context() as patched:
            steps(patched, at)
            with pytest.raises(Killed):
                FactFiles.open(folder)
    after = FactFiles.open(folder)
    assert calls_in(after) == expected(5)
    assert len(list((folder / "call").iterdir())) == 1
    after.close()


def test_a_running_query_keeps_its_files(files: FactFiles) -> None:
    for i in range(16):
        store(files, i)
    with files.pin() as paths:
        merge(files, "call", plan(files.live("call"), NOON)[0], NOON)
        assert files.sweep() == 0
        assert all(path.exists() for path in paths["call"])
        with files.pin() as newer:
            assert len(newer["call"]) == 1
    assert files.sweep() == 16


def test_old_files_go_and_young_ones_stay(files: FactFiles) -> None:
    store(files, 0, DAY - 10 * DAY_MS)
    store(files, 1, DAY)
    assert expire(files, NOON, Keep(days=5)).files == 1
    assert calls_in(files) == [f"call_1_{n}" for n in range(3)]
    assert files.sweep() == 1
    assert len(list((files.folder / "call").iterdir())) == 1


def test_recorded_text_goes_on_its_day(files: FactFiles) -> None:
    def recording(call: str, keep_until: int) -> RecordingFact:
        return RecordingFact(
            call=call, feature="f", tenant="t", at_wall_ms=DAY, keep_until_wall_ms=keep_until, answer=f"secret of {call}"
        )

    for i, rows in enumerate(
        [[recording("a", NOON - 1), recording("b", NOON + 1)], [recording("c", NOON - 1)], [recording("d", NOON + 1)]]
    ):
        file = segment_file(files.folder / "recording", "g", name(i))
        write_durably(file.path, arrow_table("recording", rows))
        files.added("recording", file)
    with files.pin() as paths:
        assert expire(files, NOON, Keep(days=90)).recordings == 2
        assert files.sweep() == 0
        assert len(read_aligned("recording", paths["recording"])) == 4, "a query that began before reads on"
    assert files.sweep() == 2
    left = sorted((files.folder / "recording").iterdir())
    assert sorted(read_aligned("recording", left).column("call").to_pylist()) == ["b", "d"]
    assert expire(files, NOON, Keep(days=90)).recordings == 0
    assert b"secret of a" not in b"".join(path.read_bytes() for path in left)
    assert files.holds("recording", segment_file(files.folder / "recording", "g", name(0)))


def test_a_file_from_before_a_column_was_added(files: FactFiles) -> None:
    old = arrow_table("feedback", [FeedbackFact(call="c", kind="copied", at_wall_ms=1, note="n")]).drop_columns(["note", "run"])
    old = old.append_column("retired", [[1]])
    path = files.folder / "feedback" / f"s-{DAY:013d}-g-{RUN}-000001.parquet"
    write_durably(path, old)
    (row,) = read_aligned("feedback", [path]).to_pylist()
    assert row["note"] == row["run"] == ""
    assert row["kind"] == "copied"
    assert "retired" not in row


def test_one_owner(files: FactFiles) -> None:
    with pytest.raises(FactsInUse, match="another control process"):
        FactFiles.open(files.folder)


@pytest.mark.parametrize("bad", ["", "x", "../../etc/passwd", f"{DAY}-{RUN}-1/..", f"{DAY}-{RUN}", f"{DAY}-RUN!-000001"])
def test_names_that_no_spool_makes_are_refused(tmp_path: Path, bad: str) -> None:
    with pytest.raises(BadSegmentName):
        segment_file(tmp_path, "g", bad)


@pytest.mark.parametrize("gateway", ["../../x", "a/b", "", "ü", "x" * 500])
def test_odd_gateway_names_stay_inside_the_folder(tmp_path: Path, gateway: str) -> None:
    assert segment_file(tmp_path, gateway, name(1)).path.parent == tmp_path


def test_a_damaged_file_is_set_aside_at_the_start(files: FactFiles) -> None:
    (files.folder / "call" / f"m1-{DAY:013d}-{DAY:013d}-abc.parquet").write_bytes(b"no parquet")
    store(files, 1)
    files.close()
    again = FactFiles.open(files.folder)
    assert len(again.live("call")) == 1
    assert len(again.damaged) == 1
    again.close()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=30), st.lists(st.integers(0, 60), max_size=30))
def test_ranges_are_sets(one: list[int], other: list[int]) -> None:
    a, b = union([(n, n) for n in one]), union([(n, n) for n in other])
    assert {n for n in range(-1, 62) if contains(a, n)} == set(one)
    both = union(a, b)
    assert {n for n in range(-1, 62) if contains(both, n)} == set(one) | set(other)
    assert all(last + 1 < first for (_, last), (first, _) in zip(both, both[1:], strict=False))
    assert meets({"r": a}, {"r": b}) == bool(set(one) & set(other))
    assert not meets({"r": a}, {"s": b})
    assert united([{"r": a}, {"r": b}])["r"] == both
