"""Budgets of single keys: who may set them, what the ledger and the gateways are told, and where the board shows them."""

from typing import Any

import pytest

from headway.ledger.model import BudgetUnit, Role


async def made(world: Any, tenant: str = "acme", role: Role = Role.VIEWER) -> str:
    answer = await (await world.bearer()).post("/api/v1/keys", json={"tenant": tenant, "name": "svc", "role": role})
    return str(answer.json()["key"]["id"])


async def test_an_operator_sets_changes_and_ends_a_budget(world):
    key, operator = await made(world), await world.user("omar")
    path = f"/api/v1/keys/{key}/budgets"
    answer = await operator.patch(path, json={"usd_per_day": "0.25", "tokens_per_month": 1_000})
    assert answer.status_code == 200
    caps = {(b["scope"], b["unit"], b["period"]): b["cap"] for b in answer.json()["budgets"]}
    assert caps == {(f"key:{key}", "nano_usd", "day"): 250_000_000, (f"key:{key}", "tokens", "month"): 1_000}
    ended = await operator.patch(path, json={"tokens_per_month": None, "usd_per_day": 2})
    assert [(b["unit"], b["cap"]) for b in ended.json()["budgets"]] == [("nano_usd", 2_000_000_000)]
    assert (await operator.get(path)).json() == ended.json()
    audit = (await (await world.user("olga")).get("/api/v1/audit")).json()["entries"]
    noted = [(e["action"], e["subject"], e["detail"]["cap"], e["actor"]) for e in audit if e["action"].startswith("budget.")]
    actor = world.users["omar"].id
    assert sorted(noted) == sorted(
        [
            ("budget.end", f"key:{key}:tokens:month", "1000", actor),
            ("budget.set", f"key:{key}:nano_usd:day", "2000000000", actor),
            ("budget.set", f"key:{key}:tokens:month", "1000", actor),
            ("budget.set", f"key:{key}:nano_usd:day", "250000000", actor),
        ]
    )
    assert len(world.estate.budget_pushes) == 2


async def test_what_is_lent_comes_back_when_a_budget_falls(world):
    key, operator = await made(world), await world.user("omar")
    path = f"/api/v1/keys/{key}/budgets"
    await operator.patch(path, json={"tokens_per_day": 1_000})
    now = world.ledger.now()
    lent = await world.ledger.budgets.grant(f"key:{key}:{BudgetUnit.TOKENS}:day", 800, gateway="gw1", request="r", now=now)
    await operator.patch(path, json={"tokens_per_day": 10})
    assert [at.lease for at in world.estate.budget_pushes[-1]] == [lent.lease.id]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"usd_per_day": "a lot"}, "is not an amount"),
        ({"usd_per_day": -1}, "from 0 to"),
        ({"usd_per_day": "1e300"}, "from 0 to"),
        ({"usd_per_day": "NaN"}, "from 0 to"),
        ({"tokens_per_day": 1.5}, "cannot be used"),
        ({"tokens_per_week": 1}, "cannot be used"),
    ],
)
async def test_what_is_no_amount_is_refused_and_changes_nothing(world, body, said):
    key, operator = await made(world), await world.user("omar")
    answer = await operator.patch(f"/api/v1/keys/{key}/budgets", json=body)
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]
    assert world.estate.budget_pushes == []


async def test_who_may_and_who_may_not(world):
    mine, other, owners = await made(world), await made(world, "globex"), await made(world, role=Role.OWNER)
    anna, vera = await world.user("anna"), await world.user("vera")
    body = {"tokens_per_day": 5}
    assert (await anna.patch(f"/api/v1/keys/{mine}/budgets", json=body)).status_code == 200
    assert (await anna.patch(f"/api/v1/keys/{other}/budgets", json=body)).status_code == 404
    assert (await anna.get(f"/api/v1/keys/{other}/budgets")).status_code == 404
    assert (await anna.patch(f"/api/v1/keys/{owners}/budgets", json=body)).status_code == 403
    assert (await vera.patch(f"/api/v1/keys/{mine}/budgets", json=body)).status_code == 403
    assert len((await vera.get(f"/api/v1/keys/{mine}/budgets")).json()["budgets"]) == 1


async def test_a_revoked_key_has_no_budget_and_gets_none(world):
    key, owner = await made(world), await world.user("olga")
    path = f"/api/v1/keys/{key}/budgets"
    await owner.patch(path, json={"usd_per_month": 3})
    await owner.delete(f"/api/v1/keys/{key}")
    assert (await owner.get(path)).json()["budgets"] == []
    assert (await owner.patch(path, json={"usd_per_month": 3})).status_code == 400
    assert (await owner.patch(path, json={"usd_per_month": None})).status_code == 200


async def test_the_board_shows_and_sets_it(world):
    key, operator = await made(world), await world.user("omar")
    posted = await operator.post(f"/settings/keys/{key}/budget", data={"which": "usd_per_day", "amount": "1.50"})
    assert (posted.status_code, posted.headers["location"]) == (303, "/settings#keys")
    page = (await operator.get("/settings")).text
    assert "$0 of $1.50 a day" in " ".join(page.split())
    assert f'action="/settings/keys/{key}/budget"' in page
    assert "key svc" in page, "the table of budgets names the key"
    assert "/budget" not in (await (await world.user("vera")).get("/settings")).text
    for wrong in (
        {"which": "usd_per_day", "amount": "x"},
        {"which": "tokens_per_day", "amount": "1.5"},
        {"which": "role", "amount": "1"},
    ):
        assert (await operator.post(f"/settings/keys/{key}/budget", data=wrong)).status_code == 400
    await operator.post(f"/settings/keys/{key}/budget", data={"which": "usd_per_day", "amount": ""})
    assert "of $1.50 a day" not in (await operator.get("/settings")).text
