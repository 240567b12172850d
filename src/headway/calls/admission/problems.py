"""What is wrong with settings of admission, as (key, what and what to do): asked when the configuration is read, before anything is scheduled.

Keys are dotted from the endpoint's table (``capacity.requests_max``) and from the table of shares (``acme.weight``).
"""

import difflib
import math
from collections.abc import Iterator, Mapping

import msgspec

from headway.calls.admission.model import POLICIES, Capacity, EndpointAdmission, LongLane, Pacing, RunShare, Share

OVERRUNS = ("demote", "pause", "cut")
CLASSES = ("interactive", "batch")

Problem = tuple[str, str]


def problems(settings: EndpointAdmission, shares: Mapping[str, Share]) -> list[Problem]:
    """Everything that is wrong, in the order of the keys. Empty: it can be used."""
    return [*endpoint_problems(settings), *(problem for name, share in shares.items() for problem in share_problems(name, share))]


def endpoint_problems(settings: EndpointAdmission) -> Iterator[Problem]:
    if settings.policy not in POLICIES:
        yield "policy", f'"{settings.policy}" is not an order{did_you_mean(settings.policy)}; there are {", ".join(POLICIES)}'
    yield from _positive(
        settings, ("prompt_price", "output_price", "age_ms_max", "queued_max", "queued_per_tenant_max", "wait_ms_max")
    )
    yield from _not_negative(settings, ("passes_max", "passes_ms_max"))
    yield from _under("capacity", _capacity(settings.capacity))
    yield from _under("long", _long(settings.long))
    yield from _under("pacing", _pacing(settings.pacing))
    yield from _under("run", _run(settings.run))


def share_problems(name: str, share: Share) -> Iterator[Problem]:
    yield from _under(name, _share(share))


def did_you_mean(policy: str) -> str:
    near = difflib.get_close_matches(policy.lower(), POLICIES, 1, 0.5)
    return f'; did you mean "{near[0]}"?' if near else ""


def _capacity(capacity: Capacity) -> Iterator[Problem]:
    if capacity.requests_max < 1:
        yield "requests_max", f"{capacity.requests_max} requests at once are no capacity; give 1 or more"
    yield from _positive(capacity, ("tokens_max", "requests_per_minute", "tokens_per_minute"))
    if not capacity.hosted and (capacity.requests_per_minute is not None or capacity.tokens_per_minute is not None):
        key = "requests_per_minute" if capacity.requests_per_minute is not None else "tokens_per_minute"
        yield key, "limits by the minute hold at hosted endpoints only; set hosted = true, or leave them out"


def _long(long: LongLane) -> Iterator[Problem]:
    yield from _positive(long, ("prompt_tokens_over",))
    if long.requests_max < 1:
        yield "requests_max", f"with {long.requests_max} long prompts at once none would ever be sent; give 1 or more"


def _pacing(pacing: Pacing) -> Iterator[Problem]:
    yield from _positive(pacing, ("stall_ms", "piece_tokens_min"))
    yield from _not_negative(pacing, ("prefill_tokens_per_s",))
    if pacing.piece_tokens_max < pacing.piece_tokens_min:
        yield (
            "piece_tokens_max",
            f"{pacing.piece_tokens_max} is under piece_tokens_min = {pacing.piece_tokens_min}; swap or raise it",
        )
    if not pacing.delay_factor_max >= 1.0:
        yield (
            "delay_factor_max",
            f"{pacing.delay_factor_max:g}: a prompt in pieces cannot come sooner than by itself; give 1 or more",
        )


def _run(run: RunShare) -> Iterator[Problem]:
    if run.concurrency_max < 1:
        yield "concurrency_max", f"with {run.concurrency_max} children at once no run would ever go on; give 1 or more"
    yield from _positive(run, ("tokens_per_s", "burst_tokens"))


def _share(share: Share) -> Iterator[Problem]:
    if not (share.weight > 0 and math.isfinite(share.weight)):
        yield "weight", f"{share.weight:g} is no weight: a tenant of none would never be served; give a number over 0"
    if share.klass not in CLASSES:
        yield "class", f'"{share.klass}" is not a class; classes: {", ".join(CLASSES)}'
    yield from _not_negative(share, ("floor_tokens",))
    yield from _positive(share, ("cap_tokens", "budget_tokens_per_day"))
    if share.cap_tokens is not None and 0 < share.cap_tokens < share.floor_tokens:
        yield (
            "cap_tokens",
            f"{share.cap_tokens} is under floor_tokens = {share.floor_tokens}: the floor could never be reached; raise the cap",
        )
    if share.on_overrun not in OVERRUNS:
        yield "on_overrun", f'"{share.on_overrun}" is none of {", ".join(OVERRUNS)}'


def _positive(table: msgspec.Struct, keys: tuple[str, ...]) -> Iterator[Problem]:
    for key in keys:
        value = getattr(table, key)
        if value is not None and not (value > 0 and math.isfinite(value)):
            yield key, f"{value:g} is not over 0"


def _not_negative(table: msgspec.Struct, keys: tuple[str, ...]) -> Iterator[Problem]:
    for key in keys:
        value = getattr(table, key)
        if not (value >= 0 and math.isfinite(value)):
            yield key, f"{value:g} is negative or no number"


def _under(table: str, found: Iterator[Problem]) -> Iterator[Problem]:
    for key, problem in found:
        yield f"{table}.{key}", problem
