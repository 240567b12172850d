"""``headway users``: people who sign in to the board with a password."""

import sys

import click
import msgspec

from headway.cli.client import Control
from headway.cli.common import config_option, emit, json_option, loaded, table


class User(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    kind: str
    name: str
    role: str
    tenant: str = ""
    disabled: bool = False


class Users(msgspec.Struct, frozen=True):
    principals: tuple[User, ...]


@click.group("users")
def command() -> None:
    """Add and list people who sign in to the board."""


@command.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice(["viewer", "reviewer", "operator", "owner"]), default="viewer", show_default=True)
@click.option("--tenant", default="", help="See this tenant only; every tenant, if not given.")
@config_option
@json_option
def add(name: str, role: str, tenant: str, config_path: str | None, as_json: bool) -> None:
    """Add a user. The password is asked for, or read from standard input where that is no terminal."""
    control = Control(loaded(config_path))
    if sys.stdin.isatty():
        password = click.prompt("password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    user = control.post("/api/v1/users", {"name": name, "password": password, "role": role, "tenant": tenant}, User)
    if as_json:
        emit(user)
    else:
        click.echo(f"{user.name} may sign in at {control.url}/login as {user.role}")


@command.command("list")
@config_option
@json_option
def list_users(config_path: str | None, as_json: bool) -> None:
    """List users with their roles."""
    found = Control(loaded(config_path)).get("/api/v1/principals", Users)
    users = [one for one in found.principals if one.kind == "user"]
    if as_json:
        emit(users)
        return
    rows = [(one.name, one.role, one.tenant or "all", "disabled" if one.disabled else "active", one.id) for one in users]
    table(("user", "role", "tenant", "state", "id"), rows)
