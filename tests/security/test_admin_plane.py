"""Signing in at the running control: a session is new, ends, and is worth nothing elsewhere; beyond loopback nothing starts without a password."""

import json
from pathlib import Path

from stage import Stage

from headway.prove.product import Child, command, free_port
from headway.prove.rawhttp import RawAnswer, request

PASSWORD = "a long password of eight words"
FORM = ("content-type", "application/x-www-form-urlencoded")


async def sign_in(stage: Stage, name: str, *more: tuple[str, str]) -> RawAnswer:
    made = await stage.product.api("POST", "/users", {"name": name, "password": PASSWORD, "role": "owner"})
    assert made.status == 201
    origin = ("origin", stage.product.control_url)
    body = f"name={name}&password={PASSWORD.replace(' ', '+')}".encode()
    return await request(stage.product.control_url, "POST", "/login", [FORM, origin, *more], body)


async def me(stage: Stage, cookie: str) -> int:
    return (await request(stage.product.control_url, "GET", "/api/v1/me", [("cookie", cookie)])).status


async def test_a_session_brought_along_is_not_taken_over(stage: Stage) -> None:
    """Who planted a cookie in another's browser holds nothing after that one has signed in."""
    name = f"headway_{stage.product.control_port}"
    planted = f"{name}=hws_0123456789abcdefghijklmnopqrstuvwxyz"
    signed = await sign_in(stage, "fay", ("cookie", planted))
    given = (signed.header("set-cookie") or "").partition(";")[0]
    assert given.startswith(f"{name}=")
    assert given != planted
    assert await me(stage, given) == 200
    assert await me(stage, planted) == 401


async def test_a_session_that_was_left_is_worth_nothing(stage: Stage) -> None:
    signed = await sign_in(stage, "gil")
    cookie = (signed.header("set-cookie") or "").partition(";")[0]
    assert await me(stage, cookie) == 200
    origin = ("origin", stage.product.control_url)
    await request(stage.product.control_url, "POST", "/logout", [FORM, origin, ("cookie", cookie)])
    assert await me(stage, cookie) == 401


async def test_credentials_of_one_plane_are_none_of_the_other(stage: Stage) -> None:
    """A session opens no model, and the data plane has no door to control."""
    signed = await sign_in(stage, "hal")
    token = (signed.header("set-cookie") or "").partition("=")[2].partition(";")[0]
    for fields in ([("authorization", f"Bearer {token}")], [("cookie", f"headway_{stage.product.control_port}={token}")]):
        assert (await request(stage.product.url, "GET", "/v1/models", fields)).status == 401
    for path in ("/api/v1/keys", "/settings", "/api/v1/me", "/login"):
        owner = [("authorization", f"Bearer {stage.product.token()}")]
        assert (await request(stage.product.url, "GET", path, owner)).status == 404


async def test_guesses_are_slowed_down_whatever_address_they_claim(stage: Stage) -> None:
    origin, statuses = ("origin", stage.product.control_url), []
    for n in range(30):
        more = [("x-forwarded-for", f"198.51.100.{n}"), ("forwarded", f"for=198.51.100.{n}")]
        body = f"name=nobody-of-guesses&password=guess-{n}".encode()
        statuses.append((await request(stage.product.control_url, "POST", "/login", [FORM, origin, *more], body)).status)
    assert statuses[-1] == 429
    assert statuses.count(401) <= 10


def test_beyond_loopback_it_refuses_to_start(tmp_path: Path) -> None:
    (tmp_path / "headway.toml").write_text(f'[control]\nlisten = "0.0.0.0:{free_port()}"\n')
    child = Child("control", command("control"), cwd=tmp_path)
    child.start()
    assert child._process is not None
    assert child._process.wait(30) != 0
    assert "add a user" in child.tail()
    assert json.dumps(PASSWORD) not in child.tail()
