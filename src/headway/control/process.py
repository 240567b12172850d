"""The control process, put together: nothing else constructs its parts. Started by ``headway control`` and ``headway serve``.

ledger  <-  publisher, reloader, lease desk  ->  link  <->  gateways
facts   <-  ingest  <-  link                              pages, API  ->  all of them
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from headway import __version__
from headway.calls.admission.objectives import Objective
from headway.config.addresses import parse_listen, reach
from headway.config.load import Loaded, load
from headway.config.model import Settings
from headway.config.secrets import Secrets
from headway.control.admission import AdmissionBook
from headway.control.app import build
from headway.control.auth import Authenticator
from headway.control.deps import Deps
from headway.control.in_force import InForce
from headway.control.ingest import Ingest, NotStored
from headway.control.late import LateLedger
from headway.control.leases import LeaseDesk
from headway.control.link import LinkServer, Listeners
from headway.control.listener import Server, address_of, bound, is_loopback
from headway.control.live import LiveFeed
from headway.control.otlp import SpanExport
from headway.control.pages.slow_book import SlowBook
from headway.control.pages.time_book import TimeBook
from headway.control.phases import PhaseBook
from headway.control.prices import compile_prices
from headway.control.probes import ProbeJob
from headway.control.publish import Publisher
from headway.control.reload import Reloader
from headway.control.span_attributes import Host, hosts
from headway.control.stored import StoredFacts
from headway.control.traces import TraceDesk
from headway.control.vitals import Problems, Vitals
from headway.facts.engine import Engine
from headway.facts.hops import HopTable
from headway.facts.model import Fact
from headway.facts.opening import open_store
from headway.facts.store import FactStore
from headway.facts.table import FactTable
from headway.kernel.errors import ConfigError
from headway.kernel.instants import wall_ms
from headway.kernel.logs import setup
from headway.ledger.bootstrap import ensure_owner
from headway.ledger.model import BudgetUnit, LeaseRecord
from headway.ledger.port import LedgerError
from headway.ledger.store import sqlite_url

log = logging.getLogger(__name__)
LINK_SOCKET = "link.sock"
LIVE_TICK_S = 1.0
HOUSEKEEPING_S = 60.0
OWNER_RETRY_S = 1.0


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """Told once the board answers. ``login`` signs the owner in once; empty while the ledger is away."""

    board: str
    login: str


class ControlProcess:
    """Built on a running loop; ``run`` is its whole life."""

    def __init__(self, loaded: Loaded, state_dir: Path, facts: FactStore) -> None:
        self.settings = settings = loaded.settings
        self.state_dir, self.config_path = state_dir, loaded.path
        self.stop = asyncio.Event()
        self.live = LiveFeed()
        self.ledger = LateLedger(store_url(settings, state_dir))
        self.engine = Engine(facts)
        self.table = FactTable(self.engine)
        self.stored = StoredFacts(self.table, self.ledger.now)
        self.admission = AdmissionBook(self.stored, self._objectives, self.ledger.now)
        self.time = TimeBook(self.engine, self.ledger.now)
        self.phases = PhaseBook(self.engine, self.ledger.now)
        self.slow = SlowBook(self.engine, self.phases, self.ledger.now)
        endpoint = settings.control.otlp_endpoint
        self.spans = SpanExport(endpoint, version=__version__, known=self._model_hosts) if endpoint else None
        self.ingest = Ingest(facts, on_facts=self._export)
        self.traces = TraceDesk(self.ingest.store_spans, HopTable(self.engine).parquet)
        self.desk = LeaseDesk(self.ledger.budgets, self._charges, now=self.ledger.now)
        listeners = Listeners(
            store_segment=self.ingest.store_segment,
            on_opened=self.live.opened,
            on_seen=self.live.seen,
            on_heartbeat=lambda gateway, _beat: self.live.gateway_back(gateway),
            on_admission=self.admission.seen,
        )
        token = Secrets().resolve(settings.control.link_token)
        self.link = LinkServer(self.desk, listeners, token=token, now=self.ledger.now)
        self.probes = ProbeJob(
            self._settings_now,
            lambda: self.publisher.prices,
            self.table,
            seed=int.from_bytes(os.urandom(4), "big"),
            clock=self.ledger.now,
        )
        self.publisher = Publisher(
            self.ledger.keys, self.ledger.budgets, self.link, compile_prices, now=self.ledger.now, own_key=self.probes.own_key
        )
        self.reloader = Reloader(
            loaded.path,
            load,
            generations=self.ledger.generations,
            budgets=self.ledger.budgets,
            publisher=self.publisher,
            link=self.link,
            now=self.ledger.now,
        )
        self.problems = Problems(
            sources=(
                lambda: self.ledger.problem,
                lambda: self.publisher.problem,
                lambda: self.desk.problem,
                self._owner_problem,
                lambda: self.probes.problem,
            )
        )
        self._owner = ""
        self._owner_failed = ""

    async def run(self, host: str, port: int, ready: Callable[[Ready], None] | None) -> None:
        """Until ``stop``. ``ConfigError`` for an address that cannot be had, ``LinkBusy`` while another control holds the folder."""
        listening = bound(host, port)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(listening.close)
            stack.push_async_callback(self._close)
            await self._listen_for_gateways()
            if await self.ledger.try_open():
                await self._make_owner()
                await self.reloader.reload("start")
            stack.push_async_callback(_cancelled, [asyncio.create_task(job) for job in self._jobs()])
            if not is_loopback(host):
                await self._until_somebody_can_sign_in()
            await self._serve(listening, port, ready)

    async def _serve(self, listening: socket.socket, port: int, ready: Callable[[Ready], None] | None) -> None:
        app = build(self._deps(listening.getsockname()[1]))
        server = Server(app, before_stop=self.live.close)
        serving = asyncio.create_task(server.run_on(listening))
        await _first(serving, server.up.wait())
        if server.up.is_set():
            self.engine.warm()
            await self._tell(address_of(listening), app.state.deps.authenticator, ready)
        await _first(serving, self.stop.wait())
        server.should_exit = True
        await serving

    def _deps(self, port: int) -> Deps:
        in_force = InForce(self.reloader, self.link, self.publisher, str(self.config_path or "defaults, without a file"))
        vitals = Vitals(
            self.live,
            self.ingest.stats,
            lambda: self.spans.stats() if self.spans else None,
            self.problems,
            self.admission,
            self.traces.stats,
        )
        return Deps(
            authenticator=Authenticator(self.ledger, port),
            facts=self.stored,
            ledger=self.ledger,
            configuration=in_force,
            gateways=in_force,
            prices=in_force,
            health=vitals,
            live=self.live,
            admission=self.admission,
            time=self.time,
            phases=self.phases,
            slow=self.slow,
            traces=self.traces,
            probes=self.probes,
            gateway_address=reach(self.settings.gateway.listen),
            hosts=(
                *self.settings.control.hosts,
                socket.gethostname(),
                parse_listen(self.settings.control.listen)[0],
            ),
            clock=self.ledger.now,
        )

    async def _tell(self, board: str, authenticator: Authenticator, ready: Callable[[Ready], None] | None) -> None:
        login = ""
        if self._owner:
            try:
                login = board + await authenticator.link_for(self._owner, self._owner)
            except LedgerError as error:
                log.warning("no sign-in link can be made now: %s", error)
        log.info("control listens on %s", board)
        if ready is not None:
            ready(Ready(board=board, login=login))

    # --- jobs

    def _jobs(self) -> Sequence[Coroutine[Any, Any, None]]:
        return (
            self.ledger.run(),
            self.publisher.run(),
            self.reloader.run(),
            self.desk.run(),
            self.admission.run(),
            self.traces.run(),
            self.probes.run(),
            self._watch_gateways(),
            self._keep_house(),
            self._make_owner_when_open(),
        )

    async def _watch_gateways(self) -> None:
        while True:
            await asyncio.sleep(LIVE_TICK_S)
            now = wall_ms()
            for gateway in self.link.gateways():
                if not gateway.connected:
                    self.live.gateway_gone(gateway.name, now)
            self.live.tick(now)

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            loaded = self.reloader.loaded
            settings = loaded.settings if loaded else self.settings
            try:
                await self.ingest.maintain(settings.control.facts_keep_days, settings.facts.bytes_max)
                self.problems.housekeeping = ""
            except NotStored as error:
                self.problems.housekeeping = str(error)

    async def _make_owner_when_open(self) -> None:
        await self.ledger.wait()
        while not self._owner:
            await self._make_owner()
            await asyncio.sleep(OWNER_RETRY_S)

    async def _make_owner(self) -> None:
        try:
            owner = await ensure_owner(self.ledger.principals, self.ledger.keys, self.state_dir, self.ledger.now())
        except (LedgerError, OSError) as error:
            self._owner_failed = f"control.token cannot be made: {error}"
            log.warning("%s", self._owner_failed)
            return
        self._owner, self._owner_failed = owner.id, ""

    async def _until_somebody_can_sign_in(self) -> None:
        """Off loopback nothing is served to strangers who could be the first to sign in. ``ConfigError`` when no user has a password."""
        opened = asyncio.create_task(self.ledger.wait())
        await _first(opened, self.stop.wait())
        opened.cancel()
        if not self.stop.is_set() and not await self.ledger.principals.any_password():
            raise ConfigError(
                "control would be reachable from other machines, and no user has a password yet",
                where="control.listen",
                fix='start once with listen = "127.0.0.1:8090", add a user under Settings, then listen elsewhere',
            )

    # --- wires

    def _objectives(self) -> Mapping[str, Objective]:
        """Of the classes that the configuration in force gives one."""
        loaded = self.reloader.loaded
        classes = (loaded.settings if loaded else self.settings).classes
        return {name: Objective(klass=name, first_token_ms=told.first_token_ms, share=told.share) for name, told in classes.items()}

    def _settings_now(self) -> Settings:
        """In force, or what this process was started with until something is."""
        loaded = self.reloader.loaded
        return loaded.settings if loaded else self.settings

    def _model_hosts(self) -> Mapping[str, Host]:
        """The providers in force, in the words of spans."""
        return hosts(self._settings_now())

    def _owner_problem(self) -> str:
        return self._owner_failed

    def _export(self, facts: Sequence[Fact]) -> None:
        if self.spans is not None:
            self.spans.offer(facts)

    async def _charges(self, leases: Sequence[LeaseRecord]) -> dict[str, int]:
        """What the facts say was drawn from each lease: the exact split where calls tell it, else their whole charge, an upper bound."""
        sums = await self.table.lease_sums([lease.id for lease in leases])
        return {
            lease.id: (found := sums[lease.id]).charged
            + (found.unsplit_nano_usd if lease.unit is BudgetUnit.NANO_USD else found.unsplit_tokens)
            for lease in leases
        }

    async def _listen_for_gateways(self) -> None:
        await self.link.listen_unix(self.state_dir / LINK_SOCKET)
        elsewhere = self.settings.control.link_listen
        if elsewhere:
            host, port = parse_listen(elsewhere.removeprefix("tls://"))
            await self.link.listen_tls(host, port, link_tls(self.settings))

    async def _close(self) -> None:
        await self.link.close()
        await self.traces.close()
        await self.ingest.close()
        await self.engine.close()
        if self.spans is not None:
            await asyncio.to_thread(self.spans.close)
        await self.ledger.close()


def store_url(settings: Settings, state_dir: Path) -> str:
    """Where the ledger is: SQLite in the state folder unless configured. ``ConfigError`` for a reference that leads nowhere."""
    configured = settings.control.store
    return Secrets().resolve_or_literal(configured) if configured else sqlite_url(state_dir / "ledger.db")


def link_tls(settings: Settings) -> ssl.SSLContext:
    """The server side of a TLS link. ``ConfigError`` when certificate or key cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.control.link_certificate, settings.control.link_key or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"the link's certificate cannot be used: {error}", where="control.link_certificate") from error
    return context


async def _first(task: "asyncio.Task[None]", other: Coroutine[Any, Any, object]) -> None:
    """Until either is done; ``other`` is cancelled then, ``task`` goes on."""
    waiting = asyncio.ensure_future(other)
    await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def _cancelled(tasks: Sequence["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def serve(
    config_path: Path | None, state_dir: Path, *, listen: str | None = None, ready: Callable[[Ready], None] | None = None
) -> None:
    """Run control until SIGTERM or SIGINT. Raises ``ConfigError`` and other ``HeadwayError`` for what cannot be started."""
    loaded = await asyncio.to_thread(load, config_path)
    host, port = parse_listen(listen or loaded.settings.control.listen)
    facts = await asyncio.to_thread(open_store, loaded.settings, state_dir)
    try:
        process = ControlProcess(loaded, state_dir, facts)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, process.stop.set)
        await process.run(host, port, ready)
    finally:
        facts.close()


def run(
    config_path: Path | None, state_dir: Path, *, listen: str | None = None, ready: Callable[[Ready], None] | None = None
) -> int:
    """``headway control``. Exit code 0 after a clean stop."""
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    logs = setup("control")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        asyncio.run(serve(config_path, state_dir, listen=listen, ready=ready))
    finally:
        logs.close()
    return 0
