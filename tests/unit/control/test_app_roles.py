"""Every route declares the role that it needs, and the declared role is what holds."""

import pytest
from fastapi import Depends

from headway.control.access import Needs
from headway.control.app import demands
from headway.ledger.model import Role

OPEN = {
    "GET /health/live",
    "GET /health/ready",
    "GET /api/v1/openapi.json",
    "GET /login",
    "POST /login",
    "POST /logout",
}


def test_every_route_declares_a_role(world):
    undeclared = [route for route, needs in demands(world.app).items() if needs is None]
    assert undeclared == []
    assert len(demands(world.app)) > 25


def test_only_the_door_and_the_probes_are_open(world):
    assert {route for route, needs in demands(world.app).items() if needs is not None and needs.role is None} == OPEN


def test_changes_need_an_operator(world):
    for route, needs in demands(world.app).items():
        if route.split()[0] in ("POST", "DELETE", "PUT", "PATCH") and route not in OPEN:
            assert needs is not None
            assert needs.role in (Role.OPERATOR, Role.OWNER), route


async def test_a_route_without_a_role_is_found(world):
    async def loose() -> dict[str, str]:
        return {}

    world.app.add_api_route("/api/v1/loose", loose)
    assert demands(world.app)["GET /api/v1/loose"] is None


async def test_no_route_answers_a_stranger(world):
    client = world.client(accept="application/json")
    for named, needs in demands(world.app).items():
        method, path = named.split(" ", 1)
        if needs is None or needs.role is None:
            continue
        path = path.replace("{call}", "call_x").replace("{key}", "key_x").replace("{principal}", "user_x")
        if path == "/api/v1/prices":
            path += "?model=x"
        answer = await client.request(method, path + ("&" if "?" in path else "?") + "_format=json")
        assert answer.status_code == 401, named
        assert answer.json()["error"]["code"] == "unauthorized"
        assert answer.json()["error"]["fix"]


@pytest.mark.parametrize("asked", list(Role))
async def test_roles_include_those_before(world, asked):
    async def probe() -> dict[str, str]:
        return {"ok": "yes"}

    world.app.add_api_route("/api/probe", probe, dependencies=[Depends(Needs(asked))])
    order = list(Role)
    for has in order:
        answer = await (await world.bearer(has)).get("/api/probe")
        assert answer.status_code == (200 if order.index(has) >= order.index(asked) else 403), has


async def test_what_concerns_everybody_is_closed_to_one_tenant(world):
    client = await world.bearer(Role.OWNER, tenant="acme")
    for named, needs in demands(world.app).items():
        method, path = named.split(" ", 1)
        if needs is not None and needs.everywhere and "{" not in path:
            answer = await client.request(method, path + "?_format=json")
            assert answer.status_code == 403, named
            assert "every tenant" in answer.json()["error"]["message"]
