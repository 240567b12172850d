"""The masking alarm fires where the pooled figure hides a part that is late, and nowhere else."""

import random
from math import comb

import pytest

from headway.calls.admission.objectives import CALLS_MIN, DEFAULTS, Objective, Part, at_least, masking, objective_of, wilson


def part(kind: str, name: str, calls: int, broken: int, allowed: float = 0.05) -> Part:
    return Part(kind=kind, name=name, calls=calls, broken=broken, allowed_share=allowed)


def test_it_fires_where_a_small_class_drowns_in_a_large_one() -> None:
    found = masking(part("all", "", 10_000, 120), [part("class", "batch", 9_700, 20), part("class", "chat", 300, 100)])
    assert found.pooled.state == "kept"
    assert [(p.name, p.state) for p in found.masked] == [("chat", "masked")]
    assert found.over == found.masked
    figure = found.masked[0].broken_share
    assert figure.value == pytest.approx(1 / 3)
    assert figure.n == 300
    assert figure.low is not None
    assert figure.low > 0.05


def test_a_breach_that_everybody_sees_is_no_masking() -> None:
    found = masking(part("all", "", 1_000, 400), [part("class", "chat", 900, 395), part("class", "batch", 100, 5)])
    assert found.pooled.state == "over"
    assert [(p.name, p.state) for p in found.parts] == [("chat", "over"), ("batch", "kept")]
    assert found.masked == ()


def test_few_calls_tell_nothing() -> None:
    found = masking(part("all", "", 5_000, 0), [part("tenant", "new", CALLS_MIN - 1, CALLS_MIN - 1)])
    assert found.parts[0].state == "cannot tell"
    assert masking(part("all", "", 0, 0), []).pooled.broken_share.value is None


def test_at_its_allowance_a_class_has_kept_its_objective() -> None:
    assert masking(part("all", "", 1_000, 50), [part("class", "chat", 1_000, 50)]).over == ()
    assert masking(part("all", "", 1_000, 50), [part("class", "chat", 1_000, 64)]).over == (), "within chance"


def test_a_quiet_control_of_many_tenants_alarms_at_most_once_in_a_hundred_looks() -> None:
    """Fifty tenants that all just keep their objective: 5 % late, 5 % allowed."""
    rng, fired, looks = random.Random(11), 0, 200
    for _ in range(looks):
        parts = [part("tenant", str(i), 120, sum(rng.random() < 0.05 for _ in range(120))) for i in range(50)]
        pooled = part("all", "", sum(p.calls for p in parts), sum(p.broken for p in parts))
        fired += bool(masking(pooled, parts).over)
    assert fired <= 0.03 * looks


def test_one_late_tenant_among_fifty_is_found() -> None:
    parts = [part("tenant", str(i), 200, 4) for i in range(49)] + [part("tenant", "late", 200, 50)]
    pooled = part("all", "", sum(p.calls for p in parts), sum(p.broken for p in parts))
    assert [p.name for p in masking(pooled, parts).masked] == ["late"]


def test_objectives_by_default_and_configured() -> None:
    assert objective_of("interactive", {}) == Objective(klass="interactive", first_token_ms=DEFAULTS["interactive"], assumed=True)
    assert objective_of("whatever", {}).first_token_ms == DEFAULTS["interactive"]
    own = Objective(klass="batch", first_token_ms=9_000, share=0.9)
    assert objective_of("batch", {"batch": own}) == own


def test_the_chance_of_so_many_is_exact() -> None:
    assert at_least(10, 10, 0.5) == pytest.approx(0.5**10)
    assert at_least(9, 10, 0.5) == pytest.approx(11 / 1024)
    by_hand = sum(comb(120, k) * 0.05**k * 0.95 ** (120 - k) for k in range(14, 121))
    assert at_least(14, 120, 0.05) == pytest.approx(by_hand)
    assert at_least(5, 100, 0.05) == 1.0
    assert at_least(1, 100, 0.0) == 0.0
    assert at_least(52_000, 1_000_000, 0.05) < 1e-15


def test_wilsons_interval() -> None:
    assert wilson(0, 0, 1.96) == (0.0, 1.0)
    assert wilson(0, 50, 1.96)[0] == 0.0
    assert wilson(50, 50, 1.96)[1] == 1.0
    low, high = wilson(10, 100, 1.959964)
    assert (low, high) == pytest.approx((0.0552, 0.1744), abs=1e-4)  # Newcombe 1998, method 3
