"""Free pages go back to the system."""

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from headway.gateway import memory

HELD = 40_000
BYTES_EACH = 1_024


LARGE = """
from headway.gateway.memory import keep_large_apart
from pathlib import Path
def resident_kb():
    return next(int(l.split()[1]) for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("RssAnon"))
can = keep_large_apart()
kept, before = [], resident_kb()
for _ in range(32):
    large = bytearray(b"x") * 1_000_000
    kept.append(bytearray(2_000))
    del large
print(can, resident_kb() - before)
"""


def resident_kb() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")
def test_holes_between_blocks_are_given_back() -> None:
    if not memory.trim():
        pytest.skip("the C library has no malloc_trim")
    held = [bytearray(BYTES_EACH) for _ in range(HELD)]
    kept = held[::64]
    before = resident_kb()
    del held
    memory.trim()
    assert before - resident_kb() > HELD * BYTES_EACH // 1_024 // 2
    assert len(kept) == HELD // 64


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")
def test_a_large_block_goes_back_when_it_is_freed() -> None:
    told = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, check=True).stdout.split()
    if told[0] == "False":
        pytest.skip("the C library has no mallopt")
    assert int(told[1]) < 1_000, "kB more than before, of 32 blocks of 1 MB, each freed with a small one left behind it"


async def test_it_is_done_now_and_then_and_ends_where_there_is_no_such_call(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[bool] = []

    def trimmed() -> bool:
        done.append(len(done) < 2)
        return done[-1]

    monkeypatch.setattr(memory, "trim", trimmed)
    async with asyncio.timeout(5):
        await memory.trim_now_and_then(0.001)
    assert done == [True, True, False]


async def test_it_stops_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "trim", lambda: True)
    task = asyncio.create_task(memory.trim_now_and_then(0.001))
    await asyncio.sleep(0.02)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
