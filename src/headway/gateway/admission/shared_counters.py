"""Virtual token counters that gateways share, in Valkey or Redis: one Lua script, one round trip an exchange.

Installed by the extra ``headway[shared]`` and imported only where ``[shared] url`` is set. An exchange that fails is sent again as it was, under
its number, so that one whose answer was lost is not counted twice. Nothing here is on the way of a call.
"""

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple, Protocol, cast

from headway.calls.admission.others import Others
from headway.kernel.errors import HeadwayError
from headway.kernel.limits import SHARED_GATEWAY_ALIVE_MS, SHARED_KEPT_S, SHARED_TIMEOUT_MS

SCRIPT = "shared_counters.lua"
FIELDS_OF_OTHERS = 7


class StoreAway(HeadwayError):
    """The store did not answer in time, or not as it should."""


class Told(NamedTuple):
    """One tenant: where its counter stood when this gateway last saw it, the least it must be raised to, what is added after that."""

    base: float
    least: float | None
    delta: float


class Exchange(NamedTuple):
    """``number`` grows by one an exchange, and stays for one that is sent again. ``own`` is what this gateway has at the endpoint."""

    number: int
    own: Others
    told: Mapping[str, Told]


class Store(Protocol):
    async def exchange(self, endpoint: str, exchange: Exchange) -> tuple[Others, dict[str, float]]:
        """What the others have, and each tenant's counter as it now stands. StoreAway."""
        ...

    async def close(self) -> None: ...


class RedisStore:
    """Made inside the loop that uses it. Every command has SHARED_TIMEOUT_MS."""

    def __init__(self, url: str, gateway: str, *, prefix: str) -> None:
        try:
            from redis import asyncio as redis  # noqa: PLC0415 - an extra; whoever shares nothing does without
            from redis import exceptions  # noqa: PLC0415
        except ImportError as error:
            raise HeadwayError("[shared] url needs the Redis client: install headway[shared]") from error
        seconds = SHARED_TIMEOUT_MS / 1000
        try:
            self._client = redis.Redis.from_url(
                url, socket_timeout=seconds, socket_connect_timeout=seconds, retry=None, decode_responses=True, max_connections=2
            )
        except ValueError as error:
            raise HeadwayError("[shared] url is none that the Redis client knows: redis://, rediss:// or unix://") from error
        self._failures = (exceptions.RedisError, OSError, TimeoutError)
        self._script = self._client.register_script((resources.files("headway.gateway.admission") / SCRIPT).read_text())
        self._gateway, self._prefix = gateway, prefix

    async def exchange(self, endpoint: str, exchange: Exchange) -> tuple[Others, dict[str, float]]:
        own = exchange.own
        arguments: list[str | int | float] = [self._gateway, exchange.number, SHARED_GATEWAY_ALIVE_MS, SHARED_KEPT_S]
        arguments += [
            own.requests,
            repr(own.tokens),
            own.long,
            own.queued,
            repr(own.weight),
            "" if own.least is None else repr(own.least),
        ]
        for tenant, told in exchange.told.items():
            arguments += [tenant, repr(told.base), "" if told.least is None else repr(told.least), repr(told.delta)]
        # One hash tag for both keys: on a cluster they live in one slot, as a script wants.
        keys = [f"{self._prefix}{{{endpoint}}}:counters", f"{self._prefix}{{{endpoint}}}:gateways"]
        try:
            answer = cast("Sequence[str]", await cast("Any", self._script(keys=keys, args=arguments)))
            return _others(answer), dict(zip(exchange.told, map(float, answer[FIELDS_OF_OTHERS:]), strict=True))
        except self._failures as error:
            raise StoreAway(f"the shared store did not answer: {type(error).__name__}") from error
        except (ValueError, IndexError) as error:
            raise StoreAway("the shared store answered with something else; is its key prefix used by another program?") from error

    async def close(self) -> None:
        await self._client.aclose()


def _others(answer: Sequence[str]) -> Others:
    gateways, running, tokens, long, queued, weight, least = answer[:FIELDS_OF_OTHERS]
    return Others(
        gateways=int(gateways),
        requests=int(running),
        tokens=float(tokens),
        long=int(long),
        queued=int(queued),
        weight=float(weight),
        least=float(least) if least else None,
    )
