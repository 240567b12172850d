"""A summary of hops and a report of budgets as lines of at most ``WIDTH`` characters."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from headway.calls.hops.mix import Split, TypeShare
from headway.calls.hops.report import Attribution, HopOwns
from headway.calls.hops.report_budgets import BudgetReport, Line
from headway.calls.hops.report_summary import BestChange, HopsSummary, StratumSummary
from headway.calls.hops.report_whatif import Answer, PairRow
from headway.cli.common import WIDTH, layout
from headway.control.words import milliseconds, percent, plural
from headway.kernel.figure import Figure

HOPS_SHOWN, PAIRS_SHOWN, TYPES_SHOWN = 12, 5, 8
BAR: Final = 16
_PARTS: Final = " ▏▎▍▌▋▊▉█"
_SHARE_MIN = 0.005
_STATE_WORDS: Final = {"kept": "kept", "over, within noise": "over, within noise", "broken": "BROKEN", "cannot tell": "cannot tell"}


def summary_lines(summary: HopsSummary, top: int) -> Iterator[str]:
    """The whole summary, strata with most traces first."""
    yield f"{plural(summary.traces, 'trace')}, {plural(summary.spans, 'span')}"
    for word, counts in (("mended", summary.repairs), ("refused", summary.refused)):
        if counts:
            yield from _wrapped(f"{word}: " + ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items())))
    for note in summary.notes:
        yield from _wrapped(note)
    if len(summary.strata) > 1 and summary.pooled:
        yield from _pooled(summary)
    for stratum in summary.strata[:top]:
        yield ""
        yield from _stratum(stratum)
    rest = summary.strata[top:]
    if rest:
        yield ""
        yield from layout(("others", "traces", "p50", "p99"), [_row_of(each) for each in rest], right=(1, 2, 3))


def bar(share: float | None) -> str:
    """``share`` of ``BAR`` characters in eighths."""
    eighths = round(max(0.0, min(1.0, share or 0.0)) * BAR * 8)
    return "█" * (eighths // 8) + _PARTS[eighths % 8].strip()


def interval(figure: Figure) -> str:
    """``143 ms (91 ms to 204 ms)``."""
    told = milliseconds(figure.value)
    if figure.low is None or figure.high is None or figure.value is None:
        return told
    return f"{told} ({milliseconds(figure.low)} to {milliseconds(figure.high)})"


def _pooled(summary: HopsSummary) -> Iterator[str]:
    yield ""
    quantiles = ", ".join(f"p{each.quantile * 100:g} {milliseconds(each.total.value)}" for each in summary.pooled)
    yield f"all pooled: {quantiles}"
    yield from _mix(summary.mix, summary.types)


def _mix(splits: Sequence[Split], types: Sequence[TypeShare]) -> Iterator[str]:
    moved = [each for each in types if abs(each.tail - each.middle) >= _SHARE_MIN][:TYPES_SHOWN]
    if not moved or not splits:
        return
    yield "the pooled tail is other requests than the middle; of what a hop takes more there, so much is that:"
    rows = [
        (each.hop, milliseconds(each.excess_ms), _signed(each.mix_ms), _signed(each.within_ms))
        for each in splits[:HOPS_SHOWN]
        if each.excess_ms > 0
    ]
    yield from layout(("hop", "more in the tail", "other requests", "the same, longer"), rows, right=(1, 2, 3))
    yield from layout(
        ("type", "of the middle", "of the tail"),
        [(each.request_type, percent(each.middle), percent(each.tail)) for each in moved],
        (1, 2),
    )


def _signed(ms: float) -> str:
    return milliseconds(ms) if ms >= 0 else f"-{milliseconds(-ms)}"


def _row_of(stratum: StratumSummary) -> tuple[str, ...]:
    first, last = stratum.quantiles[0], stratum.quantiles[-1]
    return _name(stratum), f"{stratum.n:,}", milliseconds(first.total.value), milliseconds(last.total.value)


def _name(stratum: StratumSummary) -> str:
    """A type alone needs no key before it."""
    return stratum.stratum["request_type"] if list(stratum.stratum) == ["request_type"] else stratum.name


def _stratum(stratum: StratumSummary) -> Iterator[str]:
    yield from _wrapped(f"{_name(stratum)}: {plural(stratum.n, 'trace')}")
    if not stratum.quantiles[-1].hops:
        yield f"quantiles cannot be told: {stratum.quantiles[-1].total.method}"
        whole = sum(stratum.mean_ms.values())
        rows = [(hop, milliseconds(ms), percent(ms / whole), bar(ms / whole)) for hop, ms in stratum.mean_ms.items() if ms > 0]
        yield from layout(("", "mean", "share", "of the mean"), rows[:HOPS_SHOWN], right=(1, 2))
        return
    yield from layout(
        ("", *(f"p{each.quantile * 100:g}" for each in stratum.quantiles), "95 % of p99", "share", "of the p99"),
        _rows(stratum.quantiles),
        right=(1, 2, 3, 4, 5),
    )
    if stratum.model_gone is not None:
        yield _model(stratum.model_gone)
    if stratum.break_even is not None and stratum.break_even.at.value is not None:
        yield f"break-even: a model's call under {milliseconds(stratum.break_even.at.value)} buys less than 0.2 ms of the p50 a ms"
    yield from _changes(stratum.changes)
    yield from _pairs(stratum.pairs)


def _rows(quantiles: Sequence[Attribution]) -> list[tuple[str, ...]]:
    tail = quantiles[-1]
    by_hop = [{owns.hop: owns for owns in each.hops} for each in quantiles]
    total = ("total", *(milliseconds(each.total.value) for each in quantiles), _range(tail.total), "100 %", bar(1.0))
    rows = [total]
    shown = tail.hops[:HOPS_SHOWN]
    for owns in shown:
        times = [milliseconds(each[owns.hop].at.value) if owns.hop in each else "-" for each in by_hop]
        rows.append((owns.hop, *times, _range(owns.at), percent(owns.share.value), bar(owns.share.value)))
    rest = tail.hops[HOPS_SHOWN:]
    if rest:
        share = sum(owns.share.value or 0.0 for owns in rest)
        rows.append((f"{len(rest)} more", *("" for _ in quantiles[:-1]), milliseconds(_sum(rest)), "", percent(share), bar(share)))
    return rows


def _sum(hops: Sequence[HopOwns]) -> float:
    return sum(owns.at.value or 0.0 for owns in hops)


def _range(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return ""
    return f"{milliseconds(figure.low)} - {milliseconds(figure.high)}"


def _model(answer: Answer) -> str:
    parts = (
        f"p{quantile * 100:g} {milliseconds(before.value)} -> {milliseconds(after.value)}"
        for quantile, before, after in zip(answer.quantiles, answer.before, answer.after, strict=True)
    )
    return f"{answer.question}: " + ", ".join(parts)


def _changes(changes: Sequence[BestChange]) -> Iterator[str]:
    for place, change in enumerate(changes, 1):
        answer = change.answer
        quantile = f"p{answer.quantiles[-1] * 100:g}"
        yield from _wrapped(
            f"{place}. {answer.question}: {quantile} {milliseconds(answer.before[-1].value)} -> {interval(answer.after[-1])}"
        )
        turns = change.turns
        if turns is not None and turns.factor is not None:
            yield f"   from x{turns.factor:g} on a further tenth saves less than half as much: another path takes over"


def _pairs(pairs: Sequence[PairRow]) -> Iterator[str]:
    good = [pair for pair in pairs if (pair.saved[-1].value or 0.0) > 0 or (pair.saved[0].value or 0.0) > 0][:PAIRS_SHOWN]
    if not good:
        return
    yield "could run together, if somebody who knows says that it is safe:"
    for pair in good:
        yield from _wrapped(f"- {pair.key.first}, then {pair.key.then}", "  ")
        words = [f"safe? {'yes, confirmed' if pair.safe else 'nobody has said so'}"]
        words.append("no data goes from one to the other" if pair.independent else "their data is not known")
        if pair.speculative:
            words.append(f"a speculative start: thrown away in {percent(pair.thrown_away)} of traces")
        yield from _wrapped(f"  p99 saves {interval(pair.saved[-1])}, {plural(pair.traces, 'trace')}; {'; '.join(words)}", "  ")


def budget_lines(report: BudgetReport) -> Iterator[str]:
    """A table of all lines, the broken first, and what to read out of it."""
    order = ("broken", "cannot tell", "over, within noise", "kept")
    rows = [_budget_row(line) for line in sorted(report.lines, key=lambda line: order.index(line.state))]
    yield from layout(("request", "hop", "what", "budget", "is", "95 %", ""), rows, right=(3, 4, 5))
    yield ""
    for line in report.lines:
        if line.why:
            yield from _wrapped(f"cannot tell {line.request_type} {line.hop} {line.what}: {line.why}")
    for kind in report.unbudgeted[:TYPES_SHOWN]:
        yield from _wrapped(f"no budget: {kind}")
    counts = [f"{sum(line.state == state for line in report.lines)} {word}" for state, word in _STATE_WORDS.items()]
    yield f"{plural(report.traces, 'trace')}; budgets: " + ", ".join(counts)


def _budget_row(line: Line) -> tuple[str, ...]:
    figure = line.figure
    shown = percent if line.what == "share" else milliseconds
    spread = "" if figure.low is None or figure.high is None else f"{shown(figure.low)} - {shown(figure.high)}"
    is_now = shown(figure.value) if figure.value is not None else "-"
    return line.request_type, line.hop or "(whole)", line.what, shown(line.budget), is_now, spread, _STATE_WORDS[line.state]


def _wrapped(text: str, indent: str = "   ") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)
