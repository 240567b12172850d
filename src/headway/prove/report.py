"""How every proof is told: a table with the wanted bounds, JSON, and what the command's exit status says."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from headway.kernel.figure import Figure, Proof

HEAD: Final = ("figure", "value", "low to high", "bound", "n", "")
NOT_MEASURED: Final = Figure(value=None, unit="", n=0, method="not measured")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A bound that a figure must keep: one side, or both."""

    at_most: float | None = None
    at_least: float | None = None

    @property
    def text(self) -> str:
        if self.at_most is not None and self.at_least is not None:
            return f"{self.at_least:g} to {self.at_most:g}"
        return f"<= {self.at_most:g}" if self.at_most is not None else f">= {self.at_least:g}"

    def holds(self, value: float | None) -> bool:
        if value is None:
            return False
        return (self.at_most is None or value <= self.at_most) and (self.at_least is None or value >= self.at_least)


class NotMeasurable(Exception):
    """This proof cannot be run here. ``missing`` names what is not there, ``fix`` what to do."""

    def __init__(self, missing: str, fix: str) -> None:
        self.missing, self.fix = missing, fix
        super().__init__(missing)


def failing(proof: Proof, wanted: Mapping[str, Wanted]) -> list[str]:
    """Names of figures that do not keep their bound, and of those that are wanted and absent."""
    return [name for name, bound in wanted.items() if not bound.holds(proof.figures.get(name, NOT_MEASURED).value)]


def as_table(proof: Proof, wanted: Mapping[str, Wanted]) -> str:
    """Figures with bounds first, in the order of the bounds; then all others. One that is wanted and absent says so."""
    rows = [HEAD]
    for name, bound in wanted.items():
        figure = proof.figures.get(name, NOT_MEASURED)
        rows.append((*_cells(name, figure), bound.text, str(figure.n), "holds" if bound.holds(figure.value) else "FAILS"))
    rows += [(*_cells(name, figure), "", str(figure.n), "") for name, figure in proof.figures.items() if name not in wanted]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = [f"{proof.pillar} on engine {proof.engine}, seed {proof.seed}", ""]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += ["", f"alarms in the quiet control: {proof.control_alarms}"]
    for name in failing(proof, wanted):
        lines.append(f"does not hold: {name}: {proof.figures.get(name, NOT_MEASURED).method}")
    return "\n".join([*lines, f"took {proof.took_s:.0f} s"])


def as_json(proof: Proof) -> dict[str, Any]:
    """The form of every proof. A figure that was not measured is absent, never null."""
    told = {name: figure for name, figure in proof.figures.items() if figure.value is not None}
    built: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(proof, figures=told))
    return built


def exit_code(proof: Proof, wanted: Mapping[str, Wanted]) -> int:
    """0 when all bounds hold and the quiet control was quiet, else 1."""
    return 1 if failing(proof, wanted) or proof.control_alarms else 0


def _cells(name: str, figure: Figure) -> tuple[str, str, str]:
    if figure.value is None:
        return name, "not measured" if figure.n == 0 else "cannot tell", ""
    spread = "" if figure.low is None or figure.high is None else f"{_short(figure.low)} to {_short(figure.high)}"
    return name, f"{_short(figure.value)} {figure.unit}".rstrip(), spread


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"
