"""How loaded engines of one's own are, by their own word: ``/metrics`` of vLLM, SGLang and llama.cpp, and llama.cpp's ``/slots``.

Off the path of any call. An engine without such a page (llama.cpp needs ``--metrics``) is asked again every minute, in case it got one;
one that does not answer costs a line in the log once. The names of the figures are in ``engine/load_names.py``.
"""

import asyncio
import logging
from typing import Final

from headway.calls.admission.model import EngineLoad
from headway.gateway.admission.service import GatewayAdmission
from headway.gateway.engine.load_names import load_of_metrics, with_slots
from headway.gateway.live import Endpoint
from headway.gateway.services import Services
from headway.gateway.upstream.port import UpstreamError, UpstreamRequest
from headway.kernel.errors import CallError
from headway.kernel.instants import MonoNs, after_ms, mono_ns
from headway.kernel.limits import ENGINE_LOAD_BYTES_MAX, ENGINE_LOAD_TIMEOUT_MS

log = logging.getLogger(__name__)
TICK_S = 0.25
ABSENT_AGAIN_MS = 60_000
PAGES: Final = {"vllm": ("/metrics",), "sglang": ("/metrics",), "llama.cpp": ("/metrics", "/slots")}
"""Beside the API, without its version, by preset."""


class EngineLoads:
    """Asks each shared engine every ``load_every_ms``; what it says goes to admission. One question is open at each engine at most."""

    def __init__(self, services: Services, admission: GatewayAdmission) -> None:
        self._services, self._admission = services, admission
        self._due: dict[tuple[str, str], MonoNs] = {}
        self._silent: set[tuple[str, str]] = set()
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        try:
            while True:
                self.look(mono_ns())
                await asyncio.sleep(TICK_S)
        finally:
            for task in self._asking.values():
                task.cancel()

    def look(self, now: MonoNs) -> None:
        """Ask those that are due."""
        live = self._services.live
        if live is None:
            return
        for name in self._admission.endpoints:
            endpoint = self._endpoint(name)
            admission = endpoint.provider.admission if endpoint is not None else None
            if endpoint is None or admission is None or not admission.load_every_ms or name in self._asking:
                continue
            due = [page for page in PAGES.get(endpoint.preset.name, ()) if self._due.get((name, page), now) <= now]
            if due:
                task = asyncio.get_running_loop().create_task(self._ask(endpoint, due, admission.load_every_ms))
                self._asking[name] = task
                task.add_done_callback(lambda _, name=name: self._asking.pop(name, None))  # type: ignore[misc]

    def _endpoint(self, name: str) -> Endpoint | None:
        live = self._services.live
        assert live is not None
        provider = name.partition("#")[0]
        return next((e for e in live.endpoints.get(provider, ()) if e.name == name), None)

    async def _ask(self, endpoint: Endpoint, pages: list[str], every_ms: int) -> None:
        load: EngineLoad | None = None
        for page in pages:
            text = await self._page(endpoint, page)
            again_ms = every_ms if text is not None else max(every_ms, ABSENT_AGAIN_MS)
            self._due[endpoint.name, page] = after_ms(mono_ns(), again_ms)
            if text is None:
                continue
            load = with_slots(load or EngineLoad(), text) if page == "/slots" else load_of_metrics(text)
        if load is not None and load != EngineLoad():
            self._admission.heard(endpoint.name, load, mono_ns())
            self._services.engine_loads[endpoint.name] = load

    async def _page(self, endpoint: Endpoint, page: str) -> str | None:
        """The page's text; None when there is none."""
        why = ""
        try:
            request = UpstreamRequest(
                method="GET",
                url=root_of(endpoint) + page,
                headers=(("accept", "*/*"), ("user-agent", "headway"), *endpoint.headers(mono_ns())),
                body=b"",
                timeouts=endpoint.provider.timeouts,
                remaining_ms=ENGINE_LOAD_TIMEOUT_MS,
            )
            exchange = await self._services.upstream.exchange(request)
            try:
                body = await exchange.read(ENGINE_LOAD_BYTES_MAX)
                if exchange.status != 200:
                    why = f"answered {exchange.status}"
            finally:
                await exchange.close()
        except (UpstreamError, CallError) as error:
            why = str(error)
        key = (endpoint.name, page)
        if why:
            if key not in self._silent:
                self._silent.add(key)
                log.warning("engine %s does not tell its load at %s: %s; asked again each minute", endpoint.name, page, why)
            return None
        self._silent.discard(key)
        return body.decode("utf-8", "replace")


def root_of(endpoint: Endpoint) -> str:
    """The engine's address without the API's version."""
    version = endpoint.preset.version
    return endpoint.base_url.removesuffix(version) if version else endpoint.base_url
