"""Configuration into generations: what a good file, a bad file, an unchanged file and an absent ledger do."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from headway.config.model import Control, Feature, Provider, Settings, Tenant
from headway.control.reload import MASKED, Reloader, fingerprint, shown
from headway.kernel.errors import ConfigError
from headway.kernel.instants import WallMs
from headway.ledger.port import LedgerUnavailable
from headway.ledger.store import Ledger, open_ledger, sqlite_url

NOON = WallMs(1_795_521_600_000)


class Loaded(msgspec.Struct, frozen=True):
    settings: Settings


class Rig:
    """A file whose text is JSON settings, or ``bad``."""

    def __init__(self, ledger: Ledger, path: Path) -> None:
        self.ledger, self.path = ledger, path
        self.sent: list[tuple[Settings, int]] = []
        self.closed: list[tuple[str, str]] = []
        self.away = False
        self.reloader = self.make()

    def make(self) -> Reloader:
        return Reloader(
            self.path,
            self.load,
            generations=self.ledger.generations,
            budgets=self.ledger.budgets,
            publisher=self,
            link=self,
            now=lambda: NOON,
        )

    def load(self, path: Path | None) -> Loaded:
        assert path == self.path
        text = self.path.read_text()
        if text == "bad":
            raise ConfigError("no such key", where="headway.toml:3", fix="did you mean weight?")
        return Loaded(msgspec.json.decode(text, type=Settings))

    def write(self, settings: Settings) -> None:
        self.path.write_bytes(msgspec.json.encode(settings))

    async def put_in_force(self, settings: Settings, generation: int) -> None:
        if self.away:
            raise LedgerUnavailable("unplugged")
        self.sent.append((settings, generation))

    def close_lease(self, gateway: str, lease: str) -> None:
        self.closed.append((gateway, lease))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    ledger = await open_ledger(sqlite_url(tmp_path / "ledger.db"))
    made = Rig(ledger, tmp_path / "headway.toml")
    made.write(Settings(tenants={"t": Tenant(budget_usd_per_day="1")}))
    yield made
    await ledger.close()


async def test_each_changed_file_is_one_generation_with_its_diff(rig: Rig) -> None:
    first = await rig.reloader.reload("ann")
    assert first is not None
    assert (first.number, rig.sent[-1][1]) == (1, 1)
    rig.write(Settings(tenants={"t": Tenant(budget_usd_per_day="1", weight=2.0)}))
    await rig.reloader.poll()
    second = rig.reloader.generation
    assert second is not None
    assert (second.number, second.diff) == (2, (("tenants.t.weight", "1.0", "2.0"),))
    assert (await rig.ledger.audit.entries(limit=1))[0].action == "generation"
    await rig.reloader.poll()
    assert [generation for _, generation in rig.sent] == [1, 2], "an untouched file is not read again"


async def test_a_touched_file_and_a_restart_keep_the_generation(rig: Rig) -> None:
    await rig.reloader.reload("x")
    os.utime(rig.path, ns=(1, 1))
    await rig.reloader.poll()
    assert [generation for _, generation in rig.sent] == [1, 1]
    again = rig.make()
    await again.reload("x")
    assert again.generation == rig.reloader.generation


async def test_a_bad_file_keeps_the_old_generation_and_says_why(rig: Rig) -> None:
    await rig.reloader.reload("x")
    rig.path.write_text("bad")
    kept = await rig.reloader.reload("x")
    assert kept is not None
    assert kept.number == 1
    assert rig.reloader.problem == "headway.toml:3: no such key (did you mean weight?)"
    assert rig.reloader.problem_wall_ms == NOON
    assert rig.reloader.loaded is not None
    rig.write(Settings())
    await rig.reloader.poll()
    assert (rig.reloader.problem, rig.reloader.problem_wall_ms) == ("", None)
    assert rig.sent[-1][1] == 2


async def test_the_old_text_back_again_is_the_old_generation(rig: Rig) -> None:
    await rig.reloader.reload("x")
    text = rig.path.read_text()
    rig.path.write_text("bad")
    await rig.reloader.poll()
    assert rig.reloader.problem
    rig.path.write_text(text)
    await rig.reloader.poll()
    assert not rig.reloader.problem
    assert rig.reloader.generation is not None
    assert rig.reloader.generation.number == 1


async def test_without_the_ledger_a_good_file_is_tried_again_each_second(rig: Rig) -> None:
    rig.away = True
    assert await rig.reloader.reload("x") is None
    assert rig.reloader.problem == "unplugged"
    rig.away = False
    await rig.reloader.poll()
    assert rig.sent[-1][1] == 1
    assert rig.reloader.problem == ""


async def test_lowered_budgets_take_their_blocks_back(rig: Rig) -> None:
    await rig.reloader.reload("x")
    granted = await rig.ledger.budgets.grant("tenant:t:nano_usd:day", 900_000_000, gateway="g", request="r", now=NOON)
    assert granted.lease is not None
    rig.write(Settings(tenants={"t": Tenant(budget_usd_per_day="0.5")}))
    await rig.reloader.poll()
    assert rig.closed == [("g", granted.lease.id)]


async def test_a_hangup_reloads_at_once(rig: Rig) -> None:
    await rig.reloader.reload("x")
    running = asyncio.create_task(rig.reloader.run())
    await asyncio.sleep(0)
    before = len(rig.sent)
    os.kill(os.getpid(), signal.SIGHUP)
    async with asyncio.timeout(0.9):
        while len(rig.sent) == before:
            await asyncio.sleep(0.005)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_the_fingerprint_knows_values_and_nothing_else() -> None:
    one = Settings(providers={"a": Provider(), "b": Provider()})
    other = Settings(providers={"b": Provider(), "a": Provider()})
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(one) != fingerprint(Settings(providers={"a": Provider(), "b": Provider(region="r")}))


def test_no_secret_is_shown() -> None:
    settings = Settings(
        control=Control(store="postgresql://ann:canary@db/h", link_token="canary"),
        providers={
            "p": Provider(
                key="env:OPENAI_API_KEY",
                base_url="https://u:canary@host/v1?api_key=canary&region=eu",
                headers={"x-extra": "canary", "x-ref": "env:EXTRA"},
            )
        },
        features={"f": Feature(targets=("p/m",))},
    )
    text = shown(settings)
    assert "canary" not in "".join(text.values())
    assert text["providers.p.key"] == "env:OPENAI_API_KEY", "references are no secrets"
    assert text["providers.p.headers.x-ref"] == "env:EXTRA"
    assert text["providers.p.base_url"].startswith("https://")
    assert text["providers.p.base_url"].endswith("&region=eu")
    assert text["features.f.targets"] == '["p/m"]'
    assert text["control.link_token"].startswith(MASKED)
    changed = shown(msgspec.structs.replace(settings, control=Control(link_token="canary2")))
    assert changed["control.link_token"] != text["control.link_token"], "that it changed is shown"
