"""Drawings of the page "Where the time goes": stacked bars of what hops own, intervals on one axis, the two parts of a tail."""

import math
from collections.abc import Sequence
from string import ascii_uppercase

import msgspec
from markupsafe import Markup, escape

from headway.calls.hops.report import Attribution, HopOwns
from headway.control.pages.time_report import TypeReport
from headway.control.words import milliseconds, percent
from headway.kernel.figure import Figure

HOPS_DRAWN = 9
"""By name; all others are one part of the bar."""
OTHERS = "all others"
LETTER_PERCENT_MIN = 2.4
"""Of the bar's width: narrower parts have no letter in them."""
_TONES = ("1", "2", "3", "4", "g6", "g5", "g4", "5", "6")
_BAR, _ROOM = 34, 9


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One hop in both bars: ``letter`` and ``tone`` are the same in bars, table and key. None where too few traces cannot tell."""

    hop: str
    letter: str
    tone: str
    middle: HopOwns | None
    tail: HopOwns | None


def parts_of(report: TypeReport) -> tuple[Part, ...]:
    """Hops by what they own of the p99, calls of a model in the accent; those past HOPS_DRAWN are drawn as one and still have a row."""
    middle = {each.hop: each for each in report.middle.hops}
    found, tones = [], iter(_TONES)
    for place, owner in enumerate(report.tail.hops):
        drawn = place < HOPS_DRAWN
        tone = "model" if owner.hop in report.model_hops else next(tones, "rest") if drawn else "rest"
        letter = ascii_uppercase[place] if drawn else ""
        found.append(Part(hop=owner.hop, letter=letter, tone=tone, middle=middle.get(owner.hop), tail=owner))
    return tuple(found)


def top_ms(report: TypeReport) -> float:
    """The end of the axis that both bars share."""
    ends = [report.tail.total.high, report.tail.total.value, report.middle.total.high, report.middle.total.value]
    return _round_up(max((end for end in ends if end is not None), default=1.0))


def stacked(which: Attribution, parts: Sequence[Part], tail: bool, top: float, model: Figure | None) -> Markup:
    """One bar from zero: parts in the order of the key, the interval of the whole as a line, "model = 0 ms" as a mark across it."""
    out: list[str] = []
    x = 0.0
    rest_ms = 0.0
    for part in parts:
        owns = part.tail if tail else part.middle
        ms = max(0.0, owns.at.value or 0.0) if owns else 0.0
        if not part.letter:
            rest_ms += ms
            continue
        x = _segment(out, x, ms, part.hop, part.letter, part.tone, top, owns)
    if rest_ms:
        _segment(out, x, rest_ms, OTHERS, "", "rest", top, None)
    below = _ROOM + _BAR + 5
    total = which.total
    if total.low is not None and total.high is not None:
        out.append(_line("whisker", total.low / top * 100, total.high / top * 100, below))
        for end in (total.low, total.high):
            out.append(f'<line class="whisker" x1="{_at(end, top)}" x2="{_at(end, top)}" y1="{below - 3}" y2="{below + 3}"/>')
    if model is not None and model.value is not None:
        at = _at(model.value, top)
        out.append(f'<line class="no-model" x1="{at}" x2="{at}" y1="0" y2="{_BAR + 2 * _ROOM}"/>')
    label = escape(f"p{which.quantile * 100:g}: {milliseconds(total.value)}, {_spoken(parts, tail)}")
    return _drawn(
        f'<svg class="hopbar" width="100%" height="{_BAR + 2 * _ROOM}" role="img" aria-label="{label}">{"".join(out)}</svg>'
    )


def axis(top: float) -> Markup:
    """Ticks from zero for bars above it."""
    step = _step(top)
    out = []
    for i in range(int(top / step + 1e-6) + 1):
        at, anchor = i * step / top * 100, "" if i == 0 else " end" if i * step >= top * 0.999 else " mid"
        words = "0" if i == 0 else milliseconds(i * step)
        out.append(f'<line class="axis" x1="{at:.2f}%" x2="{at:.2f}%" y1="0" y2="4"/>')
        out.append(f'<text class="tick{anchor}" x="{at:.2f}%" y="16">{words}</text>')
    return _drawn(f'<svg class="hopbar-axis" width="100%" height="20" aria-hidden="true">{"".join(out)}</svg>')


def between(part: Part, top: float) -> Markup:
    """What a hop owns at the median (hollow) and at the p99 (full), each with its interval, on one axis from zero."""
    out = ['<line class="grid" x1="0" x2="100%" y1="23.5" y2="23.5"/>']
    for owns, y, kind in ((part.middle, 7, "hollow"), (part.tail, 17, "full")):
        if owns is None or owns.at.value is None:
            continue
        if owns.at.low is not None and owns.at.high is not None:
            out.append(_line("whisker", owns.at.low / top * 100, owns.at.high / top * 100, y))
        out.append(f'<circle class="dot-{kind}" cx="{_at(owns.at.value, top)}" cy="{y}" r="3.5"/>')
    return _drawn(f'<svg class="between" width="100%" height="24" aria-hidden="true">{"".join(out)}</svg>')


def two_parts(mix_ms: float, within_ms: float) -> Markup:
    """The share of other requests and of slower ones in what a tail adds; a part below zero is drawn as none."""
    mix, within = max(0.0, mix_ms), max(0.0, within_ms)
    whole = mix + within or 1.0
    label = escape(f"{percent(mix / whole)} other requests, {percent(within / whole)} the same requests taking longer")
    return _drawn(
        f'<svg class="two-parts" width="100%" height="14" role="img" aria-label="{label}"><rect class="part-mix" width="{mix / whole * 100:.2f}%" height="14"/>'
        f'<rect class="part-within" x="{mix / whole * 100:.2f}%" width="{within / whole * 100:.2f}%" height="14"/></svg>'
    )


def swatch(part: Part) -> Markup:
    """The letter on its tone."""
    text = f'<text class="letter on-{part.tone}" x="8" y="12">{part.letter}</text>' if part.letter else ""
    return _drawn(
        f'<svg class="swatch" viewBox="0 0 16 16" aria-hidden="true"><rect class="hop-{part.tone}" width="16" height="16" rx="2"/>{text}</svg>'
    )


def _segment(out: list[str], x: float, ms: float, hop: str, letter: str, tone: str, top: float, owns: HopOwns | None) -> float:
    width = ms / top * 100
    if width <= 0:
        return x
    told = f", {percent(owns.share.value)} of it" if owns else ""
    interval = f" ({milliseconds(owns.at.low)} – {milliseconds(owns.at.high)})" if owns and owns.at.low is not None else ""
    title = escape(f"{hop}: {milliseconds(ms)}{interval}{told}")
    out.append(
        f'<rect class="hop-{tone}" x="{x:.3f}%" y="{_ROOM}" width="{width:.3f}%" height="{_BAR}"><title>{title}</title></rect>'
    )
    if letter and width >= LETTER_PERCENT_MIN:
        out.append(f'<text class="letter on-{tone}" x="{x + width / 2:.3f}%" y="{_ROOM + _BAR / 2 + 4:.0f}">{letter}</text>')
    out.append(f'<line class="seam" x1="{x + width:.3f}%" x2="{x + width:.3f}%" y1="{_ROOM}" y2="{_ROOM + _BAR}"/>')
    return x + width


def _spoken(parts: Sequence[Part], tail: bool) -> str:
    owners = [(part.hop, part.tail if tail else part.middle) for part in parts]
    known = [(hop, owns.share.value or 0.0) for hop, owns in owners if owns is not None]
    return ", ".join(f"{hop} {percent(share)}" for hop, share in sorted(known, key=lambda pair: -pair[1])[:4])


def _line(kind: str, x1: float, x2: float, y: float) -> str:
    return f'<line class="{kind}" x1="{x1:.3f}%" x2="{x2:.3f}%" y1="{y}" y2="{y}"/>'


def _at(ms: float, top: float) -> str:
    return f"{max(0.0, ms) / top * 100:.3f}%"


def _step(top: float) -> float:
    """Of 1, 2, 5, 10, ... so that four to eight ticks stand on the axis."""
    ten = 10.0 ** math.floor(math.log10(top / 4))
    return next(each * ten for each in (1, 2, 5, 10) if top / (each * ten) <= 8)


def _round_up(ms: float) -> float:
    """To a whole tick."""
    ms = max(ms, 0.001)
    return math.ceil(ms / _step(ms)) * _step(ms)


def _drawn(svg: str) -> Markup:
    """Names from outside have passed ``escape`` on their way in."""
    return Markup(svg)  # noqa: S704
