"""The gateway process, put together: nothing else constructs its parts. Started by ``headway gateway`` and ``headway serve``."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from headway import SCHEMA_VERSION, __version__
from headway.config.load import load
from headway.config.model import Settings
from headway.config.secrets import Secrets
from headway.facts.spool import Spool, SpoolLimits
from headway.gateway import snapshot as snapshots
from headway.gateway.admission.service import GatewayAdmission
from headway.gateway.admission.shared import SharedAdmission
from headway.gateway.admission.shared_counters import RedisStore
from headway.gateway.app import GatewayApp
from headway.gateway.dialects.registry import REGISTRY
from headway.gateway.discovery import Discovery
from headway.gateway.engine.load import EngineLoads
from headway.gateway.families import GatewayMetrics
from headway.gateway.link import ControlLink, LinkAddress
from headway.gateway.listener.server import new_loop, serve
from headway.gateway.live import Live
from headway.gateway.memory import keep_large_apart, settle_collector, trim_now_and_then
from headway.gateway.services import Services
from headway.gateway.state import GatewayState
from headway.gateway.upstream.http1 import Http1Upstream
from headway.gateway.upstream.port import Upstream
from headway.kernel.errors import ConfigError, HeadwayError
from headway.kernel.instants import NS_PER_S, MonoNs, mono_ns, wall_ms
from headway.kernel.logs import setup
from headway.link.messages import KeysChanged, Snapshot

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

log = logging.getLogger(__name__)
LAG_SAMPLE_S = 0.5
CONFIRM_S = 30
GATEWAY_NAME_FILE = "gateway-name"


class GatewayProcess:
    def __init__(self, settings: Settings, state_dir: Path) -> None:
        self.settings, self.state_dir = settings, state_dir
        self.name = os.environ.get("HEADWAY_GATEWAY", "") or f"{socket.gethostname()}-{_name_in(state_dir)}"
        self.secrets = Secrets()
        self.metrics = GatewayMetrics()
        self.state = GatewayState(self.metrics, body_bytes_max=settings.gateway.limits.body_bytes_max)
        self.state.grace_s = settings.gateway.snapshot_grace_s
        self.stop = asyncio.Event()
        self.listed: dict[str, tuple[str, ...]] = {}
        loop = asyncio.get_running_loop()
        self.spool = Spool(
            state_dir / "spool" / self.name,
            self.name,
            SpoolLimits(disk_bytes_max=settings.gateway.spool_disk_bytes_max),
            on_closed=lambda: _poke(loop, self.link),
        )
        self.metrics.watch_spool(self.spool.stats)
        self.upstream = upstream_client(settings.gateway.upstream_client)
        self.services = Services(
            gateway=self.name,
            upstream=self.upstream,
            dialects=dict(REGISTRY),
            facts=self.spool,
            feed=_unbound(),
            metrics=self.metrics,
        )
        self.link = ControlLink(
            link_address(settings, state_dir, self.secrets),
            self.services,
            self.state,
            self.spool,
            version=__version__,
            schema_version=SCHEMA_VERSION,
            on_snapshot=self.take_snapshot,
            on_keys=self.take_keys,
            on_drain=self.stop.set,
        )
        self.services.feed = self.link
        self.shared = shared_admission(settings, self.secrets, self.name, self.state)
        self.admission = GatewayAdmission(self.services.desk, self.shared.counters_for if self.shared is not None else None)
        self.services.admission_views = self.admission.views
        self.metrics.admission.watch(self.metrics.registry, lambda: self.admission.views(mono_ns()))
        self.engine_loads = EngineLoads(self.services, self.admission)
        self.discovery = Discovery(self.services, self.listed)
        self.saver = snapshots.Saver(self._snapshot_path, self._snapshot_written)
        self.state.watch(self.services)

    async def run(self, host: str, port: int) -> None:
        """Until told to stop. Serves from the last snapshot at once, if there is one."""
        self._load_last()
        settle_collector()
        jobs = [
            asyncio.create_task(job, name=name)
            for name, job in (
                ("link", self.link.run()),
                ("lag", self._watch_lag()),
                ("memory", trim_now_and_then()),
                ("discovery", self.discovery.run()),
                ("engine load", self.engine_loads.run()),
            )
        ]
        if self.shared is not None:
            jobs.append(asyncio.create_task(self.shared.run(self.admission), name="shared counters"))
        app = GatewayApp(self.services, self.state)
        try:
            await serve(
                cast("ASGI3Application", app),
                host,
                port,
                limits=self.settings.gateway.limits,
                should_exit=self.stop,
                drain_s=self.settings.gateway.drain_s,
                counters=self.state.listener,
                on_started=lambda at, on: log.info("gateway %s listens on http://%s:%s", self.name, at, on),
            )
        finally:
            self.services.draining = True
            await self.link.settle_and_close()
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            await self.saver.close()
            await self.upstream.close()
            if self.shared is not None:
                await self.shared.close()
            await asyncio.to_thread(self.spool.close)

    async def take_snapshot(self, snapshot: Snapshot) -> None:
        """A new generation: compiled beside the old one, swapped whole, then written to disk in the background.

        ConfigError or ValueError when it cannot be used here: the old one stays.
        """
        self._install(snapshot)
        self.saver.keep(snapshot)

    def take_keys(self, changed: KeysChanged) -> None:
        live = self.services.live
        if live is None:
            return
        for key in changed.upserted:
            live.keys[key.id] = key
        for key_id in changed.removed:
            live.keys.pop(key_id, None)
        live.snapshot = msgspec.structs.replace(live.snapshot, keys=tuple(live.keys.values()))
        self.saver.keep(live.snapshot)

    def _snapshot_written(self, error: OSError | None) -> None:
        if error is None:
            self.state.problems.pop("snapshot", None)
        else:
            self.state.problems["snapshot"] = f"cannot be written: {error}"

    def _install(self, snapshot: Snapshot) -> None:
        self.services.live = Live(snapshot, self.secrets, self.listed)
        self.services.book.install(snapshot.budgets)
        self.admission.install(self.services.live, mono_ns(), wall_ms())
        self.discovery.settings_changed()

    def _load_last(self) -> None:
        try:
            last = snapshots.load(self._snapshot_path)
        except snapshots.SnapshotUnusable as error:
            log.warning("the last snapshot cannot be used, waiting for control: %s", error)
            return
        alone_s = snapshots.unconfirmed_s(self._snapshot_path)
        if last is None:
            return
        if alone_s > self.settings.gateway.snapshot_grace_s:
            log.warning(
                "control last stood behind the snapshot on disk %.0f s ago, which is past the grace; waiting for control", alone_s
            )
            return
        self.state.link_lost_at = MonoNs(mono_ns() - int(alone_s * NS_PER_S))
        try:
            self._install(last)
        except (ConfigError, ValueError) as error:
            log.warning("the last snapshot cannot be used, waiting for control: %s", error)

    @property
    def _snapshot_path(self) -> Path:
        return self.state_dir / "gateway-snapshot.msgpack"

    async def _watch_lag(self) -> None:
        """How late the loop is, whether the spool is in trouble, and that control is there."""
        confirmed = mono_ns()
        while True:
            before = mono_ns()
            await asyncio.sleep(LAG_SAMPLE_S)
            self.metrics.loop_lag.observe(max(0.0, (mono_ns() - before) / 1e9 - LAG_SAMPLE_S))
            trouble = self.spool.degraded
            if trouble:
                self.state.problems["spool"] = "; ".join(trouble)
            else:
                self.state.problems.pop("spool", None)
            if self.state.link_up and mono_ns() - confirmed >= CONFIRM_S * NS_PER_S:
                confirmed = mono_ns()
                with contextlib.suppress(OSError):  # only the grace after a restart gets shorter
                    await asyncio.to_thread(snapshots.confirm, self._snapshot_path)


def run(config_path: Path | None, state_dir: Path, *, listen: str | None = None) -> int:
    """``headway gateway``. Exit code 0 after a clean stop; ConfigError for what cannot be started."""
    keep_large_apart()
    settings = load(config_path).settings if config_path is not None else Settings()
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    setup("gateway")
    host, port = split_listen(listen or settings.gateway.listen)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_main(settings, state_dir, host, port))
    return 0


async def _main(settings: Settings, state_dir: Path, host: str, port: int) -> None:
    process = GatewayProcess(settings, state_dir)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, process.stop.set)
    await process.run(host, port)


def upstream_client(name: str) -> Upstream:
    """``headway`` is ours; ``aiohttp`` is there for sites that reach providers through a proxy, and for the day ours has a fault."""
    if name == "aiohttp":
        from headway.gateway.upstream.on_aiohttp import AiohttpUpstream  # noqa: PLC0415 - 15 MB that the usual choice does without

        return AiohttpUpstream(proxies_from_environment=True)
    return Http1Upstream()


def shared_admission(settings: Settings, secrets: Secrets, gateway: str, state: GatewayState) -> SharedAdmission | None:
    """None where gateways share nothing. ConfigError where they cannot."""
    if not settings.shared.url:
        return None
    try:
        store = RedisStore(secrets.resolve_or_literal(settings.shared.url), gateway, prefix=settings.shared.prefix)
    except HeadwayError as error:
        raise ConfigError(str(error), where="[shared] url") from error
    return SharedAdmission(store, first_number=wall_ms(), problems=state.problems)


def split_listen(listen: str) -> tuple[str, int]:
    """host:port apart; IPv6 hosts in brackets. ConfigError when it is neither."""
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdigit():
        raise ConfigError(f"{listen!r} is not host:port", where="[gateway] listen")
    return host.strip("[]") or "127.0.0.1", int(port)


def link_address(settings: Settings, state_dir: Path, secrets: Secrets) -> LinkAddress:
    """Where control is, from ``[gateway] control``; the socket in the state folder when it is empty."""
    configured = settings.gateway.control
    if not configured:
        return LinkAddress(path=state_dir / "link.sock")
    if configured.startswith("unix:"):
        return LinkAddress(path=Path(configured.removeprefix("unix:")))
    if not configured.startswith("tls://"):
        raise ConfigError(f"{configured!r} is neither unix:PATH nor tls://host:port", where="[gateway] control")
    host, port = split_listen(configured.removeprefix("tls://"))
    context = ssl.create_default_context(cafile=settings.gateway.link_ca or None)
    return LinkAddress(host=host, port=port, tls=context, token=secrets.resolve(settings.gateway.link_token))


def _name_in(state_dir: Path) -> str:
    """A short name that stays with the state folder, so that its spool is found again."""
    path = state_dir / GATEWAY_NAME_FILE
    with contextlib.suppress(FileNotFoundError):
        return path.read_text().strip()
    name = os.urandom(3).hex()
    path.write_text(name + "\n")
    return name


def _poke(loop: asyncio.AbstractEventLoop, link: ControlLink) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended; the next start ships what is left
        loop.call_soon_threadsafe(link.poke)


class _Nobody:
    """Stands in until the link is made, a few lines later."""

    def opened(self, flow: object) -> None: ...

    def closed(self, flow: object, facts: object) -> None: ...

    def ask_leases(self) -> None: ...


def _unbound() -> _Nobody:
    return _Nobody()
