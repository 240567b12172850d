"""Settings of admission that cannot be used are named before anything is scheduled: which key, why, what to do."""

import pytest

from headway.calls.admission.model import POLICIES, Capacity, EndpointAdmission, LongLane, Pacing, RunShare, Share
from headway.calls.admission.orders import ORDERS
from headway.calls.admission.problems import problems


def test_nothing_is_wrong_with_the_defaults() -> None:
    assert problems(EndpointAdmission(), {"acme": Share()}) == []


def test_every_named_order_is_there() -> None:
    assert tuple(name for name, _ in ORDERS) == POLICIES


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (EndpointAdmission(policy="lane"), "policy"),
        (EndpointAdmission(output_price=0.0), "output_price"),
        (EndpointAdmission(prompt_price=float("nan")), "prompt_price"),
        (EndpointAdmission(queued_max=0), "queued_max"),
        (EndpointAdmission(passes_max=-1), "passes_max"),
        (EndpointAdmission(wait_ms_max=-5.0), "wait_ms_max"),
        (EndpointAdmission(capacity=Capacity(requests_max=0)), "capacity.requests_max"),
        (EndpointAdmission(capacity=Capacity(tokens_max=0)), "capacity.tokens_max"),
        (EndpointAdmission(capacity=Capacity(tokens_per_minute=5)), "capacity.tokens_per_minute"),
        (EndpointAdmission(long=LongLane(requests_max=0)), "long.requests_max"),
        (EndpointAdmission(pacing=Pacing(piece_tokens_min=64, piece_tokens_max=32)), "pacing.piece_tokens_max"),
        (EndpointAdmission(pacing=Pacing(delay_factor_max=0.5)), "pacing.delay_factor_max"),
        (EndpointAdmission(run=RunShare(concurrency_max=0)), "run.concurrency_max"),
        (EndpointAdmission(run=RunShare(tokens_per_s=0.0)), "run.tokens_per_s"),
    ],
)
def test_an_endpoint_that_cannot_work_is_refused_by_its_key(settings: EndpointAdmission, key: str) -> None:
    assert [found for found, _ in problems(settings, {})] == [key]


@pytest.mark.parametrize(
    ("share", "key"),
    [
        (Share(weight=0.0), "acme.weight"),
        (Share(weight=-1.0), "acme.weight"),
        (Share(weight=float("inf")), "acme.weight"),
        (Share(floor_tokens=500, cap_tokens=100), "acme.cap_tokens"),
        (Share(cap_tokens=0), "acme.cap_tokens"),
        (Share(floor_tokens=-1), "acme.floor_tokens"),
        (Share(budget_tokens_per_day=0), "acme.budget_tokens_per_day"),
        (Share(on_overrun="stop"), "acme.on_overrun"),
        (Share(klass="slow"), "acme.class"),
    ],
)
def test_a_share_that_cannot_work_is_refused_by_its_key(share: Share, key: str) -> None:
    assert [found for found, _ in problems(EndpointAdmission(), {"acme": share})] == [key]


def test_the_nearest_order_is_named() -> None:
    [(_, message)] = problems(EndpointAdmission(policy="Lane"), {})
    assert 'did you mean "lanes"?' in message
