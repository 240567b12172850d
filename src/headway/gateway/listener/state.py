"""What all connections of one listener share: its limits, its counters, who holds how many connections, and one sweep.

Deadlines are held by one periodic walk over all connections instead of a timer each: arming and cancelling a timer for
every request costs more than the walk, and a deadline late by a quarter of a second harms nobody.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from headway.config.model import Limits
from headway.kernel.limits import CONNECTIONS_REFUSED_MAX, LISTENER_SWEEP_MS, LISTENER_SWEEP_SLICE

SLICE_GAP_S = 0.001


class Swept(Protocol):
    def sweep(self, now: float, step: float) -> None:
        """Act on deadlines that have passed. ``now`` is the loop's time, ``step`` the seconds since the sweep before."""
        ...


class ListenerCounters:
    """Read by metrics. ``refused`` and ``closed`` count by reason; reasons are a fixed set of words."""

    __slots__ = ("closed", "connections_open", "connections_total", "refused", "requests_total")

    def __init__(self) -> None:
        self.connections_open = 0
        self.connections_total = 0
        self.requests_total = 0
        self.refused: dict[str, int] = {}
        """Requests and connections turned away, by the code of the refusal."""
        self.closed: dict[str, int] = {}
        """Connections ended by a deadline of ours: idle, head, body, body_rate, send_stall, linger."""

    def refuse(self, code: str) -> None:
        self.refused[code] = self.refused.get(code, 0) + 1

    def close(self, deadline: str) -> None:
        self.closed[deadline] = self.closed.get(deadline, 0) + 1


class ListenerState:
    """Shared by the connections of one listener; lives on its loop's thread."""

    def __init__(self, limits: Limits, counters: ListenerCounters) -> None:
        self.limits = limits
        self.counters = counters
        self.draining = False
        self.head_deadline_s = limits.head_deadline_ms / 1e3
        self.body_deadline_s = limits.body_deadline_ms / 1e3
        self.send_stall_s = limits.send_stall_ms / 1e3
        self.keep_alive_idle_s = limits.keep_alive_idle_ms / 1e3
        self._by_address: dict[str, int] = {}
        self._sweep_handle: asyncio.TimerHandle | None = None
        self._last_sweep = 0.0

    def enter(self, address: str) -> str | None:
        """Count a connection in; the code of a refusal when a cap is reached. Each ``enter`` has one ``leave``."""
        self.counters.connections_total += 1
        self.counters.connections_open += 1
        held = self._by_address.get(address, 0) + 1
        self._by_address[address] = held
        if self.counters.connections_open > self.limits.connections_max:
            return "connections_max"
        if held > self.limits.connections_per_address_max:
            return "connections_per_address_max"
        return None

    @property
    def flooded(self) -> bool:
        """So many are being told that there are too many that the next ones are cut without a word."""
        return self.counters.connections_open > self.limits.connections_max + CONNECTIONS_REFUSED_MAX

    def leave(self, address: str) -> None:
        self.counters.connections_open -= 1
        held = self._by_address[address] - 1
        if held:
            self._by_address[address] = held
        else:
            del self._by_address[address]

    def start_sweeping(self, loop: asyncio.AbstractEventLoop, connections: Callable[[], Iterable[Swept]]) -> None:
        """Walk over ``connections()`` until ``stop_sweeping``; four times within the shortest deadline at least.

        A walk goes in slices, with other work of the loop between them: thousands of connections must not hold up one that is healthy.
        """
        shortest = min(self.head_deadline_s, self.body_deadline_s, self.send_stall_s, self.keep_alive_idle_s)
        interval = min(LISTENER_SWEEP_MS / 1e3, shortest / 4)
        self._last_sweep = loop.time()

        def begin() -> None:
            now = loop.time()
            step, self._last_sweep = now - self._last_sweep, now
            walk(list(connections()), now, step)

        def walk(rest: list[Swept], now: float, step: float) -> None:
            for connection in rest[-LISTENER_SWEEP_SLICE:]:
                connection.sweep(now, step)
            del rest[-LISTENER_SWEEP_SLICE:]
            if rest:
                self._sweep_handle = loop.call_later(SLICE_GAP_S, walk, rest, now, step)
            else:
                self._sweep_handle = loop.call_later(interval, begin)

        self._sweep_handle = loop.call_later(interval, begin)

    def stop_sweeping(self) -> None:
        if self._sweep_handle is not None:
            self._sweep_handle.cancel()
            self._sweep_handle = None
