"""An application over in-memory ports: what the API, pages, roles and the live feed are tested on."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from headway.calls.admission.objectives import Objective
from headway.calls.admission.report import AdmissionReport, Rows, report
from headway.calls.model import FAILED
from headway.calls.pricing import PriceRow, PriceTable
from headway.config.model import Probes, Provider, Settings
from headway.control.admission import AdmissionBook
from headway.control.app import ControlApp, build
from headway.control.auth import Authenticator
from headway.control.deps import Deps
from headway.control.ingest import NotStored
from headway.control.live import LiveFeed
from headway.control.pages.slow_book import SlowBook
from headway.control.pages.time_book import TimeBook
from headway.control.phases import PhaseBook
from headway.control.ports import (
    Away,
    Bucket,
    CallFilter,
    FeatureView,
    GatewayView,
    Generation,
    Group,
    Overview,
    ProviderView,
    StoredCall,
    TenantView,
)
from headway.control.probes import ProbeJob
from headway.control.traces import TraceDesk
from headway.facts.answers import AdmissionQuery, Stalled
from headway.facts.hop_range import HopQuery
from headway.facts.model import CallFact, SpanFact
from headway.kernel.figure import Figure
from headway.kernel.instants import WallMs
from headway.ledger.model import Principal, PrincipalKind, Role
from headway.ledger.port import LeaseAt, NewKey
from headway.ledger.store import Ledger, open_ledger, sqlite_url

NOW = WallMs(1_790_000_000_000)
PASSWORD = "correct horse battery"
USERS = {"olga": (Role.OWNER, ""), "vera": (Role.VIEWER, ""), "omar": (Role.OPERATOR, ""), "anna": (Role.OPERATOR, "acme")}
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
        failed=sum(f.outcome in FAILED for f in facts),
        first_token_p50=figure,
        first_token_p99=figure,
        cost_nano_usd=sum(f.cost_nano_usd or 0 for f in facts),
        cost_unknown=sum(f.cost_nano_usd is None for f in facts),
        input_tokens=sum(f.input_tokens or 0 for f in facts),
        output_tokens=sum(f.output_tokens or 0 for f in facts),
        series=(
            Bucket(start_wall_ms=NOW - 60_000, calls=len(facts), first_token_p50_ms=figure.value, first_token_p99_ms=figure.value),
        ),
    )


class MemoryEvidence:
    """Answers with the report that a test lays here."""

    def __init__(self) -> None:
        rows = Rows(
            since_wall_ms=0,
            until_wall_ms=0,
            bucket_ms=1,
            newest_wall_ms=None,
            endpoint="",
            tenant="",
            counts=(),
            measured={},
            spans=(),
        )
        self.rows, self.alone = rows, {}
        self.objectives: dict[str, Objective] = {}
        self.stalls = Stalled()
        self.away = ""
        self.asked: list[AdmissionQuery] = []

    async def admission(self, where: AdmissionQuery, bucket_ms: int, objectives: Mapping[str, Objective]) -> AdmissionReport:
        if self.away:
            raise Away(self.away)
        self.asked.append(where)
        rows = msgspec.structs.replace(
            self.rows,
            since_wall_ms=where.since_wall_ms,
            until_wall_ms=where.until_wall_ms,
            bucket_ms=bucket_ms,
            endpoint=where.endpoint,
            tenant=where.tenant,
        )
        if where.tenant:
            own = tuple(c for c in rows.counts if c.key.tenant == where.tenant)
            rows = msgspec.structs.replace(rows, counts=own, moments=(), giants=())
        return report(rows, self.alone, list(objectives.values()), NOW)

    async def stalled(self, call: str, endpoint: str, since_wall_ms: int, until_wall_ms: int) -> Stalled:
        if self.away:
            raise Away(self.away)
        return self.stalls


class AwayEngine:
    """Facts that cannot be read, until a test lays answers of ``run`` here, one after the other."""

    def __init__(self) -> None:
        self.answers: list[Any] = []

    async def run(self, ask: Any, timeout_ms: int = 0) -> Any:
        if not self.answers:
            raise Away("the facts are away")
        return self.answers.pop(0)


class FixedEstate:
    """Configuration, gateways, prices and health in one."""

    def __init__(self) -> None:
        self.found = Generation(
            number=7,
            loaded_wall_ms=NOW - 60_000,
            path="/etc/headway.toml",
            tenants=(
                TenantView(name="acme", weight=1.0, klass="interactive"),
                TenantView(name="globex", weight=2.0, klass="batch"),
            ),
            features=(FeatureView(name="search", targets=("openai/gpt-x", "local/small")),),
            providers=(ProviderView(name="local", preset="llama.cpp", models=("small",)),),
        )
        self.views = [
            GatewayView(name="gw1", version="0.1.0", connected=True, generation=7, heartbeat_wall_ms=NOW - 400, metrics="up 1\n")
        ]
        self.faults: list[str] = []
        self.reloads: list[str] = []
        self.pushes = 0
        self.budget_pushes: list[Sequence[LeaseAt]] = []

    async def push_keys(self) -> None:
        self.pushes += 1

    async def push_budgets(self, closing: Sequence[LeaseAt]) -> None:
        self.budget_pushes.append(closing)

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


class NothingSpent:
    async def probe_spent(self, since_wall_ms: int, until_wall_ms: int) -> tuple[()]:
        return ()


def probe_job() -> ProbeJob:
    """Knows one free route, off the schedule, at a gateway that nobody runs."""
    settings = Settings(
        providers={"own": Provider(preset="vllm", base_url="http://127.0.0.1:9", models=("small",))},
        probes=Probes(gateway="http://127.0.0.1:9"),
    )
    return ProbeJob(lambda: settings, lambda: PriceTable(version="none"), NothingSpent(), seed=1, clock=lambda: NOW)


class World:
    """One application and everything behind it, with clients for each way of signing in. The ledger is the real one, on SQLite."""

    def __init__(self, ledger: Ledger, users: dict[str, Principal]) -> None:
        self.facts, self.ledger, self.estate, self.live, self.users = MemoryFacts(), ledger, FixedEstate(), LiveFeed(), users
        self.authenticator = Authenticator(ledger, 8090)
        self.evidence = MemoryEvidence()
        self.admission = AdmissionBook(self.evidence, lambda: self.evidence.objectives, lambda: NOW)
        self.rows: list[SpanFact] = []
        self.spans_asked: list[HopQuery] = []
        self.store_away = ""
        self.traces = TraceDesk(self._store_spans, self._read_spans, lambda: NOW)
        self.probes = probe_job()
        self._writing = asyncio.create_task(self.traces.run())
        self.engine = AwayEngine()
        phases = PhaseBook(self.engine, lambda: NOW)  # type: ignore[arg-type] # as much of an engine as it asks
        self.deps = Deps(
            authenticator=self.authenticator,
            facts=self.facts,
            ledger=ledger,
            configuration=self.estate,
            gateways=self.estate,
            prices=self.estate,
            health=self.estate,
            live=self.live,
            admission=self.admission,
            time=TimeBook(self.engine, lambda: NOW),  # type: ignore[arg-type] # as much of an engine as it asks
            phases=phases,
            slow=SlowBook(self.engine, phases, lambda: NOW),  # type: ignore[arg-type] # as much of an engine as it asks
            traces=self.traces,
            probes=self.probes,
            hosts=("board.example",),
            clock=lambda: NOW,
        )
        self.app: ControlApp = build(self.deps)
        self._clients: list[httpx2.AsyncClient] = []

    def client(self, **headers: str) -> httpx2.AsyncClient:
        transport = httpx2.ASGITransport(app=self.app, raise_app_exceptions=False)
        client = httpx2.AsyncClient(
            transport=transport, base_url=ORIGIN, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )
        self._clients.append(client)
        return client

    async def key(self, role: Role = Role.VIEWER, tenant: str = "", features: tuple[str, ...] = ()) -> str:
        """The text of a new key."""
        _, minted = await self.ledger.keys.create(
            NewKey(tenant=tenant, name=f"{role} key", role=role, features=features), actor="test", now=self.ledger.now()
        )
        return minted.text

    async def bearer(self, role: Role = Role.OWNER, tenant: str = "") -> httpx2.AsyncClient:
        """A program with a key."""
        return self.client(authorization=f"Bearer {await self.key(role, tenant)}")

    async def user(self, name: str) -> httpx2.AsyncClient:
        """A browser signed in as ``name``."""
        client = self.client(accept="text/html", origin=ORIGIN)
        opened = await self.ledger.sessions.open(self.users[name].id, actor="test", now=self.ledger.now())
        client.cookies.set("headway_8090", opened.token)
        return client

    def store(self, call: str, **fields: Any) -> CallFact:
        started = fields.pop("started_wall_ms", NOW - 5_000)
        fact = CallFact(call=call, started_wall_ms=started, duration_ms=fields.pop("duration_ms", 900.0), gateway="gw1", **fields)
        self.facts.stored[call] = StoredCall(fact=fact)
        return fact

    async def _store_spans(self, spans: Sequence[SpanFact]) -> None:
        if self.store_away:
            raise NotStored(self.store_away)
        self.rows += spans

    async def _read_spans(self, where: HopQuery) -> bytes:
        self.spans_asked.append(where)
        return b"PAR1"

    async def aclose(self) -> None:
        self._writing.cancel()
        await asyncio.gather(self._writing, return_exceptions=True)
        await self.traces.close()
        for client in self._clients:
            await client.aclose()
        await self.ledger.close()


@pytest.fixture(scope="session")
def ledger_with_users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger file to copy: passwords take their time, so they are hashed once."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"

    async def make() -> None:
        ledger = await open_ledger(sqlite_url(path))
        for name, (role, tenant) in USERS.items():
            await ledger.principals.create(
                PrincipalKind.USER, name, role, tenant=tenant, password=PASSWORD, actor="test", now=ledger.now()
            )
        await ledger.close()

    asyncio.run(make())
    return path


@pytest.fixture
async def world(ledger_with_users: Path, tmp_path: Path) -> AsyncIterator[World]:
    for part in ledger_with_users.parent.glob("ledger.db*"):
        shutil.copy(part, tmp_path / part.name)
    ledger = await open_ledger(sqlite_url(tmp_path / "ledger.db"))
    made = World(ledger, {user.name: user for user in await ledger.principals.all()})
    yield made
    await made.aclose()
