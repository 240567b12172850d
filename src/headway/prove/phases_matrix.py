"""The confusion matrix as people read it: rows are what was done, columns what was said."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from headway.calls.phases.model import Cause
from headway.prove.phases_score import CANNOT_TELL, QUIET

SHORT: Final[Mapping[str, str]] = MappingProxyType(
    {
        Cause.OWN_QUEUE: "queue",
        Cause.THROTTLING: "throttl",
        Cause.RETRY: "retry",
        Cause.LONG_PROMPT: "prompt",
        Cause.COLD_CACHE: "cold",
        Cause.ROUTE_CHANGE: "route",
        Cause.NEIGHBOUR: "neighb",
        Cause.LONGER_OUTPUT: "longer",
        Cause.SLOW_DECODE: "decode",
        Cause.SLOW_READER: "reader",
        Cause.TOOL_WAIT: "tool",
        CANNOT_TELL: "can't tell",
        QUIET: "not slow",
    }
)


def as_text(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Rows are what was done, columns what was said, in per cent of the row; zeros are left blank."""
    columns = list(SHORT)
    widths = [max(len(SHORT[column]), 4) for column in columns]
    lines = ["per cent of calls, by what was done (rows) and what was said (columns)", ""]
    lines.append(" " * 14 + "  ".join(SHORT[c].rjust(w) for c, w in zip(columns, widths, strict=True)) + "       n")
    for row, told in counts.items():
        n = sum(told.values())
        cells = [_percent(told.get(column, 0), n).rjust(width) for column, width in zip(columns, widths, strict=True)]
        lines.append(f"{row:<14}{'  '.join(cells)}  {n:>6,}")
    return "\n".join(lines)


def _percent(count: int, n: int) -> str:
    return "" if not count else f"{100 * count / n:.0f}" if 100 * count >= n else "<1"
