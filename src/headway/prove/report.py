"""How every proof is told: a table with the wanted bounds, JSON, and what the command's exit status says."""

from collections.abc import Mapping
from typing import Any

import msgspec

from headway.kernel.figure import Figure, Proof
from headway.prove.checked import Checked, table


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A bound that a figure must keep; exactly one of the two is set."""

    at_most: float | None = None
    at_least: float | None = None

    @property
    def text(self) -> str:
        return f"<= {self.at_most:g}" if self.at_most is not None else f">= {self.at_least:g}"

    def holds(self, value: float | None) -> bool:
        if value is None:
            return False
        return value <= self.at_most if self.at_most is not None else self.at_least is not None and value >= self.at_least


class NotMeasurable(Exception):
    """This proof cannot be run here. ``missing`` names what is not there, ``fix`` what to do."""

    def __init__(self, missing: str, fix: str) -> None:
        self.missing, self.fix = missing, fix
        super().__init__(missing)


def failing(proof: Proof, wanted: Mapping[str, Wanted]) -> list[str]:
    """Names of figures that do not keep their bound, and of those that are wanted and absent."""
    return [name for name, bound in wanted.items() if name not in proof.figures or not bound.holds(proof.figures[name].value)]


def rows(proof: Proof, wanted: Mapping[str, Wanted]) -> list[Checked]:
    """Figures with bounds first, in the order of the bounds; then all others. One that is wanted and absent says so."""
    told: list[Checked] = []
    for name, bound in wanted.items():
        figure = proof.figures.get(name) or Figure(value=None, unit="", n=0, method="not measured")
        told.append(Checked(name=name, figure=figure, bound=bound.text, holds=bound.holds(figure.value)))
    told += [Checked(name=n, figure=f, bound="given", holds=True) for n, f in proof.figures.items() if n not in wanted]
    return told


def as_table(proof: Proof, wanted: Mapping[str, Wanted]) -> str:
    lines = [f"{proof.pillar} on engine {proof.engine}, seed {proof.seed}", "", table(rows(proof, wanted)), ""]
    lines.append(f"alarms in the quiet control: {proof.control_alarms}")
    for name in failing(proof, wanted):
        figure = proof.figures.get(name)
        lines.append(f"does not hold: {name}: {figure.method if figure else 'not measured'}")
    lines.append(f"took {proof.took_s:.0f} s")
    return "\n".join(lines)


def as_json(proof: Proof) -> dict[str, Any]:
    """The form of every proof. A figure that was not measured is absent, never null."""
    told = {name: figure for name, figure in proof.figures.items() if figure.value is not None}
    built: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(proof, figures=told))
    return built


def exit_code(proof: Proof, wanted: Mapping[str, Wanted]) -> int:
    """0 when all bounds hold and the quiet control was quiet, else 1."""
    return 1 if failing(proof, wanted) or proof.control_alarms else 0
