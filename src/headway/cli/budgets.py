"""``headway budgets list``: spent, lent and left."""

import time

import click
import msgspec

from headway.cli.client import Control
from headway.cli.common import config_option, emit, json_option, loaded, table
from headway.kernel.money import usd_text


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    scope: str
    unit: str
    period: str
    cap: int
    spent: int
    leased: int
    period_end_wall_ms: int | None
    overrun: int = 0


class Budgets(msgspec.Struct, frozen=True):
    budgets: tuple[Budget, ...]


@click.group("budgets")
def command() -> None:
    """See what is spent, lent and left."""


@command.command("list")
@config_option
@json_option
def list_budgets(config_path: str | None, as_json: bool) -> None:
    """List budgets: spent + lent never exceeds the cap."""
    found = Control(loaded(config_path)).get("/api/v1/budgets", Budgets)
    if as_json:
        emit(found.budgets)
        return
    show(found.budgets)
    if not found.budgets:
        click.echo(
            "no budgets; set budget_usd_per_day, budget_tokens_per_month or the like in [tenants.NAME], or headway keys budget"
        )


def show(budgets: tuple[Budget, ...]) -> None:
    """The table of what is spent, lent and left."""
    rows = [
        (
            b.scope,
            b.period,
            _amount(b, b.cap),
            _amount(b, b.spent),
            _amount(b, b.leased),
            _amount(b, b.cap - b.spent - b.leased),
            _end(b),
        )
        for b in budgets
    ]
    table(("scope", "period", "cap", "spent", "lent", "left", "until"), rows, right=(2, 3, 4, 5))


def _amount(budget: Budget, amount: int) -> str:
    return usd_text(amount, 4) if budget.unit == "nano_usd" else f"{amount:,} tokens"


def _end(budget: Budget) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(budget.period_end_wall_ms / 1000)) if budget.period_end_wall_ms else "-"
