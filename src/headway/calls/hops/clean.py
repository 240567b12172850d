"""Spans in any order, from many clocks, become trees that a path can be walked on. What is mended or refused is counted by its reason.

1. Refused: spans without an id (``id_malformed``), all but one of a ``duplicate_id``, traces over ``HOP_TRACE_SPANS_MAX`` (``trace_too_large``).
2. Mended in themselves: ``negative_duration`` becomes 0, a duration over ``HOP_TRACE_US_MAX`` is cut (``time_out_of_range``).
3. Mended as a tree: ``cycle_cut``, ``parent_missing`` and ``root_extra`` hang their span on the root; without any root a span that covers all
   is put in (``root_missing``).
4. Mended in time, from the root down; see ``placing.py``.

Linear in spans but for sorting them. The same spans in another order give the same traces.
"""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from headway.calls.hops.counts import Counts
from headway.calls.hops.model import HopSpan, HopTrace, Repair
from headway.calls.hops.placing import place
from headway.calls.hops.tree import rooted
from headway.calls.hops.types import type_by_root
from headway.kernel.limits import HOP_EARLIEST_US, HOP_LATEST_US, HOP_SKEW_US_MAX, HOP_TRACE_SPANS_MAX, HOP_TRACE_US_MAX

TypeOf = Callable[[Sequence[HopSpan]], str]
"""Spans of one trace, the root first -> its request type."""


class Cleaned(msgspec.Struct, frozen=True, kw_only=True):
    """``spans_in + spans_added = spans_kept + spans_refused``; ``repairs`` sum up those of all traces and those of what was refused."""

    traces: tuple[HopTrace, ...]
    repairs: tuple[Repair, ...]
    spans_in: int
    spans_kept: int
    spans_refused: int
    spans_added: int


def clean(
    spans: Iterable[HopSpan],
    *,
    type_of: TypeOf = type_by_root,
    skew_us_max: int = HOP_SKEW_US_MAX,
    earliest_us: int = HOP_EARLIEST_US,
    latest_us: int = HOP_LATEST_US,
    spans_max: int = HOP_TRACE_SPANS_MAX,
) -> Cleaned:
    """Traces in order of their start. Times outside ``earliest_us`` .. ``latest_us`` are counted, and kept relative to their root."""
    total, refused, added, seen = Counts(), 0, 0, 0
    by_trace: dict[str, list[HopSpan]] = {}
    for span in spans:
        seen += 1
        if not span.trace or not span.span:
            total.add("id_malformed")
            refused += 1
            continue
        by_trace.setdefault(span.trace, []).append(span)
    traces: list[HopTrace] = []
    for trace, members in by_trace.items():
        if len(members) > spans_max:
            total.add("trace_too_large", len(members))
            refused += len(members)
            continue
        counts = Counts()
        kept = _each_once(members, counts)
        refused += len(members) - len(kept)
        tree = rooted(trace, kept, counts, earliest_us=earliest_us, latest_us=latest_us)
        added += len(tree.spans) - len(kept)
        placed = place(tree, counts, skew_us_max=skew_us_max, earliest_us=earliest_us, latest_us=latest_us)
        traces.append(HopTrace(trace=trace, request_type=type_of(placed), spans=placed, repairs=counts.repairs()))
        total.join(counts)
    traces.sort(key=lambda each: (each.spans[0].start_us, each.trace))
    kept_spans = sum(len(each.spans) for each in traces)
    return Cleaned(
        traces=tuple(traces),
        repairs=total.repairs(),
        spans_in=seen,
        spans_kept=kept_spans,
        spans_refused=refused,
        spans_added=added,
    )


def _each_once(members: list[HopSpan], counts: Counts) -> dict[str, HopSpan]:
    """Spans by id, each fit to be placed. Of spans with one id the earliest stays, then the longest, whatever order they came in."""
    found: dict[str, HopSpan] = {}
    for span in members:
        mended = _mended(span, counts)
        other = found.get(span.span)
        if other is not None:
            counts.add("duplicate_id")
            mended = min(mended, other, key=_rank)
        found[span.span] = mended
    return found


def _rank(span: HopSpan) -> tuple[int, int, tuple[object, ...]]:
    return span.start_us, -span.duration_us, msgspec.structs.astuple(span)


def _mended(span: HopSpan, counts: Counts) -> HopSpan:
    if 0 <= span.duration_us <= HOP_TRACE_US_MAX:
        return span
    counts.add("negative_duration" if span.duration_us < 0 else "time_out_of_range")
    return msgspec.structs.replace(span, duration_us=0 if span.duration_us < 0 else HOP_TRACE_US_MAX)
