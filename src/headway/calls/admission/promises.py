"""Places kept for callers that were told when to come again: a Retry-After that is true.

A refused call comes back as a new call; it is known by what it asks (tenant, feature, sizes, prefix). Each promise keeps a place in its
tenant's queue until a grace after it was due. Whoever comes at the time is let in before newcomers; whoever comes early is a newcomer.
"""

from collections import deque

from headway.calls.admission.state import Tenant
from headway.kernel.instants import NS_PER_MS, MonoNs, after_ms
from headway.kernel.limits import ADMISSION_PROMISES_MAX

Print = tuple[str, str, int, int | None, int]
EARLY_MS = 50.0
GRACE_MS_MIN = 5_000.0
GRACE_SHARE = 0.5


class _Promise:
    __slots__ = ("cost", "due", "ends", "open", "print", "tenant")

    def __init__(self, tenant: Tenant, print: Print, cost: float, due: MonoNs, ends: MonoNs) -> None:
        self.tenant, self.print, self.cost, self.due, self.ends = tenant, print, cost, due, ends
        self.open = True


class Promises:
    __slots__ = ("_by_age", "_by_print", "kept", "made")

    def __init__(self) -> None:
        self._by_age: deque[_Promise] = deque()
        self._by_print: dict[Print, deque[_Promise]] = {}
        self.made = self.kept = 0

    def make(self, tenant: Tenant, print: Print, cost: float, wait_ms: float, now: MonoNs) -> None:
        if len(self._by_age) >= ADMISSION_PROMISES_MAX:
            self._end(self._by_age.popleft())
        due = after_ms(now, wait_ms)
        promise = _Promise(tenant, print, cost, due, after_ms(due, max(GRACE_MS_MIN, wait_ms * GRACE_SHARE)))
        self._by_age.append(promise)
        self._by_print.setdefault(print, deque()).append(promise)
        tenant.promises += 1
        tenant.promised_tokens += cost
        self.made += 1

    def keep(self, print: Print, now: MonoNs) -> bool:
        """Whether a call that asks ``print`` comes as promised; then its place is its own from now on."""
        self.expire(now)
        waiting = self._by_print.get(print)
        if not waiting or now < waiting[0].due - EARLY_MS * NS_PER_MS:
            return False
        self._end(waiting[0])
        self.kept += 1
        return True

    def expire(self, now: MonoNs) -> None:
        by_age = self._by_age
        while by_age and (not by_age[0].open or by_age[0].ends <= now):
            self._end(by_age.popleft())

    def _end(self, promise: _Promise) -> None:
        if not promise.open:
            return
        promise.open = False
        tenant = promise.tenant
        tenant.promises -= 1
        tenant.promised_tokens = max(0.0, tenant.promised_tokens - promise.cost) if tenant.promises else 0.0
        waiting = self._by_print[promise.print]
        waiting.remove(promise)
        if not waiting:
            del self._by_print[promise.print]
