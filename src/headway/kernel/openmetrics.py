"""Two formats of one page of metrics. Inside, a page is Prometheus text 0.0.4 whose buckets may end with an exemplar; whoever asks gets it without them,
or as OpenMetrics 1.0 with them.

OpenMetrics: https://prometheus.io/docs/specs/om/open_metrics_spec/. It names a counter's family without ``_total``, escapes quotes in help, writes numbers
of ``le`` with a fraction, ends with ``# EOF``; an exemplar's labels have 128 characters at most.
"""

import re
from collections.abc import Container
from typing import Final

from headway.kernel.traces import trace_of

CLASSIC: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_ACCEPTED: Final = re.compile(r"application/openmetrics-text\s*(;[^,]*)?(,|$)", re.IGNORECASE)
_REFUSED: Final = re.compile(r";\s*q\s*=\s*0(\.0*)?\s*(;|$)")
_EXEMPLAR: Final = re.compile(r' # \{call="[^"\\]*",trace_id="[0-9a-f]{32}"\} \S+ \S+$', re.MULTILINE)
_LE: Final = re.compile(r'(?<=[{,]le=")(\d+)(?="\} )')
_BARE_QUOTE: Final = re.compile(r'(?<!\\)((?:\\\\)*)"')
_TOTAL: Final = "_total"


def exemplar(value: float, call: str, traceparent: str, at_wall_ms: float) -> str:
    """What stands behind a bucket's count: the call, the trace that its spans are in, its value, and when."""
    return f' # {{call="{call}",trace_id="{trace_of(call, traceparent).hex()}"}} {float(value)!r} {at_wall_ms / 1000:.3f}'


def wants_openmetrics(accept: str) -> bool:
    """Whether a reader takes OpenMetrics, by its Accept header."""
    found = _ACCEPTED.search(accept)
    return found is not None and not _REFUSED.search(found[1] or "")


def page_for(accept: str, page: str) -> tuple[str, str]:
    """The page that this reader takes, and its content type."""
    return (openmetrics(page), OPENMETRICS) if wants_openmetrics(accept) else (classic(page), CLASSIC)


def classic(page: str) -> str:
    """Without exemplars, which the text format 0.0.4 does not have."""
    return _EXEMPLAR.sub("", page) if ' # {call="' in page else page


def openmetrics(page: str) -> str:
    lines = [line for line in page.split("\n") if line]
    counters = {words[2] for line in lines if line.startswith("# TYPE ") and (words := line.split(" "))[-1] == "counter"}
    told = [_head(line, counters) if line.startswith("# ") else _LE.sub(r"\1.0", line) for line in lines]
    return "\n".join([*told, "# EOF"]) + "\n"


def parted(line: str) -> tuple[str, str]:
    """A sample and its exemplar, empty where it has none."""
    found = _EXEMPLAR.search(line) if " # {" in line else None
    return (line[: found.start()], found[0]) if found is not None else (line, "")


def _head(line: str, counters: Container[str]) -> str:
    """A HELP or TYPE line under the family's name."""
    word, name, rest = [*line[2:].split(" ", 2), "", ""][:3]
    if word == "HELP":
        rest = _BARE_QUOTE.sub(r'\1\\"', rest)
    return f"# {word} {name.removesuffix(_TOTAL) if name in counters else name} {rest}"
