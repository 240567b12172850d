"""A replay told: rows for a table, JSON, and a chart of first tokens and slowdowns by part and policy."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any, Final

import msgspec

from headway.lab.drawing import LEFT, RIGHT, SERIES, WIDTH, Axis, document, logarithmic, number
from headway.lab.replay import Replayed, Row
from headway.lab.worlds.numbers import Spread

HEAD: Final = ("part", "policy", "calls", "first p50", "p95", "p99", "queue p99", "gap p99", "slowdown p50", "p99")
LINE: Final = 13.0
GROUP_GAP: Final = 14.0
NAME_WIDTH: Final = 150.0


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What was replayed, and how it went under each policy."""

    trace: str
    engine: str
    scale: float
    calls: int
    seed: int
    replays: tuple[Replayed, ...]


def as_json(told: Told) -> dict[str, Any]:
    built: dict[str, Any] = msgspec.to_builtins(told)
    return built


def rows(told: Told) -> list[tuple[str, ...]]:
    """Part by part, the policies beneath each other; times in seconds."""
    lines: list[tuple[str, ...]] = []
    for part in _parts(told):
        for replay in told.replays:
            row = _find(replay, part)
            if row is not None:
                lines.append(
                    (
                        _name(row),
                        replay.policy,
                        f"{row.done:,}" if row.done == row.calls else f"{row.done:,}/{row.calls:,}",
                        *(_seconds(ms) for ms in (row.ttft_ms.p50, row.ttft_ms.p95, row.ttft_ms.p99, row.queue_ms.p99)),
                        f"{row.gap_ms.p99:.0f} ms",
                        f"{row.slowdown.p50:.2f}",
                        f"{row.slowdown.p99:.1f}",
                    )
                )
    return lines


def totals(told: Told) -> list[str]:
    return [
        f"{r.policy}: {r.tokens_per_s:,.0f} tokens/s over {r.makespan_s:,.0f} s, {r.steps:,} steps, {r.preemptions:,} preemptions, "
        f"{r.cached_share:.1%} of prompt tokens cached"
        + (f", what {r.pieces:,} pieces found of themselves included" if r.pieces else "")
        for r in told.replays
    ]


def chart(told: Told) -> str:
    """Two panels; in each, a line from p50 (dot) to p99 (bar) for every part and policy."""
    parts = _parts(told)
    height = sum(len(told.replays) * LINE + GROUP_GAP for _ in parts)
    first = _panel(told, parts, 64.0, "First token, p50 to p99, by part", "ms", lambda row: row.ttft_ms)
    second = _panel(
        told, parts, 64.0 + height + 84, "Slowdown (time over time alone), p50 to p99", "times", lambda row: row.slowdown
    )
    legend: list[str] = []
    x = float(LEFT)
    for place, replay in enumerate(told.replays):
        legend.append(f'<rect x="{x:.0f}" y="38" width="14" height="4" fill="{SERIES[place % len(SERIES)]}"/>')
        legend.append(f'<text x="{x + 18:.0f}" y="44">{escape(replay.policy)}</text>')
        x += 7.0 * len(replay.policy) + 44
    caption = f"{told.calls:,} calls of {told.trace} at {told.scale:g} times their rate, on the simulated engine {told.engine}, seed {told.seed}."
    whole = 64.0 + 2 * (height + 84)
    return document(f"Replay of {told.trace}", [*legend, first, second], whole, caption=caption)


def _panel(told: Told, parts: Sequence[tuple[str, str]], top: float, title: str, unit: str, pick: Callable[[Row], Spread]) -> str:
    found = [row for replay in told.replays for row in replay.rows if row.done]
    axis = logarithmic([value for row in found for value in (pick(row).p50, pick(row).p99)], unit)
    left = LEFT + NAME_WIDTH - 60
    marks = [f'<text x="{LEFT}" y="{top + 12:.0f}" class="title">{escape(title)}</text>']
    y = top + 28
    floor = y + sum(len(told.replays) * LINE + GROUP_GAP for _ in parts) - GROUP_GAP / 2
    for tick in axis.ticks():
        x = _x(axis, left, tick)
        marks.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 6:.1f}" y2="{floor:.1f}" stroke="#e5e7eb"/>')
        marks.append(f'<text x="{x:.1f}" y="{floor + 14:.1f}" text-anchor="middle">{number(tick)}</text>')
    marks.append(f'<text x="{WIDTH - RIGHT}" y="{floor + 28:.1f}" text-anchor="end">{escape(unit)}</text>')
    for part in parts:
        middle = y + len(told.replays) * LINE / 2
        for place, replay in enumerate(told.replays):
            row = _find(replay, part)
            if row is not None and row.done:
                marks.append(_range(axis, left, y + place * LINE + LINE / 2, pick(row), SERIES[place % len(SERIES)]))
                label = _name(row)
        marks.append(f'<text x="{left - 10:.1f}" y="{middle + 4:.1f}" text-anchor="end">{escape(label[:24])}</text>')
        y += len(told.replays) * LINE + GROUP_GAP
    return "\n".join(marks)


def _range(axis: Axis, left: float, y: float, spread: Spread, colour: str) -> str:
    low, high = _x(axis, left, spread.p50), _x(axis, left, spread.p99)
    return (
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" stroke-width="2"/>'
        f'<circle cx="{low:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'
        f'<line x1="{high:.1f}" x2="{high:.1f}" y1="{y - 4:.1f}" y2="{y + 4:.1f}" stroke="{colour}" stroke-width="2.5"/>'
    )


def _x(axis: Axis, left: float, value: float) -> float:
    return left + axis.share(value) * (WIDTH - RIGHT - left)


def _parts(told: Told) -> list[tuple[str, str]]:
    return list(dict.fromkeys((row.kind, row.name) for replay in told.replays for row in replay.rows))


def _find(replay: Replayed, part: tuple[str, str]) -> Row | None:
    return next((row for row in replay.rows if (row.kind, row.name) == part), None)


def _name(row: Row) -> str:
    match row.kind:
        case "all":
            return "all calls"
        case "prompt":
            return f"{row.name} prompts"
        case "tenant":
            return f"tenant {row.name}"
    return row.name


def _seconds(ms: float) -> str:
    return f"{ms / 1000:.3g} s" if ms < 1_000_000 else f"{ms / 1000:,.0f} s"
