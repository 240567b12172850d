"""``headway keys``: create, list, revoke, give a budget."""

import re
import time
from decimal import Decimal, InvalidOperation
from typing import Final

import click
import msgspec

from headway.cli.budgets import Budgets, show
from headway.cli.client import Control
from headway.cli.common import ago, config_option, emit, json_option, loaded, table

_SPAN: Final = re.compile(r"(\d+)([smhd])")
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key as control tells it, without its secret."""

    id: str
    name: str
    tenant: str
    role: str
    features: tuple[str, ...]
    created_wall_ms: int
    expires_wall_ms: int | None
    revoked_wall_ms: int | None
    state: str


class Keys(msgspec.Struct, frozen=True):
    keys: tuple[Key, ...]


class Created(msgspec.Struct, frozen=True):
    key: Key
    secret: str


class Revoked(msgspec.Struct, frozen=True):
    id: str
    within_s: int


def span_s(text: str) -> int:
    """``30d``, ``12h``, ``15m`` or ``90s`` in seconds. BadParameter otherwise."""
    found = _SPAN.fullmatch(text)
    if found is None or not int(found[1]):
        raise click.BadParameter(f"{text!r} is not a time like 30d, 12h, 15m or 90s")
    return int(found[1]) * _UNIT_S[found[2]]


@click.group("keys")
def command() -> None:
    """Create, list and revoke keys of callers; give one a budget of its own."""


@command.command("create")
@click.option("--tenant", default="default", show_default=True, help="Who pays.")
@click.option("--name", default="", help="What it is for, e.g. the service's name.")
@click.option("--role", type=click.Choice(["viewer", "reviewer", "operator", "owner"]), default="viewer", show_default=True)
@click.option("--feature", "features", multiple=True, help="Restrict it to this feature; may be given again.")
@click.option("--expires", metavar="30d", default=None, help="When it stops working; never, if not given.")
@config_option
@json_option
def create(
    tenant: str, name: str, role: str, features: tuple[str, ...], expires: str | None, config_path: str | None, as_json: bool
) -> None:
    """Make a key. It is shown this once."""
    new = {"tenant": tenant, "name": name, "role": role, "features": features, "expires_in_s": span_s(expires) if expires else None}
    made = Control(loaded(config_path)).post("/api/v1/keys", new, Created)
    if as_json:
        emit({"id": made.key.id, "key": made.secret, "tenant": made.key.tenant, "expires_wall_ms": made.key.expires_wall_ms})
        return
    click.echo(made.secret)
    click.echo(f"key {made.key.id} of tenant {made.key.tenant}; it is not stored and cannot be shown again", err=True)


@command.command("list")
@config_option
@json_option
def list_keys(config_path: str | None, as_json: bool) -> None:
    """List keys, newest first."""
    found = Control(loaded(config_path)).get("/api/v1/keys", Keys)
    if as_json:
        emit(found.keys)
        return
    now_ms = time.time_ns() // 1_000_000
    rows = [
        (k.id, k.name, k.tenant, k.role, ",".join(k.features) or "all", k.state, ago(k.created_wall_ms, now_ms)) for k in found.keys
    ]
    table(("key", "name", "tenant", "role", "features", "state", "made"), rows)
    if not rows:
        click.echo("no keys; headway keys create makes one")


@command.command("revoke")
@click.argument("key")
@config_option
@json_option
def revoke(key: str, config_path: str | None, as_json: bool) -> None:
    """Revoke KEY (its id): every gateway refuses it within seconds."""
    done = Control(loaded(config_path)).delete(f"/api/v1/keys/{_safe(key)}", Revoked)
    if as_json:
        emit(done)
    else:
        click.echo(f"{done.id} is revoked; every gateway refuses it within {done.within_s} s")


class Stated(click.ParamType[str | int]):
    """An amount, or ``none`` to end the budget."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str | int:
        if value == "none":
            return value
        try:
            amount = Decimal(value.replace("_", ""))
        except InvalidOperation:
            self.fail(f"{value!r} is neither an amount nor none", param, ctx)
        if not amount.is_finite() or amount < 0 or (self.name == "TOKENS" and amount != int(amount)):
            self.fail(f"{value!r} is not an amount of {self.name.lower()}", param, ctx)
        return int(amount) if self.name == "TOKENS" else str(amount)


@command.command("budget")
@click.argument("key")
@click.option("--usd-per-day", type=Stated("DOLLARS"), default=None)
@click.option("--usd-per-month", type=Stated("DOLLARS"), default=None)
@click.option("--tokens-per-day", type=Stated("TOKENS"), default=None)
@click.option("--tokens-per-month", type=Stated("TOKENS"), default=None)
@config_option
@json_option
def budget(key: str, config_path: str | None, as_json: bool, **stated: str | int | None) -> None:
    """Give KEY (its id) budgets of its own, beside its tenant's; none ends one. Without amounts: show them.

    Days and months are those of UTC. At the cap its calls get 429; other keys of the tenant go on.
    """
    control, path = Control(loaded(config_path)), f"/api/v1/keys/{_safe(key)}/budgets"
    wanted = {name: None if amount == "none" else amount for name, amount in stated.items() if amount is not None}
    found = control.patch(path, wanted, Budgets) if wanted else control.get(path, Budgets)
    if as_json:
        emit(found.budgets)
        return
    show(found.budgets)
    if not found.budgets:
        click.echo(f"{key} has no budget of its own; its tenant's holds")


def _safe(key: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_]+", key):
        raise click.BadParameter(f"{key!r} is not the id of a key; headway keys list shows them")
    return key
