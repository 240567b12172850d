"""CPU, memory and foreign load out of /proc."""

import os
import time
from pathlib import Path
from typing import NamedTuple

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def tree(pid: int) -> list[int]:
    """``pid`` and all below it."""
    below: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        below.setdefault(parent, []).append(int(stat.parent.name))
    out, waiting = [], [pid]
    while waiting:
        out.append(waiting.pop())
        waiting += below.get(out[-1], [])
    return out


def cpu_s(pid: int) -> float:
    """User and system time of a whole process tree, by the scheduler's nanosecond count where there is one, else in clock ticks."""
    return sum(_one_cpu_s(one) for one in tree(pid))


def _one_cpu_s(pid: int) -> float:
    total = 0.0
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0]) / 1e9
    except (OSError, ValueError, IndexError):
        return _ticks_s(pid)
    return total


def _ticks_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def rss_mb(pid: int) -> float:
    total = 0
    for one in tree(pid):
        try:
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1]) * PAGE_BYTES
        except OSError:
            continue
    return total / 1e6


def machine_busy_s() -> float:
    """CPU seconds that all processes of the machine have used."""
    user, nice, system, _idle, _wait, irq, softirq, *_ = (int(n) for n in Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    return (user + nice + system + irq + softirq) / TICKS_PER_S


class ForeignLoad(NamedTuple):
    """CPU used by processes that are not ours, in cores."""

    at: float
    busy_s: float
    own_s: float

    @classmethod
    def begin(cls) -> "ForeignLoad":
        return cls(time.perf_counter(), machine_busy_s(), cpu_s(os.getpid()))

    def cores(self) -> float:
        """Since ``begin``. Children that ended in between are not counted as ours, so begin and end inside their lives."""
        passed = time.perf_counter() - self.at
        return max(0.0, (machine_busy_s() - self.busy_s) - (cpu_s(os.getpid()) - self.own_s)) / passed


def until_idle(pid: int, *, share: float = 0.05, window_s: float = 0.3, within_s: float = 30.0) -> bool:
    """Wait until the tree uses less than ``share`` of a core; False when it does not within ``within_s``."""
    until = time.perf_counter() + within_s
    while time.perf_counter() < until:
        before = cpu_s(pid)
        time.sleep(window_s)
        if (cpu_s(pid) - before) / window_s < share:
            return True
    return False


def pin(pid: int, cores: set[int]) -> None:
    """Every thread of the tree; nothing where the machine has one core or forbids it."""
    for one in tree(pid):
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                os.sched_setaffinity(int(task.name), cores)
        except OSError:
            continue
