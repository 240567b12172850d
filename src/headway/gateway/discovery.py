"""Asks providers that name no models what they can call, so that ``/v1/models`` lists what is really there. Off the path of any call."""

import asyncio
import logging
from collections.abc import MutableMapping

import msgspec

from headway.gateway.live import MODEL_NAME_SAFE, Endpoint
from headway.gateway.services import Services
from headway.gateway.upstream.port import UpstreamError, UpstreamRequest
from headway.kernel.errors import CallError
from headway.kernel.instants import mono_ns
from headway.kernel.limits import MODELS_LISTED_MAX

log = logging.getLogger(__name__)
AGAIN_S = 300.0
AFTER_FAILURE_S = 15.0
LISTING_BYTES_MAX = 4 * 1024 * 1024


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


_decoder: msgspec.json.Decoder[_Models] = msgspec.json.Decoder(_Models)


class Discovery:
    """Fills ``listed``; a provider that does not answer keeps what it listed before."""

    def __init__(self, services: Services, listed: MutableMapping[str, tuple[str, ...]]) -> None:
        self._services, self._listed = services, listed
        self._changed = asyncio.Event()

    def settings_changed(self) -> None:
        self._changed.set()

    async def run(self) -> None:
        while True:
            self._changed.clear()
            good = await self._ask_all()
            try:
                async with asyncio.timeout(AGAIN_S if good else AFTER_FAILURE_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _ask_all(self) -> bool:
        live = self._services.live
        if live is None:
            return False
        endpoints = [e[0] for name, e in live.endpoints.items() if not live.settings.providers[name].models]
        results = await asyncio.gather(*(self._ask(e) for e in endpoints))
        return all(results)

    async def _ask(self, endpoint: Endpoint) -> bool:
        try:
            request = UpstreamRequest(
                method="GET",
                url=endpoint.url("/v1/models", ""),
                headers=(("accept", "application/json"), ("user-agent", "headway"), *endpoint.headers(mono_ns())),
                body=b"",
                timeouts=endpoint.provider.timeouts,
                remaining_ms=10_000,
            )
            exchange = await self._services.upstream.exchange(request)
            try:
                body = await exchange.read(LISTING_BYTES_MAX)
                if exchange.status != 200:
                    log.warning("provider %s answered %s when asked for its models", endpoint.provider_name, exchange.status)
                    return False
            finally:
                await exchange.close()
            names = [m.id for m in _decoder.decode(body).data if MODEL_NAME_SAFE.fullmatch(m.id)]
        except (UpstreamError, CallError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("provider %s does not say what it can call: %s", endpoint.provider_name, error)
            return False
        self._listed[endpoint.provider_name] = tuple(names[:MODELS_LISTED_MAX])
        return True
