"""An application over in-memory ports: what the API, pages, roles and the live feed are tested on."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx2
import pytest

from headway.calls.pricing import PriceRow
from headway.control.app import ControlApp, build
from headway.control.auth import Authenticator
from headway.control.deps import Deps
from headway.control.live import LiveFeed
from headway.control.ports import (
    Away,
    Bucket,
    CallFilter,
    FeatureView,
    GatewayView,
    Generation,
    Group,
    NewKey,
    NewUser,
    Overview,
    ProviderView,
    StoredCall,
    TenantView,
)
from headway.facts.model import CallFact
from headway.kernel.figure import Figure
from headway.kernel.instants import WallMs
from headway.ledger.model import AuditEntry, BudgetState, KeyRecord, Principal, PrincipalKind, Role

NOW = WallMs(1_790_000_000_000)
OWNER_TOKEN = "owner-token-for-tests"
ORIGIN = "http://127.0.0.1:8090"


class MemoryFacts:
    def __init__(self) -> None:
        self.stored: dict[str, StoredCall] = {}
        self.away = ""
        self.asked: list[CallFilter] = []

    def _check(self) -> None:
        if self.away:
            raise Away(self.away)

    async def calls(self, where: CallFilter, before: str, limit: int) -> Sequence[CallFact]:
        self._check()
        self.asked.append(where)
        facts = [s.fact for s in self.stored.values() if where.tenant in ("", s.fact.tenant)]
        return sorted((f for f in facts if not before or f.call < before), key=lambda f: f.call, reverse=True)[:limit]

    async def one(self, call: str) -> StoredCall | None:
        self._check()
        return self.stored.get(call)

    async def beside(self, since_wall_ms: int, until_wall_ms: int, limit: int) -> Sequence[CallFact]:
        self._check()
        return [s.fact for s in self.stored.values()][:limit]

    async def overview(self, since_wall_ms: int, until_wall_ms: int, bucket_ms: int, tenant: str) -> Overview:
        self._check()
        facts = [s.fact for s in self.stored.values() if since_wall_ms <= s.fact.started_wall_ms <= until_wall_ms]
        facts = [f for f in facts if tenant in ("", f.tenant)]
        names = sorted({f.feature for f in facts})
        return Overview(
            since_wall_ms=since_wall_ms,
            until_wall_ms=until_wall_ms,
            bucket_ms=bucket_ms,
            newest_wall_ms=max((f.started_wall_ms for f in facts), default=None),
            total=group("all", facts),
            features=tuple(group(n, [f for f in facts if f.feature == n]) for n in names),
            tenants=tuple(group(n, [f for f in facts if f.tenant == n]) for n in sorted({f.tenant for f in facts})),
        )


def group(name: str, facts: Sequence[CallFact]) -> Group:
    times = sorted(f.first_token_ms for f in facts if f.first_token_ms is not None)
    figure = Figure(value=times[len(times) // 2] if times else None, unit="ms", n=len(times), method="median", low=1.0, high=2.0)
    return Group(
        name=name,
        calls=len(facts),
        failed=sum(f.outcome != "done" for f in facts),
        first_token_p50=figure,
        first_token_p99=figure,
        cost_nano_usd=sum(f.cost_nano_usd or 0 for f in facts),
        cost_unknown=sum(f.cost_nano_usd is None for f in facts),
        input_tokens=sum(f.input_tokens or 0 for f in facts),
        output_tokens=sum(f.output_tokens or 0 for f in facts),
        series=(Bucket(start_wall_ms=NOW - 60_000, calls=len(facts), first_token_p50_ms=figure.value, first_token_p99_ms=figure.value),),
    )


class MemoryLedger:
    def __init__(self) -> None:
        self.users = {
            "user_owner": Principal(id="user_owner", kind=PrincipalKind.USER, name="olga", role=Role.OWNER),
            "user_viewer": Principal(id="user_viewer", kind=PrincipalKind.USER, name="vera", role=Role.VIEWER),
            "user_acme": Principal(id="user_acme", kind=PrincipalKind.USER, name="anna", role=Role.OPERATOR, tenant="acme"),
        }
        self.passwords = {"olga": "correct horse", "vera": "correct horse", "anna": "correct horse"}
        self.sessions: dict[str, str] = {}
        self.key_records: dict[str, tuple[KeyRecord, str]] = {}
        self.entries: list[AuditEntry] = []
        self.states: list[BudgetState] = []
        self.away = ""
        self._n = 0

    def _check(self) -> None:
        if self.away:
            raise Away(self.away)

    async def principals(self) -> Sequence[Principal]:
        self._check()
        return tuple(self.users.values())

    async def any_password(self) -> bool:
        return bool(self.passwords)

    async def check_password(self, name: str, password: str) -> Principal | None:
        self._check()
        if self.passwords.get(name) != password:
            return None
        return next(u for u in self.users.values() if u.name == name)

    async def owner(self) -> Principal:
        return self.users["user_owner"]

    async def add_user(self, new: NewUser, actor: str) -> Principal:
        user = Principal(id=f"user_{new.name}", kind=PrincipalKind.USER, name=new.name, role=new.role, tenant=new.tenant)
        self.users[user.id], self.passwords[new.name] = user, new.password
        await self.note(actor, "user.add", user.id)
        return user

    async def disable(self, principal: str, actor: str) -> bool:
        user = self.users.get(principal)
        if user is None:
            return False
        self.users[principal] = Principal(id=user.id, kind=user.kind, name=user.name, role=user.role, tenant=user.tenant, disabled=True)
        await self.note(actor, "user.disable", principal)
        return True

    async def open_session(self, principal: str) -> str:
        self._check()
        self._n += 1
        token = f"session-{self._n}"
        self.sessions[token] = principal
        return token

    async def session(self, token: str) -> Principal | None:
        self._check()
        return self.users.get(self.sessions.get(token, ""))

    async def close_session(self, token: str) -> None:
        self.sessions.pop(token, None)

    async def keys(self) -> Sequence[KeyRecord]:
        self._check()
        return tuple(record for record, _ in self.key_records.values())

    async def check_key(self, key: str) -> KeyRecord | None:
        self._check()
        return next((r for r, secret in self.key_records.values() if secret == key and r.revoked_wall_ms is None), None)

    async def create_key(self, new: NewKey, actor: str) -> tuple[KeyRecord, str]:
        self._n += 1
        key_id = f"key_{self._n}"
        secret = f"hw_{self._n}_secret{self._n}"
        record = KeyRecord(
            id=key_id,
            digest=b"d",
            principal="",
            tenant=new.tenant,
            name=new.name,
            role=new.role,
            features=new.features,
            created_wall_ms=NOW,
            expires_wall_ms=NOW + new.expires_in_s * 1000 if new.expires_in_s is not None else None,
        )
        self.key_records[key_id] = (record, secret)
        await self.note(actor, "key.create", key_id)
        return record, secret

    async def revoke_key(self, key: str, actor: str) -> bool:
        if key not in self.key_records:
            return False
        record, secret = self.key_records[key]
        self.key_records[key] = (KeyRecord(id=key, digest=b"d", principal="", tenant=record.tenant, revoked_wall_ms=NOW), secret)
        await self.note(actor, "key.revoke", key)
        return True

    async def budgets(self) -> Sequence[BudgetState]:
        self._check()
        return self.states

    async def audit(self, before: str, limit: int) -> Sequence[AuditEntry]:
        self._check()
        return [e for e in reversed(self.entries) if not before or e.id < before][:limit]

    async def note(self, actor: str, action: str, subject: str) -> None:
        self.entries.append(AuditEntry(id=f"audit_{len(self.entries):04}", at_wall_ms=NOW, actor=actor, action=action, subject=subject))


class FixedEstate:
    """Configuration, gateways, prices and health in one."""

    def __init__(self) -> None:
        self.found = Generation(
            number=7,
            loaded_wall_ms=NOW - 60_000,
            path="/etc/headway.toml",
            tenants=(TenantView(name="acme", weight=1.0, klass="interactive"), TenantView(name="globex", weight=2.0, klass="batch")),
            features=(FeatureView(name="search", targets=("openai/gpt-x", "local/small")),),
            providers=(ProviderView(name="local", preset="llama.cpp", models=("small",)),),
        )
        self.views = [GatewayView(name="gw1", version="0.1.0", connected=True, generation=7, heartbeat_wall_ms=NOW - 400, metrics="up 1\n")]
        self.faults: list[str] = []
        self.reloads: list[str] = []

    def generation(self) -> Generation:
        return self.found

    async def reload(self, actor: str) -> Generation:
        self.reloads.append(actor)
        return self.found

    def gateways(self) -> Sequence[GatewayView]:
        return self.views

    def version(self) -> str:
        return "prices of 2026-11-01"

    def find(self, provider: str, model: str) -> Sequence[PriceRow]:
        return (PriceRow(provider=provider or "openai", model=model, input_pico=1),) if model == "gpt-x" else ()

    def degraded(self) -> Sequence[str]:
        return self.faults

    def metrics(self) -> str:
        return "# TYPE headway_control_watchers gauge\nheadway_control_watchers 0\n"


class World:
    """One application and everything behind it, with clients for each way of signing in."""

    def __init__(self) -> None:
        self.facts, self.ledger, self.estate, self.live = MemoryFacts(), MemoryLedger(), FixedEstate(), LiveFeed()
        self.authenticator = Authenticator(self.ledger, OWNER_TOKEN, 8090)
        self.deps = Deps(
            authenticator=self.authenticator,
            facts=self.facts,
            ledger=self.ledger,
            configuration=self.estate,
            gateways=self.estate,
            prices=self.estate,
            health=self.estate,
            live=self.live,
            hosts=("board.example",),
            clock=lambda: NOW,
        )
        self.app: ControlApp = build(self.deps)
        self._clients: list[httpx2.AsyncClient] = []

    def client(self, **headers: str) -> httpx2.AsyncClient:
        transport = httpx2.ASGITransport(app=self.app, raise_app_exceptions=False)
        client = httpx2.AsyncClient(transport=transport, base_url=ORIGIN, headers={k.replace("_", "-"): v for k, v in headers.items()})
        self._clients.append(client)
        return client

    def owner(self) -> httpx2.AsyncClient:
        return self.client(authorization=f"Bearer {OWNER_TOKEN}")

    async def user(self, name: str) -> httpx2.AsyncClient:
        """A browser signed in as ``name``."""
        client = self.client(accept="text/html", origin=ORIGIN)
        answer = await client.post("/login", data={"name": name, "password": "correct horse", "next": "/"})
        assert answer.status_code == 303
        return client

    def store(self, call: str, **fields: Any) -> CallFact:
        started = fields.pop("started_wall_ms", NOW - 5_000)
        fact = CallFact(call=call, started_wall_ms=started, duration_ms=fields.pop("duration_ms", 900.0), gateway="gw1", **fields)
        self.facts.stored[call] = StoredCall(fact=fact)
        return fact

    async def aclose(self) -> None:
        for client in self._clients:
            await client.aclose()
        await asyncio.sleep(0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.aclose()
