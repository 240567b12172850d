"""Static charts as SVG text, readable without scripts. Colours come from classes, so that dark and light need one drawing.

Coordinates are user units of the ``viewBox``; text is HTML beside the drawing wherever it can be, so that it scales with the page.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec
from markupsafe import Markup, escape

from headway.control.ports import Bucket
from headway.control.words import instant, milliseconds
from headway.facts.model import AttemptFact


def _drawn(svg: str) -> Markup:
    """Text drawn here is markup: names from outside have passed ``escape`` on their way in."""
    return Markup(svg)  # noqa: S704


def sparkline(values: Sequence[int], failed: Sequence[int], label: str) -> Markup:
    """Bars of calls by bucket, from zero, the failed part on top in its own tone. Empty values draw an empty axis."""
    width, height = 4 * max(1, len(values)), 24
    top = max(values, default=0) or 1
    bars = []
    for i, (n, bad) in enumerate(zip(values, failed, strict=True)):
        if n:
            tall = max(1.0, n / top * (height - 1))
            bars.append(f'<rect class="bar" x="{i * 4}" y="{height - tall:.1f}" width="3" height="{tall:.1f}"/>')
        if bad:
            tall = max(1.5, bad / top * (height - 1))
            bars.append(f'<rect class="bar-bad" x="{i * 4}" y="{height - tall:.1f}" width="3" height="{tall:.1f}"/>')
    axis = f'<line class="axis" x1="0" x2="{width}" y1="{height}" y2="{height}"/>'
    return _drawn(
        f'<svg class="spark" viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" aria-label="{escape(label)}">'
        f"{axis}{''.join(bars)}</svg>"
    )


def meter(shares: Sequence[tuple[str, float]], label: str) -> Markup:
    """A bar from 0 to 1 made of (class, share) parts in order; what does not fit is cut at 1."""
    x, parts = 0.0, []
    for tone, share in shares:
        width = max(0.0, min(share, 1.0 - x))
        if width:
            parts.append(f'<rect class="{tone}" x="{x * 100:.2f}" y="0" width="{width * 100:.2f}" height="8"/>')
        x += width
    return _drawn(
        f'<svg class="meter" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{escape(label)}">'
        f'<rect class="meter-ground" width="100" height="8"/>{"".join(parts)}</svg>'
    )


# --- the phases of a call --------------------------------------------------------------------------------------------------


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of one attempt, in milliseconds from the call's start."""

    name: str
    start_ms: float
    end_ms: float

    @property
    def length_ms(self) -> float:
        return self.end_ms - self.start_ms


def phases(attempt: AttemptFact, call_started_wall_ms: int) -> tuple[Phase, ...]:
    """queue, connect, wait for the head, wait for the first token, answer, rest. Phases that were not measured join the next one.

    ``AttemptFact``'s marks count from the start of the attempt and rise; a mark below the one before it is taken as equal to it.
    """
    start = max(0.0, float(attempt.started_wall_ms - call_started_wall_ms))
    marks = (
        ("queue", attempt.queue_ms or None),
        ("connect", attempt.connect_ms),
        ("head", attempt.head_ms),
        ("first token", attempt.first_token_ms),
        ("answer", attempt.last_token_ms),
        ("rest", attempt.duration_ms),
    )
    found, at = [], 0.0
    for name, mark in marks:
        if mark is None:
            continue
        end = max(at, mark)
        if end > at:
            found.append(Phase(name=name, start_ms=start + at, end_ms=start + end))
        at = end
    return tuple(found)


def phase_bar(rows: Sequence[tuple[Phase, ...]], total_ms: float, first_token_ms: float | None) -> Markup:
    """One bar an attempt on the call's time axis, the first token as a line through all. Lengths are percentages, so text keeps its shape."""
    total = max(total_ms, 0.001, *(phase.end_ms for row in rows for phase in row))
    bottom = _LANE * max(1, len(rows))
    parts = []
    for i, row in enumerate(rows):
        parts.append(f'<rect class="lane" x="0" y="{i * _LANE + 2}" width="100%" height="{_LANE - 6}"/>')
        for phase in row:
            x, width = phase.start_ms / total * 100, max(0.1, phase.length_ms / total * 100)
            title = escape(f"attempt {i + 1}, {phase.name}: {milliseconds(phase.length_ms)}")
            place = f'x="{x:.2f}%" y="{i * _LANE + 2}" width="{width:.2f}%" height="{_LANE - 6}"'
            parts.append(f'<rect class="phase phase-{phase.name.replace(" ", "-")}" {place}><title>{title}</title></rect>')
    text_y = bottom + 12
    parts.append(f'<text class="tick end" x="100%" y="{text_y}">{milliseconds(total)}</text>')
    if first_token_ms is not None:
        x = min(100.0, first_token_ms / total * 100)
        parts.append(f'<line class="mark-line" x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="{bottom + 2}"/>')
        side = "end" if x > 50 else ""
        if x < 80:
            parts.append(f'<text class="tick {side}" x="{x:.2f}%" y="{text_y}">first token {milliseconds(first_token_ms)}</text>')
    label = escape(f"Phases of {len(rows)} attempts over {milliseconds(total)}")
    return _drawn(f'<svg class="phases" width="100%" height="{bottom + 18}" role="img" aria-label="{label}">{"".join(parts)}</svg>')


# --- first-token time over the range ----------------------------------------------------------------------------------------

_W, _H, _LEFT, _BOTTOM, _TOP = 720, 176, 52, 22, 8
_LANE = 24
_TICKS_MS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000)


def first_token_chart(buckets: Sequence[Bucket]) -> Markup:
    """p50 and p99 on a log axis, each labelled at its end. Empty when fewer than one bucket has a value."""
    values = [v for b in buckets for v in (b.first_token_p50_ms, b.first_token_p99_ms) if v is not None and v > 0]
    if not values:
        return _drawn("")
    low, high = _bounds(values)
    scale = (_H - _TOP - _BOTTOM) / (math.log10(high) - math.log10(low))

    def y(ms: float) -> float:
        return _H - _BOTTOM - (math.log10(max(ms, low)) - math.log10(low)) * scale

    step = (_W - _LEFT - 40) / max(1, len(buckets) - 1)
    xs = [_LEFT + i * step for i in range(len(buckets))]
    parts = [_grid(low, high, y)]
    for name, series in (("p99", [b.first_token_p99_ms for b in buckets]), ("p50", [b.first_token_p50_ms for b in buckets])):
        points = [(x, y(v)) if v is not None and v > 0 else None for x, v in zip(xs, series, strict=True)]
        parts.append(f'<path class="line-{name}" d="{_path(points)}"/>')
        last = next((p for p in reversed(points) if p is not None), None)
        if last is not None:
            parts.append(f'<circle class="dot-{name}" cx="{last[0]:.1f}" cy="{last[1]:.1f}" r="2.5"/>')
            parts.append(f'<text class="label-{name}" x="{last[0] + 6:.1f}" y="{last[1] + 4:.1f}">{name}</text>')
    if buckets:
        parts.append(_time_axis(buckets, xs))
    return _drawn(
        f'<svg class="chart" viewBox="0 0 {_W} {_H}" role="img" aria-label="First-token time, p50 and p99">{"".join(parts)}</svg>'
    )


def _bounds(values: Iterable[float]) -> tuple[float, float]:
    known = list(values)
    low = max((t for t in _TICKS_MS if t <= min(known)), default=0.1)
    high = min((t for t in _TICKS_MS if t >= max(known)), default=max(known))
    return (low, high) if high > low else (low, low * 10)


def _grid(low: float, high: float, y: object) -> str:
    assert callable(y)
    lines = []
    for tick in (t for t in _TICKS_MS if low <= t <= high):
        at = y(tick)
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{_W - 36}" y1="{at:.1f}" y2="{at:.1f}"/>')
        text = f"{tick} ms" if tick < 1000 else f"{tick // 1000} s"
        lines.append(f'<text class="tick end" x="{_LEFT - 6}" y="{at + 4:.1f}">{text}</text>')
    return "".join(lines)


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    """Segments with gaps where nothing was seen; a lone point becomes a short stroke."""
    out = []
    for i, point in enumerate(points):
        if point is None:
            continue
        fresh = i == 0 or points[i - 1] is None
        out.append(f"{'M' if fresh else 'L'}{point[0]:.1f} {point[1]:.1f}")
        if fresh and (i + 1 == len(points) or points[i + 1] is None):
            out.append("h.1")
    return "".join(out)


def _time_axis(buckets: Sequence[Bucket], xs: Sequence[float]) -> str:
    first, last = buckets[0].start_wall_ms, buckets[-1].start_wall_ms
    days = last - first > 36 * 3_600_000
    picks = sorted({round(i * (len(buckets) - 1) / 4) for i in range(5)})
    far_enough = [p for p in picks if p == 0] + [b for a, b in pairwise(picks) if xs[b] - xs[a] > 60]
    out = []
    for i in far_enough:
        text = instant(buckets[i].start_wall_ms)
        shown = text[5:10] if days else text[11:16]
        anchor = " end" if i == len(buckets) - 1 else ""
        out.append(f'<text class="tick{anchor}" x="{xs[i]:.1f}" y="{_H - 6}">{shown}</text>')
    return "".join(out)
