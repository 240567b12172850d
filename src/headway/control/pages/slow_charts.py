"""Phase bars: where one call's time went, each part with its words in it where they fit."""

from collections.abc import Mapping

from markupsafe import Markup, escape

from headway.calls.phases.model import Split
from headway.control.pages.slow_words import PHASES, SHORT
from headway.control.words import milliseconds, percent

_LETTER_WIDTH_PERCENT = 0.85
"""About so much of a wide bar is one letter of its labels."""
HEIGHT = 24


def phase_bar(split: Split, top_ms: float, expected_ms: float | None = None, width_factor: float = 1.0) -> Markup:
    """One bar from zero to ``top_ms``; what was expected of the call is a mark across it. ``width_factor`` of a bar that is narrower than the page."""
    parts = []
    x = 0.0
    top = max(top_ms, split.duration_ms, 0.001)
    for phase in PHASES:
        ms = split.parts_ms.get(phase, 0.0)
        width = ms / top * 100
        if width <= 0:
            continue
        title = escape(f"{PHASES[phase]}: {milliseconds(ms)}, {percent(ms / split.duration_ms)}")
        parts.append(
            f'<rect class="call-phase ph-{phase}" x="{x:.3f}%" y="2" width="{width:.3f}%" height="{HEIGHT - 4}"><title>{title}</title></rect>'
        )
        parts.append(_label(phase, ms, x, width, width_factor))
        x += width
    if expected_ms is not None and 0 < expected_ms <= top:
        at = f"{expected_ms / top * 100:.3f}%"
        parts.append(f'<line class="expected-ground" x1="{at}" x2="{at}" y1="0" y2="{HEIGHT}"/>')
        parts.append(
            f'<line class="expected" x1="{at}" x2="{at}" y1="0" y2="{HEIGHT}"><title>expected: {milliseconds(expected_ms)}</title></line>'
        )
    label = escape(f"{milliseconds(split.duration_ms)}: {_spoken(split.parts_ms)}")
    return Markup(f'<svg class="call-phases" width="100%" height="{HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>')  # noqa: S704 (names have passed escape)


def _label(phase: str, ms: float, x: float, width: float, factor: float) -> str:
    """Words and time, else words, else nothing."""
    for text in (f"{SHORT[phase]} {milliseconds(ms)}", SHORT[phase]):
        if width * factor > len(text) * _LETTER_WIDTH_PERCENT:
            return f'<text class="in-bar on-{phase}" x="{x:.3f}%" dx="6" y="{HEIGHT / 2 + 4:.0f}">{text}</text>'
    return ""


def _spoken(parts_ms: Mapping[str, float]) -> str:
    known = [(PHASES[phase], parts_ms.get(phase, 0.0)) for phase in PHASES if parts_ms.get(phase, 0.0) > 0]
    return ", ".join(f"{words} {milliseconds(ms)}" for words, ms in sorted(known, key=lambda pair: -pair[1])[:5])
