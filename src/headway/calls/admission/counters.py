"""Virtual token counters: service over weight, one for each tenant of an endpoint. The port behind which gateways share them.

A decision reads and charges the local copy, at once. ``SharedCounters`` beside it notes what was charged here; somebody else carries that
to a store now and then, and brings back what other gateways charged. No decision ever waits for that.
"""

from typing import Protocol


class Counters(Protocol):
    """One endpoint's. ``mode`` is ``local``, ``shared``, or ``degraded`` while the store is away."""

    mode: str

    def read(self, tenant: str) -> float: ...

    def charge(self, tenant: str, tokens: float) -> None:
        """``tokens`` over weight; negative is a refund."""
        ...

    def lift(self, tenant: str, least: float) -> float:
        """Up to ``least`` where it stands lower. Returns where it stands now."""
        ...

    def forget(self, tenant: str) -> None: ...


class LocalCounters:
    """This gateway's alone."""

    __slots__ = ("_values",)
    mode = "local"

    def __init__(self) -> None:
        self._values: dict[str, float] = {}

    def read(self, tenant: str) -> float:
        return self._values.get(tenant, 0.0)

    def charge(self, tenant: str, tokens: float) -> None:
        self._values[tenant] = self._values.get(tenant, 0.0) + tokens

    def lift(self, tenant: str, least: float) -> float:
        value = self._values.get(tenant, 0.0)
        if value < least:
            self._values[tenant] = value = least
        return value

    def forget(self, tenant: str) -> None:
        self._values.pop(tenant, None)


class SharedCounters:
    """A local copy, and what has not been told to the others yet.

    To reconcile: ``taken = take()``; the store adds each delta and raises each counter to its ``least``, and answers with its values;
    ``merge(values)``. ``give_back(taken)`` when the store could not be reached: nothing is lost, each gateway goes on by itself.
    """

    __slots__ = ("_deltas", "_leasts", "_values", "mode")

    def __init__(self) -> None:
        self.mode = "degraded"
        self._values: dict[str, float] = {}
        self._deltas: dict[str, float] = {}
        self._leasts: dict[str, float] = {}

    def read(self, tenant: str) -> float:
        return self._values.get(tenant, 0.0)

    def charge(self, tenant: str, tokens: float) -> None:
        self._values[tenant] = self._values.get(tenant, 0.0) + tokens
        self._deltas[tenant] = self._deltas.get(tenant, 0.0) + tokens

    def lift(self, tenant: str, least: float) -> float:
        value = self._values.get(tenant, 0.0)
        if value < least:
            self._values[tenant] = value = least
            # Raised before the deltas that are still to come: the store does it in that order.
            self._leasts[tenant] = least - self._deltas.get(tenant, 0.0)
        return value

    def forget(self, tenant: str) -> None:
        if tenant not in self._deltas and tenant not in self._leasts:
            self._values.pop(tenant, None)

    def take(self) -> dict[str, tuple[float | None, float]]:
        """What to tell the store: tenant -> (raise to at least this or None, then add this)."""
        taken = {t: (self._leasts.get(t), self._deltas.get(t, 0.0)) for t in {*self._deltas, *self._leasts}}
        self._deltas, self._leasts = {}, {}
        return taken

    def give_back(self, taken: dict[str, tuple[float | None, float]]) -> None:
        for tenant, (least, delta) in taken.items():
            self._deltas[tenant] = self._deltas.get(tenant, 0.0) + delta
            if least is not None:
                self._leasts[tenant] = max(least, self._leasts.get(tenant, least))

    def merge(self, values: dict[str, float]) -> None:
        """The store's values, to which what was charged here since ``take`` is added."""
        for tenant, value in values.items():
            self._values[tenant] = value + self._deltas.get(tenant, 0.0)
