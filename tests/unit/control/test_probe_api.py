"""The API of probes: what it tells, to whom, and what it starts. And the metrics page of control in both formats."""

import asyncio

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from headway.calls.phases.probes import ROUND
from headway.ledger.model import Role


async def test_the_routes_and_the_money_of_the_day(world):
    viewer = await world.bearer(Role.VIEWER)
    found = (await viewer.get("/api/v1/probes")).json()
    assert (found["tenant"], found["cap_nano_usd"], found["spent_nano_usd"]) == ("probes", 10**9, 0)
    (route,) = found["routes"]
    assert (route["route"], route["on"], route["due_wall_ms"], route["round_nano_usd_max"]) == ("own/small", False, None, 0)


async def test_one_tenants_viewer_sees_none_of_it(world):
    program = await world.bearer(Role.OWNER, "acme")
    assert (await program.get("/api/v1/probes")).status_code == 403
    assert (await program.post("/api/v1/probes/rounds", json={})).status_code == 403


async def test_a_round_is_an_operators_to_start(world):
    viewer = await world.bearer(Role.REVIEWER)
    assert (await viewer.post("/api/v1/probes/rounds", json={"route": "own/small"})).status_code == 403
    operator = await world.bearer(Role.OPERATOR)
    started = await operator.post("/api/v1/probes/rounds", json={"route": "own/small"})
    assert (started.status_code, started.json()) == (202, {"routes": ["own/small"]})
    async with asyncio.timeout(5):
        while (route := (await operator.get("/api/v1/probes")).json()["routes"][0])["running"]:
            await asyncio.sleep(0.01)
    assert [result["kind"] for result in reversed(route["results"])] == list(ROUND)
    assert all("cannot be used" in result["problem"] for result in route["results"]), "nobody listens there"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"route": "nobody/none"}, 404, "own/small"),
        ({}, 400, "schedule"),
        ({"rout": "own/small"}, 400, "rout"),
        ({"route": 7}, 400, "route"),
    ],
)
async def test_what_cannot_be_started(world, body, status, words):
    operator = await world.bearer(Role.OPERATOR)
    refused = await operator.post("/api/v1/probes/rounds", json=body)
    assert refused.status_code == status
    assert words in refused.text


async def test_metrics_of_control_in_both_formats(world):
    viewer = await world.bearer(Role.VIEWER)
    plain = await viewer.get("/metrics")
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    open_ = await viewer.get("/metrics", headers={"accept": "application/openmetrics-text;version=1.0.0"})
    assert open_.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert {family.name for family in text_string_to_metric_families(open_.text)} >= {"headway_control_watchers"}
