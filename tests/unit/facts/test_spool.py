"""The gateway's spool: quick, bounded, and at most one flush behind when it is killed."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from headway.facts import segment_file
from headway.facts.model import CallFact, Fact, FeedbackFact, RecordingFact
from headway.facts.segments import read_segment
from headway.facts.spool import Spool, SpoolInUse, SpoolLimits

FAST = SpoolLimits(flush_ms=10, segment_age_ms=50)


def call(i: int, **more: object) -> CallFact:
    return CallFact(call=f"call_{i}", started_wall_ms=i, duration_ms=1.0, gateway="g", **more)  # type: ignore[arg-type]


def until(true: Callable[[], object], within_s: float = 5.0) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.005)


def shipped(spool: Spool) -> list[Fact]:
    facts: list[Fact] = []
    for name in spool.closed():
        data = spool.read(name)
        assert data is not None
        content = read_segment(data)
        assert content.closed
        assert (content.rows_lost, content.bytes_skipped, content.rows_unreadable) == (0, 0, 0)
        facts += content.facts
    return facts


def test_what_is_put_is_shipped_once_and_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "g", FAST)
    facts = [call(i) for i in range(100)]
    for fact in facts[:50]:
        assert spool.put(fact)
    until(lambda: len(spool.closed()) == 1)
    for fact in facts[50:]:
        spool.put(fact)
    spool.close()
    assert shipped(spool) == facts
    assert spool.closed() == tuple(sorted(spool.closed()))
    assert not list(tmp_path.glob("*.open"))
    stats = spool.stats()
    assert (stats.put, stats.shed, stats.written, stats.queued) == ({"call": 100}, {}, 100, 0)
    assert stats.disk_bytes == sum(path.stat().st_size for path in tmp_path.glob("*.seg"))


def test_stored_deletes_and_repeats_are_ignored(tmp_path: Path) -> None:
    woken: list[int] = []
    spool = Spool(tmp_path, "g", FAST, on_closed=lambda: woken.append(1))
    spool.put(call(1))
    until(spool.closed)
    (name,) = spool.closed()
    assert woken == [1]
    spool.stored(name)
    spool.stored(name)
    spool.stored("1764000000000-nothing-000001")
    assert spool.closed() == ()
    until(lambda: not list(tmp_path.glob("*.seg")))
    until(lambda: spool.stats().disk_bytes == 0)
    assert spool.read(name) is None
    spool.close()


def test_a_segment_deleted_by_hand_is_forgotten(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "g", FAST)
    spool.put(call(1))
    until(spool.closed)
    (name,) = spool.closed()
    (tmp_path / f"{name}.seg").unlink()
    assert spool.read(name) is None
    assert spool.closed() == ()
    spool.close()


def test_rotation_by_size(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "g", SpoolLimits(flush_ms=10, segment_age_ms=60_000, segment_bytes_max=4_000))
    for i in range(60):
        spool.put(call(i))
    spool.close()
    assert len(shipped(spool)) == 60
    assert len(spool.closed()) > 3
    assert all(path.stat().st_size < 4_100 for path in tmp_path.glob("*.seg"))


def test_full_queue_sheds_by_table_and_says_so(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "g", SpoolLimits(flush_ms=60_000, queue_rows_max=10))
    spool._wake_rows = -1  # the writer sleeps: the queue stays as it is
    put = [spool.put(call(i)) for i in range(12)]
    put.append(spool.put(FeedbackFact(call="c", kind="copied", at_wall_ms=1)))
    assert put == [True] * 10 + [False] * 3
    assert spool.stats().shed == {("call", "queue_full"): 2, ("feedback", "queue_full"): 1}
    spool.close()
    assert len(shipped(spool)) == 10
    assert not spool.put(call(1))
    assert spool.stats().shed["call", "closed"] == 1


def test_queue_is_bounded_in_bytes_too(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "g", SpoolLimits(flush_ms=60_000, queue_bytes_max=100_000))
    text = RecordingFact(call="c", feature="f", tenant="t", at_wall_ms=1, keep_until_wall_ms=2, answer="x" * 40_000)
    assert [spool.put(text) for _ in range(3)] == [True, True, False]
    spool.close()
    assert len(shipped(spool)) == 2


def test_odd_values_are_repaired_rather_than_lost(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "g", FAST)
    assert spool.put(call(1, requested="bad \ud800 model", input_tokens=10**30, lost=("\udfff",), prefix_hashes=(2**64,)))
    assert spool.put(call(2, requested=object())) is False
    assert spool.put(call(3, requested="x" * 2_000_000)) is False
    spool.close()
    (fact,) = shipped(spool)
    assert isinstance(fact, CallFact)
    assert fact.requested == "bad \ufffd model"
    assert fact.input_tokens == 2**63 - 1
    assert spool.stats().shed == {("call", "unencodable"): 1, ("call", "too_large"): 1}


def test_disk_bound_sheds_the_newest_and_recovers(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "g", SpoolLimits(flush_ms=5, segment_age_ms=20, segment_bytes_max=2_000, disk_bytes_max=6_000))
    for i in range(100):
        spool.put(call(i))
    until(lambda: spool.degraded)
    assert "control does not take its segments" in spool.degraded[0]
    until(lambda: spool.stats().queued == 0)
    until(lambda: not list(tmp_path.glob("*.open")))
    kept = shipped(spool)
    shed = spool.stats().shed["call", "disk_full"]
    assert kept == [call(i) for i in range(len(kept))]
    assert len(kept) + shed == 100
    assert spool.stats().disk_bytes <= 6_200
    for name in spool.closed():
        spool.stored(name)
    until(lambda: not spool.degraded)
    spool.put(call(500))
    until(spool.closed)
    assert shipped(spool) == [call(500)]
    spool.close()


def test_no_space_on_the_disk_sheds_counts_and_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path, "g", SpoolLimits(flush_ms=5, segment_age_ms=60_000))
    spool.put(call(1))
    until(lambda: spool.stats().written == 1)
    real = os.write

    def half_then_full(file: int, data: bytes) -> int:
        if len(data) > 20:
            return real(file, data[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(segment_file.os, "write", half_then_full)
    spool.put(call(2))
    until(lambda: spool.degraded)
    assert "No space left" in spool.degraded[0]
    time.sleep(0.05)
    assert spool.degraded, "stays degraded while the disk refuses"
    monkeypatch.setattr(segment_file.os, "write", real)
    until(lambda: not spool.degraded)
    spool.put(call(3))
    spool.close()
    contents = [read_segment(spool.read(name) or b"") for name in spool.closed()]
    assert [fact for content in contents for fact in content.facts] == [call(1), call(3)]
    assert [content.bytes_skipped for content in contents] == [0, 0], "a row that was written in half is cut off again"
    assert spool.stats().shed == {("call", "disk_error"): 1}


def test_one_writer_a_folder(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "g", FAST)
    with pytest.raises(SpoolInUse, match="another gateway"):
        Spool(tmp_path, "g", FAST)
    spool.close()
    Spool(tmp_path, "g", FAST).close()


KILLED = """
import sys, time
from pathlib import Path
from headway.facts.model import CallFact
from headway.facts.spool import Spool, SpoolLimits
spool = Spool(Path(sys.argv[1]), "g", SpoolLimits(flush_ms=50, segment_age_ms=60_000))
i = 0
while True:
    spool.put(CallFact(call=f"call_{i}", started_wall_ms=int(time.time() * 1000), duration_ms=1.0, gateway="g"))
    sys.stdout.write(f"{i} {time.monotonic_ns()}\\n"); sys.stdout.flush()
    i += 1
    time.sleep(0.002)
"""


def test_kill_loses_at_most_the_last_flush(tmp_path: Path) -> None:
    script = tmp_path / "writer.py"
    script.write_text(KILLED)
    with subprocess.Popen([sys.executable, str(script), str(tmp_path / "spool")], stdout=subprocess.PIPE, text=True) as child:
        time.sleep(1.0)
        killed_ns = time.monotonic_ns()
        child.send_signal(signal.SIGKILL)
        out, _ = child.communicate()
    put = [(int(i), int(ns)) for i, ns in (line.split() for line in out.splitlines() if line.count(" ") == 1 and line.split()[1])]
    assert len(put) > 50
    spool = Spool(tmp_path / "spool", "g", FAST)
    spool.close()
    facts = shipped(spool)
    assert [fact.call for fact in facts] == [f"call_{i}" for i in range(len(facts))]  # type: ignore[union-attr]
    lost = [ns for i, ns in put if i >= len(facts)]
    assert all(ns > killed_ns - 300_000_000 for ns in lost), (
        "rows older than the flush time (50 ms, and slack for a busy machine) are gone"
    )
    assert spool.stats().recovered_rows == len(facts) > 50


@pytest.mark.parametrize("cut", [1, 30, 90, 200, 350])
def test_recovery_keeps_the_valid_prefix_and_counts_the_rest(tmp_path: Path, cut: int) -> None:
    spool = Spool(tmp_path, "g", SpoolLimits(flush_ms=5, segment_age_ms=60_000))
    for i in range(5):
        spool.put(call(i))
    until(lambda: spool.stats().written == 5)
    (path,) = tmp_path.glob("*.open")
    data = path.read_bytes()
    spool.close()
    (closed,) = tmp_path.glob("*.seg")
    closed.unlink()
    path.write_bytes(data[:-cut])
    again = Spool(tmp_path, "g", FAST)
    again.close()
    facts = shipped(again)
    assert facts == [call(i) for i in range(len(facts))]
    assert again.stats().recovered_rows == len(facts)
    assert len(facts) < 5
    whole = len(data) - cut - again.stats().recovery_dropped_bytes
    assert read_segment(data[:whole]).bytes_skipped == 0


def test_put_is_quick(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "g")
    facts = [call(i, tenant="acme", feature="search", routed="openai/gpt-4o", leases=("a",)) for i in range(2_000)]
    began = time.process_time_ns()
    for fact in facts:
        spool.put(fact)
    each_us = (time.process_time_ns() - began) / len(facts) / 1000
    spool.close()
    assert each_us < 50, f"{each_us:.1f} µs a row"
