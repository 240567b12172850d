"""Virtual token counters: service over weight, one for each tenant of an endpoint. The port behind which gateways share them.

A decision reads and charges the local copy, at once. ``SharedCounters`` beside it notes what was charged here; somebody else carries that
to a store now and then, and brings back what other gateways charged. No decision ever waits for that.
"""

from itertools import islice
from typing import Protocol

Words = tuple[float, float | None, float]
"""Of one tenant: its counter without what is told now, the least it must be raised to, what is to be added then."""


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

    To reconcile: ``words, cursor = telling(most, cursor)``; the store raises each counter to its ``least``, then adds its delta, and answers with
    its values; ``merge(values)``. Words whose answer never came are told again by whoever told them: nothing is lost, and each gateway goes on
    by its own copy meanwhile.
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

    def telling(self, most: int, cursor: int) -> tuple[dict[str, Words], int]:
        """Words about ``most`` tenants: first those with news, then others in turn from ``cursor`` on, since they may have news elsewhere."""
        told: dict[str, Words] = {}
        for tenant in islice({**self._deltas, **self._leasts}, most):
            delta = self._deltas.pop(tenant, 0.0)
            told[tenant] = (self._values[tenant] - delta, self._leasts.pop(tenant, None), delta)
        names = list(self._values)
        start = cursor % len(names) if names else 0
        for tenant in islice(names[start:] + names[:start], max(0, most - len(told))):
            told.setdefault(tenant, (self._values[tenant] - self._deltas.get(tenant, 0.0), None, 0.0))
        return told, start + max(0, most - len(told))

    def merge(self, values: dict[str, float]) -> None:
        """The store's values, to which what was charged here since ``telling`` is added."""
        for tenant, value in values.items():
            self._values[tenant] = value + self._deltas.get(tenant, 0.0)
