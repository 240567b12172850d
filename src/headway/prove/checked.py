"""A figure beside the bound that it must keep, and tables of them: what edge, soak and fuzz print."""

import json
import sys
import time
from collections.abc import Sequence

import msgspec

from headway.kernel.figure import Figure


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """``bound`` in words, as the table shows it."""

    name: str
    figure: Figure
    bound: str
    holds: bool


def at_most(name: str, value: float, most: float, *, unit: str, n: int, method: str) -> Checked:
    return Checked(
        name=name, figure=Figure(value=value, unit=unit, n=n, method=method), bound=f"<= {most:g}", holds=n > 0 and value <= most
    )


def at_least(name: str, value: float, least: float, *, unit: str, n: int, method: str) -> Checked:
    return Checked(
        name=name, figure=Figure(value=value, unit=unit, n=n, method=method), bound=f">= {least:g}", holds=n > 0 and value >= least
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(len(ordered) * share * 1000) // 1000) - 1))]


def table(rows: Sequence[Checked]) -> str:
    """Fixed columns: name, value, bound, n, verdict."""
    cells = [("figure", "value", "bound", "n", "")]
    for row in rows:
        value = "cannot tell" if row.figure.value is None else f"{row.figure.value:.4g} {row.figure.unit}"
        cells.append((row.name, value, row.bound, str(row.figure.n), "holds" if row.holds else "FAILS"))
    widths = [max(len(line[k]) for line in cells) for k in range(5)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells)


def as_json(rows: Sequence[Checked]) -> str:
    shown = {row.name: {**msgspec.to_builtins(row.figure), "bound": row.bound, "holds": row.holds} for row in rows}
    return json.dumps({"figures": shown}, indent=1)


def finish(rows: Sequence[Checked], *, json_file: str = "") -> int:
    """Print the table, write the JSON where asked, and give the exit status: 1 when a bound does not hold."""
    print(table(rows))
    if json_file:
        with open(json_file, "w", encoding="utf-8") as out:
            out.write(as_json(rows) + "\n")
    failed = [row for row in rows if not row.holds]
    for row in failed:
        print(f"does not hold: {row.name}: {row.figure.method}")
    return 1 if failed else 0


class Progress:
    """One line on stderr, rewritten on a terminal, at most once a second elsewhere every ten."""

    def __init__(self, what: str) -> None:
        self._what, self._began, self._last = what, time.monotonic(), 0.0

    def say(self, text: str, *, force: bool = False) -> None:
        now = time.monotonic()
        terminal = sys.stderr.isatty()
        if not force and now - self._last < (0.5 if terminal else 10.0):
            return
        self._last = now
        line = f"{self._what} {now - self._began:5.0f} s  {text}"
        print(f"\r\x1b[K{line}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)

    def done(self) -> None:
        if sys.stderr.isatty():
            print(file=sys.stderr)
