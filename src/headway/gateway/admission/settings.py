"""From ``headway.toml`` to what admission is told: endpoints that are shared, and what each tenant is entitled to."""

from collections.abc import Mapping
from typing import Final

from headway.calls.admission.model import Capacity, EndpointAdmission, LongLane, Pacing, RunShare, Share
from headway.config.model import Admission, Provider, Settings, Tenant
from headway.config.presets import preset_of
from headway.gateway.live import Live
from headway.kernel.limits import CALLS_IN_FLIGHT_MAX

PACED_PRESETS: Final = frozenset({"llama.cpp", "vllm", "sglang"})
"""Engines of one's own with a prefix cache that is on by default, where a piece costs nothing but its time."""
UNSHARED: Final = EndpointAdmission(policy="fcfs", capacity=Capacity(requests_max=1_000_000), refuse=False)
"""Of an endpoint whose table was taken away while calls waited there: they go at once."""


def endpoints_of(live: Live) -> dict[str, EndpointAdmission]:
    """By endpoint name, of each provider that has an admission table. Replicas are shared one by one."""
    return {
        endpoint.name: settings
        for name, provider in live.settings.providers.items()
        if (settings := admission_of(provider)) is not None
        for endpoint in live.endpoints[name]
    }


def admission_of(provider: Provider) -> EndpointAdmission | None:
    """What holds at each endpoint of a provider; None without an admission table."""
    told = provider.admission
    if told is None:
        return None
    return EndpointAdmission(
        policy=told.policy,
        prompt_price=told.prompt_price,
        output_price=told.output_price,
        capacity=_capacity(provider, told),
        long=LongLane(
            prompt_tokens_over=told.long.prompt_tokens_over,
            requests_max=told.long.requests_max,
            engine_step_share=told.long.engine_step_share or told.priority,
        ),
        pacing=_pacing(provider, told),
        run=RunShare(
            concurrency_max=told.run.concurrency_max, tokens_per_s=told.run.tokens_per_s, burst_tokens=told.run.burst_tokens
        ),
        passes_max=told.passes_max,
        passes_ms_max=told.passes_ms_max,
        age_ms_max=told.age_ms_max,
        queued_max=told.queued_max,
        queued_per_tenant_max=min(told.queued_per_tenant_max, told.queued_max),
        wait_ms_max=told.wait_ms_max,
        refuse=told.refuse,
    )


def shares_of(settings: Settings) -> Mapping[str, Share]:
    return {name: _share(tenant) for name, tenant in settings.tenants.items()}


def _capacity(provider: Provider, told: Admission) -> Capacity:
    capacity = told.capacity
    hosted = capacity.hosted if capacity.hosted is not None else not preset_of(provider).port
    most = capacity.requests_max
    if most is None:
        most = CALLS_IN_FLIGHT_MAX if hosted else Capacity().requests_max
    return Capacity(
        hosted=hosted,
        requests_max=most,
        tokens_max=capacity.tokens_max,
        requests_per_minute=capacity.requests_per_minute,
        tokens_per_minute=capacity.tokens_per_minute,
    )


def _pacing(provider: Provider, told: Admission) -> Pacing:
    pacing = told.pacing
    return Pacing(
        on=pacing.on if pacing.on is not None else provider.preset in PACED_PRESETS,
        stall_ms=pacing.stall_ms,
        piece_tokens_min=pacing.piece_tokens_min,
        piece_tokens_max=pacing.piece_tokens_max,
        prefill_tokens_per_s=pacing.prefill_tokens_per_s,
        delay_factor_max=pacing.delay_factor_max,
    )


def _share(tenant: Tenant) -> Share:
    """A budget whose overrun cuts is held by leases, exactly and over all gateways; admission need not know of it."""
    by_admission = tenant.on_overrun != "cut"
    return Share(
        weight=tenant.weight,
        klass=tenant.klass,
        floor_tokens=tenant.floor_tokens,
        cap_tokens=tenant.cap_tokens,
        budget_tokens_per_day=tenant.budget_tokens_per_day if by_admission else None,
        on_overrun=tenant.on_overrun,
    )
