"""An endpoint as it is shown: who waits, who runs, who pays."""

from headway.calls.admission.model import EndpointView, TenantView
from headway.calls.admission.place import Place
from headway.calls.admission.state import Rank, State, Tenant
from headway.kernel.instants import MonoNs, ms_between


def view_of(place: Place, now: MonoNs) -> EndpointView:
    """Costs a pass over what is queued: for a second's beat, not for each call."""
    scheduler, room = place.scheduler, place.scheduler.room
    oldest: dict[str, MonoNs] = {}
    for call in scheduler.calls.values():
        if call.state is State.QUEUED:
            name = call.tenant.name
            oldest[name] = min(oldest.get(name, call.arrived_at), call.arrived_at)
    raw_ms = scheduler.forecast.raw_ms(scheduler.standing.waiting_tokens, room.requests_max)
    wait = scheduler.forecast.interval(raw_ms, long=False)
    return EndpointView(
        endpoint=place.name,
        policy=place.settings.policy,
        submitted=scheduler.submitted,
        queued=scheduler.queued,
        running=scheduler.running,
        done=scheduler.done,
        refused=scheduler.refused,
        evicted=scheduler.evicted,
        in_flight_tokens=float(room.tokens),
        tokens_max=room.tokens_max,
        requests_max=float(room.requests_max),
        long_queued=scheduler.long_queued,
        long_running=room.long_running,
        paced_pieces=place.pacing.pieces,
        pacing=place.pacing.state(now, pacing=bool(place.paced)),
        wait_forecast_ms=wait.middle,
        wait_forecast_low_ms=wait.low,
        wait_forecast_high_ms=wait.high,
        shared=scheduler.standing.counters.mode,
        tenants=tuple(_tenant(place, tenant, oldest.get(tenant.name), now) for tenant in scheduler.tenants.values()),
        usage_missing=scheduler.usage_missing,
        usage_refused=scheduler.usage_refused,
    )


def _tenant(place: Place, tenant: Tenant, oldest: MonoNs | None, now: MonoNs) -> TenantView:
    return TenantView(
        tenant=tenant.name,
        weight=tenant.weight,
        queued=tenant.queued,
        running=tenant.running,
        outstanding_tokens=tenant.outstanding,
        served_tokens=tenant.served,
        counter_tokens=place.scheduler.standing.read(tenant),
        oldest_wait_ms=0.0 if oldest is None else ms_between(oldest, now),
        demoted=tenant.rank is Rank.DEMOTED,
    )
