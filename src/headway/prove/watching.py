"""A process seen from outside: memory, open sockets and its Prometheus text."""

import os
import re
from pathlib import Path

from headway.prove.rawhttp import request

_SAMPLE = re.compile(r"^(\w+)(\{[^}]*\})? ([0-9.eE+-]+)$", re.MULTILINE)


def rss_mb(pid: int) -> float:
    """Resident memory in megabytes. Raises OSError when the process is gone."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def cpu_s(pid: int) -> float:
    """User and system seconds that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def sockets(pid: int) -> int:
    """Open sockets of the process, listeners included."""
    count = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            count += str(entry.readlink()).startswith("socket:")
        except OSError:
            continue
    return count


async def metrics(url: str) -> dict[str, float]:
    """The text at ``/metrics``: each sample under its name with labels, and sums over labels under the bare name."""
    text = (await request(url, "GET", "/metrics")).body.decode()
    out: dict[str, float] = {}
    for name, labels, value in _SAMPLE.findall(text):
        out[name] = out.get(name, 0.0) + float(value)
        if labels:
            out[name + labels] = float(value)
    return out
