"""Charts of admission as SVG text: first-token time by class with the giants marked, tokens a second beneath, shares beside weights."""

import math
from collections.abc import Sequence
from itertools import pairwise

import msgspec
from markupsafe import Markup, escape

from headway.calls.admission.objectives import Objective
from headway.calls.admission.report import AdmissionReport, LongCall, Moment
from headway.calls.admission.stalls import Cell, Matrix
from headway.control.words import instant, milliseconds, short_count

_W, _H, _LEFT, _RIGHT, _TOP, _BOTTOM = 1_152, 240, 56, 92, 14, 24
_TOKENS_H = 84
_MARK = 5
_TICKS_MS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000)
_LABEL_APART = 14
LINES_MAX = 5
HEAT_LEVELS = 6


class ClassLine(msgspec.Struct, frozen=True, kw_only=True):
    """One class over the whole range, None where it had no first token."""

    klass: str
    p99_ms: tuple[float | None, ...]
    objective_ms: float | None


class OverTime(msgspec.Struct, frozen=True, kw_only=True):
    """What the chart shows: a step for every bucket of the range, the busiest classes, the giants' admissions."""

    starts_wall_ms: tuple[int, ...]
    lines: tuple[ClassLine, ...]
    left_out: int
    """Classes over LINES_MAX."""
    tokens_per_s: tuple[float, ...]
    giants: tuple[LongCall, ...]


def over_time(report: AdmissionReport) -> OverTime:
    """The report's moments with every step filled, so that a quiet minute shows as one."""
    step = report.bucket_ms
    starts = tuple(range(report.since_wall_ms // step * step, report.until_wall_ms, step))
    seen: dict[str, dict[int, Moment]] = {}
    tokens: dict[int, int] = {}
    for moment in report.moments:
        seen.setdefault(moment.klass, {})[moment.start_wall_ms] = moment
        tokens[moment.start_wall_ms] = tokens.get(moment.start_wall_ms, 0) + moment.tokens
    busiest = sorted(seen, key=lambda klass: (-sum(m.calls for m in seen[klass].values()), klass))
    goals = {o.klass: o for o in report.objectives}
    return OverTime(
        starts_wall_ms=starts,
        lines=tuple(_line(klass, seen[klass], starts, goals.get(klass)) for klass in busiest[:LINES_MAX]),
        left_out=max(0, len(busiest) - LINES_MAX),
        tokens_per_s=tuple(tokens.get(start, 0) * 1000 / step for start in starts),
        giants=tuple(g for g in report.giants if starts and starts[0] <= g.admitted_wall_ms < starts[-1] + step),
    )


def _line(klass: str, moments: dict[int, Moment], starts: Sequence[int], goal: Objective | None) -> ClassLine:
    values = tuple(m.p99_ms if (m := moments.get(start)) is not None else None for start in starts)
    return ClassLine(klass=klass or "no class", p99_ms=values, objective_ms=goal.first_token_ms if goal else None)


def class_chart(data: OverTime) -> Markup:
    """p99 of the first token by class on a log axis, labelled at its end, its objective dotted, each giant a mark below. Empty without a value."""
    values = [v for line in data.lines for v in line.p99_ms if v]
    if not values:
        return Markup("")
    goals = [line.objective_ms for line in data.lines if line.objective_ms]
    low, high = _bounds([*values, *goals])
    scale = (_H - _TOP - _BOTTOM) / (math.log10(high) - math.log10(low))

    def y(ms: float) -> float:
        return _H - _BOTTOM - (math.log10(max(ms, low)) - math.log10(low)) * scale

    xs = _xs(data)
    parts = [_grid(low, high, y)]
    labels: list[tuple[float, str, str]] = []
    for i, line in enumerate(data.lines):
        points = [(x, y(v)) if v else None for x, v in zip(xs, line.p99_ms, strict=True)]
        parts.append(f'<path class="class-line class-{i}" d="{_path(points)}"/>')
        if line.objective_ms:
            at = y(line.objective_ms)
            parts.append(f'<line class="goal class-{i}" x1="{_LEFT}" x2="{_W - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        if (last := next((p for p in reversed(points) if p is not None), None)) is not None:
            parts.append(f'<circle class="class-dot class-{i}" cx="{last[0]:.1f}" cy="{last[1]:.1f}" r="2.5"/>')
            labels.append((last[1], line.klass, f"class-{i}"))
    for at, text, tone in _apart(labels):
        parts.append(f'<text class="class-label {tone}" x="{_W - _RIGHT + 8}" y="{at + 4:.1f}">{escape(text)}</text>')
    parts.append(_marks(data))
    parts.append(_times(data, xs, _H - 6))
    label = "First-token time p99 by class, with admissions of giant prompts marked"
    return _drawn(f'<svg class="chart" viewBox="0 0 {_W} {_H}" role="img" aria-label="{label}">{"".join(parts)}</svg>')


def tokens_chart(data: OverTime) -> Markup:
    """Tokens a second by step, bars from zero."""
    top = max(data.tokens_per_s, default=0.0)
    if not top:
        return Markup("")
    xs = _xs(data)
    width = max(1.0, (xs[1] - xs[0] if len(xs) > 1 else 8.0) - 1)
    room = _TOKENS_H - 12
    bars = [
        f'<rect class="tok" x="{x - width / 2:.1f}" y="{_TOKENS_H - n / top * room:.1f}" width="{width:.1f}" height="{n / top * room:.1f}"/>'
        for x, n in zip(xs, data.tokens_per_s, strict=True)
        if n
    ]
    axis = f'<line class="axis" x1="{_LEFT}" x2="{_W - _RIGHT}" y1="{_TOKENS_H}" y2="{_TOKENS_H}"/>'
    tick = f'<text class="tick end" x="{_LEFT - 6}" y="16">{short_count(top)}</text><text class="tick end" x="{_LEFT - 6}" y="{_TOKENS_H}">0</text>'
    label = escape(f"Tokens a second, at most {short_count(top)}")
    return _drawn(
        f'<svg class="chart" viewBox="0 0 {_W} {_TOKENS_H + 2}" role="img" aria-label="{label}">{tick}{"".join(bars)}{axis}</svg>'
    )


def columns(data: OverTime) -> Markup:
    """The same for uPlot: seconds, lines, goals, marks. Only numbers and escaped names, so that nothing can end the script element."""
    value = {
        "x": [start // 1000 for start in data.starts_wall_ms],
        "lines": [
            {"label": line.klass, "tone": i, "goal": line.objective_ms, "y": line.p99_ms} for i, line in enumerate(data.lines)
        ],
        "tokens": data.tokens_per_s,
        "marks": [giant.admitted_wall_ms / 1000 for giant in data.giants],
    }
    return Markup(msgspec.json.encode(value).decode().replace("<", "\\u003c"))  # noqa: S704 (no markup is left)


def shares(entitled: float, served: float | None) -> Markup:
    """What a weight entitles to, as a line, over what was served, as a bar."""
    bar = f'<rect class="meter-share" width="{min(1.0, served) * 100:.2f}" height="8"/>' if served else ""
    at = min(99.0, entitled * 100)
    told = f"{served:.0%} of what was served" if served is not None else "nothing was served"
    label = escape(f"{told}; its weight entitles it to {entitled:.0%}")
    return _drawn(
        f'<svg class="meter" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f'<rect class="meter-ground" width="100" height="8"/>{bar}<rect class="meter-due" x="{at:.2f}" width="1" height="8"/></svg>'
    )


def heat(cell: Cell | None, matrix: Matrix) -> int:
    """0 to HEAT_LEVELS: the root of the cell's part of the largest, so that small ones are seen beside a giant."""
    top = max((c.stall_ms for c in matrix.cells), default=0.0)
    return math.ceil(HEAT_LEVELS * math.sqrt(cell.stall_ms / top)) if cell is not None and top else 0


def _drawn(svg: str) -> Markup:
    """Names from outside have passed ``escape`` on their way in."""
    return Markup(svg)  # noqa: S704


def _xs(data: OverTime) -> list[float]:
    step = (_W - _LEFT - _RIGHT) / max(1, len(data.starts_wall_ms) - 1)
    return [_LEFT + i * step for i in range(len(data.starts_wall_ms))]


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    low = max((t for t in _TICKS_MS if t <= min(values)), default=0.1)
    high = min((t for t in _TICKS_MS if t >= max(values)), default=max(values))
    return (low, high) if high > low else (low, low * 10)


def _grid(low: float, high: float, y: object) -> str:
    assert callable(y)
    out = []
    for tick in (t for t in _TICKS_MS if low <= t <= high):
        at = y(tick)
        text = f"{tick} ms" if tick < 1000 else f"{tick // 1000} s"
        out.append(f'<line class="grid" x1="{_LEFT}" x2="{_W - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        out.append(f'<text class="tick end" x="{_LEFT - 6}" y="{at + 4:.1f}">{text}</text>')
    return "".join(out)


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    """Gaps where nothing was seen; a lone point becomes a short stroke."""
    out = []
    for i, point in enumerate(points):
        if point is None:
            continue
        fresh = i == 0 or points[i - 1] is None
        out.append(f"{'M' if fresh else 'L'}{point[0]:.1f} {point[1]:.1f}")
        if fresh and (i + 1 == len(points) or points[i + 1] is None):
            out.append("h.1")
    return "".join(out)


def _apart(labels: Sequence[tuple[float, str, str]]) -> list[tuple[float, str, str]]:
    """Labels moved down until none covers another."""
    placed: list[tuple[float, str, str]] = []
    for at, text, tone in sorted(labels):
        place = max(at, placed[-1][0] + _LABEL_APART) if placed else at
        placed.append((place, text, tone))
    return placed


def _marks(data: OverTime) -> str:
    """A triangle on the axis for each giant, with a line up to the top."""
    if not data.starts_wall_ms:
        return ""
    first, span = data.starts_wall_ms[0], max(1, data.starts_wall_ms[-1] - data.starts_wall_ms[0])
    out, base = [], _H - _BOTTOM
    for giant in data.giants:
        x = min(_W - _RIGHT, _LEFT + (giant.admitted_wall_ms - first) / span * (_W - _LEFT - _RIGHT))
        first_token = (
            f", first token after {milliseconds(giant.first_token_wall_ms - giant.admitted_wall_ms)}"
            if giant.first_token_wall_ms
            else ""
        )
        title = escape(f"{giant.tenant}: {giant.uncached_tokens:,} tokens admitted {instant(giant.admitted_wall_ms)}{first_token}")
        out.append(f'<line class="giant-line" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{base}"/>')
        out.append(f'<path class="giant" d="M{x:.1f} {base - 8} l{_MARK} 8 h-{2 * _MARK}z"><title>{title}</title></path>')
    return "".join(out)


def _times(data: OverTime, xs: Sequence[float], y: int) -> str:
    starts = data.starts_wall_ms
    days = starts[-1] - starts[0] > 36 * 3_600_000
    picks = sorted({round(i * (len(starts) - 1) / 6) for i in range(7)})
    shown = [p for p in picks if p == 0] + [b for a, b in pairwise(picks) if xs[b] - xs[a] > 60]
    out = []
    for i in shown:
        text = instant(starts[i])
        clock = text[5:10] if days else text[11:16] if data.starts_wall_ms[1] - starts[0] >= 60_000 else text[11:19]
        anchor = " end" if i == len(starts) - 1 else ""
        out.append(f'<text class="tick{anchor}" x="{xs[i]:.1f}" y="{y}">{clock}</text>')
    return "".join(out)
