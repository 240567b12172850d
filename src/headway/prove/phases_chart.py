"""The chart of the proof: four calls of the same duration as phase bars with their verdicts, beside the confusion matrix."""

from collections.abc import Mapping, Sequence
from html import escape
from types import MappingProxyType
from typing import Final

from headway.calls.phases.model import Evidence, Phase
from headway.kernel.figure import Proof
from headway.lab.drawing import BLUE, GREEN, GREY, ORANGE, PURPLE, YELLOW
from headway.prove.phases_four import LASTS_MS, Shown, four
from headway.prove.phases_matrix import SHORT
from headway.prove.phases_score import CANNOT_TELL, CLEAN, QUIET

WIDTH, HEIGHT = 1_240, 560
TITLE: Final = "One span, one duration, four causes"
BARS_LEFT, BARS_WIDTH, BARS_TOP, BAR_HEIGHT, BAR_STEP = 40, 500, 118, 30, 98
MATRIX_LEFT, MATRIX_TOP, CELL_WIDTH, CELL_HEIGHT = 700, 138, 38, 28
AS_EXPECTED, OVER = "first token, as expected", "first token, beyond it"
COLOURS: Final[Mapping[str, str]] = MappingProxyType(
    {
        Phase.QUEUE: GREY,
        Phase.ATTEMPTS: PURPLE,
        Phase.CONNECT: YELLOW,
        AS_EXPECTED: "#9ecae1",
        OVER: ORANGE,
        Phase.DECODE: BLUE,
        Phase.STALL: PURPLE,
        Phase.READER: GREEN,
        Phase.CLOSE: GREY,
    }
)
SEEN_MS_MIN: Final = 15.0
"""Parts too short to be seen get no entry in the legend."""
STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#374151;font-variant-numeric:tabular-nums}.head{font-size:18px;font-weight:600;fill:#111827}"
    ".title{font-size:14px;font-weight:600;fill:#111827}.said{font-weight:600;fill:#111827}.small{font-size:11px;fill:#6b7280}.on{fill:#ffffff}"
)


def chart(counts: Mapping[str, Mapping[str, int]], proof: Proof) -> str:
    """SVG. The bars are of the lab's worlds whatever engine the matrix is of."""
    shown = four(proof.seed)
    strong = "strengths 4 and 8 times the noise" if proof.engine == "lab" else "the local model"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">',
            f"<title>{escape(TITLE)}</title><style>{STYLE}</style>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
            f'<text x="{BARS_LEFT}" y="34" class="head">{escape(TITLE)}</text>',
            f'<text x="{BARS_LEFT}" y="64" class="title">Four calls of {LASTS_MS:,.0f} ms</text>',
            *_legend(shown),
            *[line for number, each in enumerate(shown) for line in _bar(each, BARS_TOP + number * BAR_STEP)],
            f'<text x="{MATRIX_LEFT - 108}" y="64" class="title">What was done (rows) and what was said (columns), per cent of calls</text>',
            *_matrix(counts),
            f'<text x="{BARS_LEFT}" y="{HEIGHT - 14}" class="small">Bars: simulated hosted provider, seed {proof.seed}; '
            f"answers were cut or prolonged to the same duration. Matrix: engine {escape(proof.engine)}, {strong}.</text>",
            "</svg>",
            "",
        ]
    )


def parts_of(each: Shown) -> list[tuple[str, float]]:
    """Parts in order of time; the provider's in what was expected of the first token and what was not."""
    parts = each.split.parts_ms
    over = min(max(each.verdict.excess_ms, 0.0), parts[Phase.PROVIDER])
    provider = [(AS_EXPECTED, parts[Phase.PROVIDER] - over), (OVER, over)]
    before = [(name.value, parts[name]) for name in (Phase.QUEUE, Phase.ATTEMPTS, Phase.CONNECT)]
    after = [(name.value, parts[name]) for name in (Phase.DECODE, Phase.STALL, Phase.READER, Phase.CLOSE)]
    return [*before, *provider, *after]


def _legend(shown: Sequence[Shown]) -> list[str]:
    used = dict.fromkeys(name for each in shown for name, ms in parts_of(each) if ms >= SEEN_MS_MIN)
    lines, x = [], float(BARS_LEFT)
    for name in used:
        lines.append(f'<rect x="{x:.0f}" y="78" width="12" height="12" fill="{COLOURS[name]}"/>')
        lines.append(f'<text x="{x + 17:.0f}" y="88">{escape(name)}</text>')
        x += 6.4 * len(name) + 38
    return lines


def _bar(each: Shown, top: float) -> list[str]:
    verdict = each.verdict
    said = (verdict.cause or "not slow").replace("_", " ")
    lines, x = [], float(BARS_LEFT)
    for name, ms in parts_of(each):
        width = ms / LASTS_MS * BARS_WIDTH
        lines.append(f'<rect x="{x:.2f}" y="{top}" width="{max(width, 0):.2f}" height="{BAR_HEIGHT}" fill="{COLOURS[name]}"/>')
        if width > 46:
            light = ' class="on"' if name in (OVER, Phase.DECODE) else ""
            lines.append(f'<text x="{x + width / 2:.1f}" y="{top + 19.5}" text-anchor="middle"{light}>{ms:,.0f}</text>')
        x += width
    explained = f"{min(verdict.explained_ms, verdict.excess_ms):,.0f} of {verdict.excess_ms:,.0f} ms too many"
    lines.append(
        f'<text x="{BARS_LEFT}" y="{top + BAR_HEIGHT + 17}"><tspan class="said">{escape(said)}</tspan>, {explained}</text>'
    )
    for number, evidence in enumerate(verdict.evidence[:2]):
        lines.append(
            f'<text x="{BARS_LEFT}" y="{top + BAR_HEIGHT + 33 + 15 * number}" class="small">{escape(told(evidence))}</text>'
        )
    return lines


def told(evidence: Evidence) -> str:
    """As a sentence's worth."""
    if evidence.value is None:
        return evidence.what
    unit = f" {evidence.unit}" if evidence.unit else ""
    usual = "" if evidence.usual is None else f", usually {evidence.usual:,.0f}"
    return f"{evidence.what}: {evidence.value:,.0f}{unit}{usual}"


def _matrix(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    columns = list(SHORT)
    lines = []
    for number, column in enumerate(columns):
        x = MATRIX_LEFT + (number + 0.5) * CELL_WIDTH
        lines.append(f'<text transform="translate({x:.0f},{MATRIX_TOP - 8}) rotate(-40)">{escape(column.replace("_", " "))}</text>')
    for place, (row, said) in enumerate(counts.items()):
        y = MATRIX_TOP + place * CELL_HEIGHT
        n = sum(said.values())
        lines.append(f'<text x="{MATRIX_LEFT - 8}" y="{y + 18}" text-anchor="end">{escape(row.replace("_", " "))}</text>')
        for number, column in enumerate(columns):
            lines += _cell(row, column, said.get(column, 0) / n if n else 0.0, MATRIX_LEFT + number * CELL_WIDTH, y)
    return lines


def _cell(row: str, column: str, share: float, x: float, y: float) -> list[str]:
    fill = _colour(row, column)
    lines = [
        f'<rect x="{x}" y="{y}" width="{CELL_WIDTH - 2}" height="{CELL_HEIGHT - 2}" fill="#f3f4f6"/>',
        f'<rect x="{x}" y="{y}" width="{CELL_WIDTH - 2}" height="{CELL_HEIGHT - 2}" fill="{fill}" fill-opacity="{share:.3f}"/>',
    ]
    if share > 0:
        light = ' class="on"' if share > 0.55 else ""
        text = f"{100 * share:.0f}" if share >= 0.01 else "&lt;1"
        lines.append(f'<text x="{x + CELL_WIDTH / 2 - 1:.0f}" y="{y + 18}" text-anchor="middle"{light}>{text}</text>')
    return lines


def _colour(row: str, column: str) -> str:
    """Right, unanswered, wrong."""
    if row == column or (row, column) == (CLEAN, QUIET):
        return BLUE
    return GREY if column in (CANNOT_TELL, QUIET) else ORANGE
