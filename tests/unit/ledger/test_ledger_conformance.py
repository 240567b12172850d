"""What a ledger does, on every store that Headway runs on."""

import asyncio

import pytest

from headway.kernel.instants import WallMs
from headway.kernel.limits import LOGIN_FAILURES_PER_MINUTE_MAX, LOGIN_LINK_TTL_S, LOGIN_LINKS_MAX, SESSION_TTL_S
from headway.ledger.model import AuditEntry, PrincipalKind, Role
from headway.ledger.port import NewKey, NotFound, Refused, Taken
from headway.ledger.store import Ledger, open_ledger

PASSWORD = "correct horse"


def later(now: WallMs, ms: int) -> WallMs:
    return WallMs(now + ms)


async def actions(ledger: Ledger) -> set[str]:
    return {entry.action for entry in await ledger.audit.entries(limit=100)}


async def test_a_principal_is_known_by_id_and_by_name_and_names_are_taken_once(ledger: Ledger, noon: WallMs) -> None:
    ann = await ledger.principals.create(PrincipalKind.USER, "ann", Role.OWNER, tenant="", actor="x", now=noon)
    assert await ledger.principals.get(ann.id) == ann
    assert await ledger.principals.named(PrincipalKind.USER, "ann") == ann
    assert await ledger.principals.named(PrincipalKind.SERVICE, "ann") is None
    assert list(await ledger.principals.all()) == [ann]
    with pytest.raises(Taken, match="ann"):
        await ledger.principals.create(PrincipalKind.USER, "ann", Role.VIEWER, actor="x", now=noon)
    assert await ledger.principals.get("prn_nobody") is None
    entry = (await ledger.audit.entries(limit=1))[0]
    assert (entry.actor, entry.action, entry.subject, entry.detail["role"]) == ("x", "principal.create", ann.id, "owner")


async def test_the_last_owner_stays(ledger: Ledger, noon: WallMs) -> None:
    ann = await ledger.principals.create(PrincipalKind.USER, "ann", Role.OWNER, actor="x", now=noon)
    with pytest.raises(Refused, match="last owner"):
        await ledger.principals.set_disabled(ann.id, True, actor="x", now=noon)
    with pytest.raises(Refused, match="last owner"):
        await ledger.principals.set_role(ann.id, Role.VIEWER, actor="x", now=noon)
    await ledger.principals.create(PrincipalKind.USER, "bob", Role.OWNER, actor="x", now=noon)
    assert (await ledger.principals.set_role(ann.id, Role.VIEWER, actor="x", now=noon)).role is Role.VIEWER
    with pytest.raises(NotFound):
        await ledger.principals.set_disabled("prn_nobody", True, actor="x", now=noon)


async def test_a_key_opens_while_it_is_good_and_its_owner_enabled(ledger: Ledger, noon: WallMs) -> None:
    ann = await ledger.principals.create(PrincipalKind.USER, "ann", Role.VIEWER, actor="x", now=noon)
    new = NewKey(tenant="search", name="ci", principal=ann.id, features=("chat",), expires_wall_ms=noon + 1000)
    record, minted = await ledger.keys.create(new, actor="x", now=noon)
    assert (record.tenant, record.name, record.features, record.principal) == ("search", "ci", ("chat",), ann.id)
    assert await ledger.keys.get(record.id) == record
    assert list(await ledger.keys.all()) == [record]
    assert await ledger.keys.check(minted.text, noon) == (record, ann)
    assert await ledger.keys.check(minted.text[:-1] + "0", noon) is None or minted.text.endswith("0")
    assert await ledger.keys.check("hw_nonsense", noon) is None
    assert await ledger.keys.check(minted.text, later(noon, 1000)) is None, "expired"
    await ledger.keys.set_expiry(record.id, None, actor="x", now=noon)
    assert await ledger.keys.check(minted.text, later(noon, 1000)) is not None
    await ledger.principals.set_disabled(ann.id, True, actor="x", now=noon)
    assert await ledger.keys.check(minted.text, noon) is None, "its owner is disabled"
    with pytest.raises(Refused, match="disabled"):
        await ledger.keys.create(NewKey(tenant="t", principal=ann.id), actor="x", now=noon)
    await ledger.principals.set_disabled(ann.id, False, actor="x", now=noon)
    revoked = await ledger.keys.revoke(record.id, actor="x", now=later(noon, 5))
    assert revoked.revoked_wall_ms == noon + 5
    assert (await ledger.keys.revoke(record.id, actor="x", now=later(noon, 9))).revoked_wall_ms == noon + 5
    assert await ledger.keys.check(minted.text, noon) is None
    with pytest.raises(Refused, match="for good"):
        await ledger.keys.set_expiry(record.id, None, actor="x", now=noon)
    with pytest.raises(NotFound):
        await ledger.keys.revoke("key_nothing", actor="x", now=noon)
    assert {"key.create", "key.expire", "key.revoke", "principal.disable", "principal.enable"} <= await actions(ledger)


async def test_gateways_hear_of_every_change_of_keys(ledger: Ledger, noon: WallMs) -> None:
    ann = await ledger.principals.create(PrincipalKind.USER, "ann", Role.VIEWER, actor="x", now=noon)
    one, _ = await ledger.keys.create(NewKey(tenant="t", principal=ann.id), actor="x", now=noon)
    two, _ = await ledger.keys.create(NewKey(tenant="t"), actor="x", now=noon)
    await ledger.keys.create(NewKey(tenant="", name="of control only"), actor="x", now=noon)
    start = await ledger.keys.for_gateways(noon)
    assert {key.id for key in start.upserted} == {one.id, two.id}
    assert await ledger.keys.since(start.version) == (start.version, (), ())

    await ledger.keys.revoke(two.id, actor="x", now=noon)
    after = await ledger.keys.since(start.version)
    assert (after.upserted, after.removed) == ((), (two.id,))
    await ledger.principals.set_disabled(ann.id, True, actor="x", now=noon)
    disabled = await ledger.keys.since(after.version)
    assert (disabled.upserted, disabled.removed) == ((), (one.id,))
    await ledger.principals.set_disabled(ann.id, False, actor="x", now=noon)
    enabled = await ledger.keys.since(disabled.version)
    assert [key.id for key in enabled.upserted] == [one.id]
    assert set((await ledger.keys.since(start.version)).removed) == {two.id}, "one look shows where things stand"


async def test_sessions_open_by_password_and_end(ledger: Ledger, noon: WallMs) -> None:
    ann = await ledger.principals.create(PrincipalKind.USER, "ann", Role.OWNER, password=PASSWORD, actor="x", now=noon)
    assert await ledger.principals.any_password()
    opened = await ledger.sessions.login("ann", PASSWORD, address="127.0.0.1", now=noon)
    session = await ledger.sessions.find(opened.token, noon)
    assert session is not None
    assert session.principal == ann
    assert session == opened.session
    assert await ledger.sessions.find(opened.token, later(noon, SESSION_TTL_S * 1000)) is None
    assert await ledger.sessions.find("hws_other", noon) is None
    assert await ledger.sessions.revoke(opened.token, now=noon)
    assert not await ledger.sessions.revoke(opened.token, now=noon)
    assert await ledger.sessions.find(opened.token, noon) is None
    again = await ledger.sessions.open(ann.id, actor="x", now=noon)
    await ledger.principals.set_password(ann.id, PASSWORD + "!", actor="x", now=noon)
    assert await ledger.sessions.find(again.token, noon) is None, "a new password ends what the old one opened"
    assert await ledger.principals.authenticate("ann", PASSWORD) is None
    assert await ledger.principals.authenticate("ann", PASSWORD + "!") == ann
    await ledger.sessions.open(ann.id, actor="x", now=noon)
    assert await ledger.sessions.revoke_all(ann.id, actor="x", now=noon) == 1
    with pytest.raises(Refused, match="characters"):
        await ledger.principals.set_password(ann.id, "short", actor="x", now=noon)


async def test_failed_logins_slow_the_next_ones_down(ledger: Ledger, noon: WallMs) -> None:
    await ledger.principals.create(PrincipalKind.USER, "ann", Role.OWNER, password=PASSWORD, actor="x", now=noon)
    for i in range(LOGIN_FAILURES_PER_MINUTE_MAX):
        result = await ledger.sessions.login("ann", "wrong one!", address="10.0.0.9", now=later(noon, i))
        assert (result.token, result.retry_after_ms) == ("", 0)
    at = later(noon, 1_000)
    refused = await ledger.sessions.login("ann", PASSWORD, address="10.0.0.1", now=at)
    assert (refused.token, refused.retry_after_ms) == ("", 59_000), "by name, whoever asks"
    refused = await ledger.sessions.login("bob", PASSWORD, address="10.0.0.9", now=at)
    assert refused.retry_after_ms == 59_000, "by address, whatever the name"
    assert (await ledger.sessions.login("ann", PASSWORD, now=later(noon, 60_010))).token, "a minute later"
    assert "session.login_failed" in await actions(ledger)


async def test_login_tokens_work_once_and_for_a_while(ledger: Ledger, noon: WallMs) -> None:
    ann = await ledger.principals.create(PrincipalKind.USER, "ann", Role.OWNER, actor="x", now=noon)
    token = await ledger.sessions.login_token(ann.id, actor="x", now=noon)
    assert await ledger.sessions.find(token, noon) is None, "it is no session"
    opened = await ledger.sessions.redeem(token, noon)
    assert opened.session is not None
    assert opened.session.principal == ann
    assert (await ledger.sessions.redeem(token, noon)).session is None
    late = await ledger.sessions.login_token(ann.id, actor="x", now=noon)
    assert (await ledger.sessions.redeem(late, later(noon, LOGIN_LINK_TTL_S * 1000))).session is None
    many = [await ledger.sessions.login_token(ann.id, actor="x", now=later(noon, i)) for i in range(LOGIN_LINKS_MAX + 1)]
    assert (await ledger.sessions.redeem(many[0], noon)).session is None, "the oldest gave way"
    assert (await ledger.sessions.redeem(many[1], noon)).session is not None


async def test_generations_move_only_when_the_configuration_does(ledger: Ledger, noon: WallMs) -> None:
    assert await ledger.generations.current() is None
    first = await ledger.generations.add("d1", {"a": "1", "b": "2"}, path="/etc/h.toml", actor="file", now=noon)
    assert (first.number, first.diff) == (1, (("a", None, "1"), ("b", None, "2")))
    assert await ledger.generations.add("d1", {"a": "1", "b": "2"}, path="/etc/h.toml", actor="file", now=later(noon, 9)) == first
    second = await ledger.generations.add("d2", {"a": "3", "c": "4"}, path="/etc/h.toml", actor="ann", now=later(noon, 9))
    assert (second.number, second.diff) == (2, (("a", "1", "3"), ("b", "2", None), ("c", None, "4")))
    assert await ledger.generations.current() == second
    assert await ledger.generations.get(1) == first
    assert [g.number for g in await ledger.generations.latest(10)] == [2, 1]
    back = await ledger.generations.add("d1", {"a": "1", "b": "2"}, path="", actor="file", now=later(noon, 10))
    assert back.number == 3, "an old configuration in force again is a new generation"


async def test_the_audit_log_pages_backwards(ledger: Ledger, noon: WallMs) -> None:
    for i in range(5):
        entry = AuditEntry(
            id=f"aud_{i}", at_wall_ms=noon + i, actor="ann", action="look", subject=f"s{i % 2}", detail={"n": str(i)}
        )
        await ledger.audit.note(entry)
    newest = await ledger.audit.entries(limit=2)
    assert [e.id for e in newest] == ["aud_4", "aud_3"]
    assert [e.id for e in await ledger.audit.entries(before="aud_3", limit=10)] == ["aud_2", "aud_1", "aud_0"]
    assert [e.detail for e in await ledger.audit.entries(subject="s1", limit=10)] == [{"n": "3"}, {"n": "1"}]


async def test_what_is_written_survives_and_is_seen_by_another_control(ledger: Ledger, ledger_url: str, noon: WallMs) -> None:
    record, minted = await ledger.keys.create(NewKey(tenant="t"), actor="x", now=noon)
    other = await open_ledger(ledger_url)
    try:
        assert await other.keys.check(minted.text, noon) is not None
        before = await other.keys.for_gateways(noon)
        await ledger.keys.revoke(record.id, actor="x", now=noon)
        assert (await other.keys.since(before.version)).removed == (record.id,)
        names = [f"n{i}" for i in range(8)]
        made = [
            led.principals.create(PrincipalKind.USER, name, Role.VIEWER, actor="x", now=noon)
            for name in names
            for led in (ledger, other)
        ]
        results = await asyncio.gather(*made, return_exceptions=True)
        assert sum(isinstance(r, Taken) for r in results) == len(names), "each name once, whoever was first"
        generations = [
            led.generations.add(f"d{i}", {"i": str(i)}, path="", actor="x", now=noon) for i in range(5) for led in (ledger, other)
        ]
        numbers = {g.number for g in await asyncio.gather(*generations)}
        assert numbers == set(range(1, len(numbers) + 1)), "numbers have no gaps and no doubles"
    finally:
        await other.close()


async def test_the_clock_of_the_store_dates_leases(ledger: Ledger) -> None:
    offset = await ledger.compare_clocks()
    assert abs(offset) < 1_000, "one machine, one clock"
    await ledger.ping()
    assert ledger.capabilities.own_clock == (ledger.capabilities.store == "postgres")
