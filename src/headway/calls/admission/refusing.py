"""Who is refused before it queues, why, and when it should come again.

Retry-After is the upper end of the forecast wait, behind everybody who was told to come again before; a place is kept for who comes then
(``promises.py``). Coming again is of no use where a call is larger than its tenant's cap.
"""

from typing import NamedTuple, Protocol

from headway.calls.admission.days import Days
from headway.calls.admission.forecast import Wait
from headway.calls.admission.model import EndpointAdmission
from headway.calls.admission.promises import Print, Promises
from headway.calls.admission.state import Call, Tenant
from headway.calls.model import Arrived
from headway.kernel.instants import MonoNs, ms_between


class Refused(NamedTuple):
    """``retry_after_ms`` None: coming again does not help."""

    reason: str
    message: str
    retry_after_ms: int | None


class Line(Protocol):
    """What is asked of an endpoint's scheduler."""

    settings: EndpointAdmission
    days: Days
    promises: Promises
    queued: int

    def wait_of(self, tenant: Tenant, cost: float, now: MonoNs, *, long: bool = False, promised: bool = False) -> Wait: ...


def refusal(line: Line, call: Call, event: Arrived, now: MonoNs) -> Refused | None:
    """None: it may queue; then ``call.forecast`` says how long it should wait."""
    tenant, settings = call.tenant, line.settings
    if line.days.overrun(tenant.name) == "cut":
        left = None if line.days.ends_at is None else int(ms_between(now, line.days.ends_at))
        return Refused("token_budget", f"tenant {tenant.name} has used its tokens of this day; they begin anew when it ends", left)
    if tenant.cap is not None and call.cost > tenant.cap:
        return Refused(
            "over_cap",
            f"this call may cost {call.cost:.0f} tokens, more than tenant {tenant.name} may have in flight ({tenant.cap}); "
            "send a shorter prompt or a smaller max_tokens",
            None,
        )
    print = _print(tenant, event)
    promised = bool(tenant.promises) and line.promises.keep(print, now)
    call.forecast = wait = line.wait_of(tenant, call.cost, now, long=call.long, promised=promised)
    why = _over_bounds(line, tenant, promised)
    if not why and settings.refuse:
        why = _too_late(settings.wait_ms_max, call, wait, promised, now)
    if not why:
        return None
    retry_ms = max(1, int(wait.high) + 1)
    line.promises.make(tenant, print, call.cost, retry_ms, now)
    return Refused("overloaded", f"{why}; come again in {retry_ms / 1000:.1f} s", retry_ms)


def _over_bounds(line: Line, tenant: Tenant, promised: bool) -> str:
    if line.queued >= line.settings.queued_max:
        return f"{line.queued} calls wait here, the most there may be"
    places = line.settings.queued_per_tenant_max - (0 if promised else tenant.promises)
    if tenant.queued >= places:
        return f"{tenant.queued} calls of tenant {tenant.name} wait here, and places for {tenant.promises} more are promised"
    return ""


def _too_late(limit_ms: float | None, call: Call, wait: Wait, promised: bool, now: MonoNs) -> str:
    if call.deadline_at is not None and wait.low > (left_ms := ms_between(now, call.deadline_at)):
        return f"this call would wait {wait.low / 1000:.1f} s or longer, and its deadline comes in {left_ms / 1000:.1f} s"
    if limit_ms is not None and not promised and wait.low > limit_ms:
        return f"this call would wait {wait.low / 1000:.1f} s or longer, more than the {limit_ms / 1000:.1f} s that are allowed"
    return ""


def _print(tenant: Tenant, event: Arrived) -> Print:
    return (
        tenant.name,
        event.feature,
        event.prompt_tokens_estimate,
        event.output_tokens_max,
        event.prefix_hashes[-1] if event.prefix_hashes else 0,
    )
