"""Charts as SVG text: panels with axes, lines, dots, bars and a legend. No script, no font but the reader's own."""

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Final

import msgspec

WIDTH: Final = 920
LEFT, RIGHT, TOP, BOTTOM = 78, 24, 44, 46
GREY, ORANGE, BLUE, GREEN, PURPLE, YELLOW = "#6b7280", "#d55e00", "#0072b2", "#008a62", "#a0518f", "#b98a00"
"""Hues that differ in lightness too, so that they can be told apart without colour vision (after Okabe and Ito)."""
SERIES: Final = (BLUE, ORANGE, GREEN, PURPLE, YELLOW, GREY)
LEAST: Final = 1e-9
"""Smaller values are as good as 0 on any axis."""
DOTS_MAX: Final = 4_000
"""More are thinned evenly: a chart of a day's calls stays a file that a browser opens."""


class Axis(msgspec.Struct, frozen=True, kw_only=True):
    """From ``low`` to ``high``; ``log`` needs both above 0. ``label`` names the unit."""

    low: float
    high: float
    label: str
    log: bool = False

    def share(self, value: float) -> float:
        """0 at ``low``, 1 at ``high``; values outside are drawn at the edge."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        if not self.log:
            step = _nice((self.high - self.low) / 6)
            first = math.ceil(self.low / step - 1e-9)
            return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        few = math.log10(self.high / self.low) < 2.5
        values = [factor * 10.0**power for power in powers for factor in ((1, 2, 5) if few else (1,))]
        return [value for value in values if self.low * 0.999 <= value <= self.high * 1.001]


def linear(values: Sequence[float], label: str) -> Axis:
    """From 0 to a little over the largest."""
    most = max(values, default=0.0)
    return Axis(low=0.0, high=(most if most > LEAST else 1.0) * 1.05, label=label)


def logarithmic(values: Sequence[float], label: str) -> Axis:
    """Around all values above 0; those below ``LEAST`` are drawn at its foot."""
    kept = [value for value in values if value > LEAST] or [1.0]
    low, high = 10.0 ** math.floor(math.log10(min(kept))), 10.0 ** math.ceil(math.log10(max(kept)) + 1e-9)
    return Axis(low=low, high=max(high, low * 10), label=label, log=True)


class Panel:
    """One plot; ``y`` grows upwards."""

    def __init__(self, title: str, x: Axis, y: Axis, *, top: float, height: float = 240.0) -> None:
        self._x, self._y, self._top, self._height = x, y, top + TOP, height
        self._marks: list[str] = []
        self._legend: list[tuple[str, str]] = []
        self._title = title

    @property
    def bottom(self) -> float:
        """Where the next panel may begin."""
        return self._top + self._height + BOTTOM

    def dots(self, points: Sequence[tuple[float, float]], colour: str, *, radius: float = 1.8) -> None:
        step = max(1, -(-len(points) // DOTS_MAX))
        at = "".join(f'<circle cx="{self._px(x):.1f}" cy="{self._py(y):.1f}" r="{radius}"/>' for x, y in points[::step])
        self._marks.append(f'<g fill="{colour}" fill-opacity="0.45">{at}</g>')

    def line(self, points: Sequence[tuple[float, float]], colour: str, name: str = "") -> None:
        if name:
            self._legend.append((name, colour))
        path = " ".join(f"{self._px(x):.1f},{self._py(y):.1f}" for x, y in points)
        if points:
            self._marks.append(
                f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"/>'
            )

    def bar(self, left: float, right: float, value: float, colour: str) -> None:
        x0, x1, y = self._px(left), self._px(right), self._py(value)
        floor = self._top + self._height
        self._marks.append(
            f'<rect x="{x0:.1f}" y="{y:.1f}" width="{max(0.5, x1 - x0):.1f}" height="{max(0.0, floor - y):.1f}" fill="{colour}"/>'
        )

    def name(self, name: str, colour: str) -> None:
        """An entry of the legend for what has none of its own."""
        self._legend.append((name, colour))

    def note(self, x: float, text: str) -> None:
        """A dashed upright at ``x`` with words to its left."""
        at = self._px(x)
        self._marks.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{self._top}" y2="{self._top + self._height}" stroke="#9ca3af" stroke-dasharray="4 3"/>'
            f'<text x="{at - 5:.1f}" y="{self._top + 13}" text-anchor="end" class="small">{escape(text)}</text>'
        )

    def words(self, x: float, text: str) -> None:
        """Under the axis, in place of a tick's number."""
        at = self._px(x)
        self._marks.append(f'<text x="{at:.1f}" y="{self._top + self._height + 16}" text-anchor="middle">{escape(text)}</text>')

    def svg(self, *, x_ticks: bool = True) -> str:
        floor, right = self._top + self._height, WIDTH - RIGHT
        parts = [f'<text x="{LEFT}" y="{self._top - 22}" class="title">{escape(self._title)}</text>']
        for tick in self._y.ticks():
            y = self._py(tick)
            parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e5e7eb"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number(tick)}</text>')
        if x_ticks:
            for tick in self._x.ticks():
                x = self._px(tick)
                parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{floor}" y2="{floor + 4}" stroke="#6b7280"/>')
                parts.append(f'<text x="{x:.1f}" y="{floor + 16}" text-anchor="middle">{number(tick)}</text>')
        parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{floor}" y2="{floor}" stroke="#6b7280"/>')
        parts.append(f'<text x="{right}" y="{floor + 32}" text-anchor="end">{escape(self._x.label)}</text>')
        parts.append(f'<text x="{LEFT - 6}" y="{self._top - 8}" text-anchor="end">{escape(self._y.label)}</text>')
        return "\n".join([*parts, *self._marks, *self._legend_svg()])

    def _legend_svg(self) -> list[str]:
        parts: list[str] = []
        x = float(WIDTH - RIGHT)
        for name, colour in reversed(self._legend):
            x -= 6.0 * len(name) + 34
            parts.append(f'<rect x="{x:.1f}" y="{self._top - 18}" width="14" height="4" fill="{colour}"/>')
            parts.append(f'<text x="{x + 18:.1f}" y="{self._top - 12}">{escape(name)}</text>')
        return parts

    def _px(self, value: float) -> float:
        return LEFT + self._x.share(value) * (WIDTH - LEFT - RIGHT)

    def _py(self, value: float) -> float:
        return self._top + (1 - self._y.share(value)) * self._height


def document(title: str, panels: Sequence[str], height: float, *, caption: str = "") -> str:
    """A whole SVG file."""
    style = (
        "text{font:11px system-ui,sans-serif;fill:#374151;font-variant-numeric:tabular-nums}"
        ".title{font-size:13px;font-weight:600;fill:#111827}.head{font-size:16px;font-weight:600;fill:#111827}.small{font-size:10px}"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}" role="img">',
            f"<title>{escape(title)}</title><style>{style}</style>",
            f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>',
            f'<text x="{LEFT}" y="24" class="head">{escape(title)}</text>',
            *panels,
            f'<text x="{LEFT}" y="{height - 10:.0f}" class="small">{escape(caption)}</text>',
            "</svg>",
            "",
        ]
    )


def binned(points: Sequence[tuple[float, float]], width: float, pick: Callable[[list[float]], float]) -> list[tuple[float, float]]:
    """One point a bin of ``width`` that holds any, at its middle."""
    bins: dict[int, list[float]] = {}
    for x, y in points:
        bins.setdefault(int(x // width), []).append(y)
    return [((number + 0.5) * width, pick(sorted(bins[number]))) for number in sorted(bins)]


def _nice(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return power * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * power >= step * 0.999)


def number(value: float) -> str:
    """Of a tick."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 10 or value == int(value) else f"{value:g}"
