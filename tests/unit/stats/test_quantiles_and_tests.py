"""Numerics against what is known of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.stats.bootstrap import bootstrap, interval, resamples
from headway.stats.fdr import adjusted
from headway.stats.permutation import permutation_test, stratified_difference
from headway.stats.quantile import quantile, weighted_quantile, window_weights
from headway.stats.regression import median_line


def test_quantiles_are_linear_and_weights_count_as_copies() -> None:
    assert quantile([4, 1, 3, 2], 0.5) == 2.5
    assert quantile([10, 20], 0.99) == pytest.approx(19.9)
    assert weighted_quantile([1, 2, 3], [1, 1, 1], 0.5) == 2
    assert weighted_quantile([3, 1, 9], [2, 2, 0], 0.5) == 2
    assert weighted_quantile([1, 100], [99, 1], 0.4) == 1
    for bad in (([], []), ([1], [0]), ([1, 2], [1]), ([1, 2], [-1, 3])):
        with pytest.raises(ValueError, match="weights"):
            weighted_quantile(*bad, 0.5)
    with pytest.raises(ValueError, match="no quantile"):
        quantile([], 0.5)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 3_000), st.floats(0.01, 0.99))
def test_a_window_holds_enough_ranks_and_its_weights_sum_to_one(n: int, share: float) -> None:
    weights = window_weights(n, share, 30)
    assert weights.sum() == pytest.approx(1)
    assert (weights > 0).sum() >= min(n, 30)
    assert abs(int(weights.argmax()) - share * (n - 1)) <= 1


def test_a_bootstrap_interval_covers_the_mean_as_often_as_it_says() -> None:
    draw = np.random.default_rng(1)
    inside = 0
    for seed in range(200):
        values = draw.normal(10, 3, 60)
        low, high = interval(bootstrap(60, lambda at, v=values: np.asarray([v[at].mean()]), count=300, seed=seed))
        inside += bool(low[0] <= 10 <= high[0])
    assert 0.88 <= inside / 200 <= 0.99
    assert (resamples(5, 3, 7) == resamples(5, 3, 7)).all()
    assert resamples(5, 3, 7).shape == (3, 5)


def test_a_difference_is_found_within_strata_and_not_between_them() -> None:
    draw = np.random.default_rng(2)
    strata = np.repeat([0, 1], 100).astype(np.intp)
    second = np.concatenate([np.arange(100) < 20, np.arange(100) < 80])
    values = np.stack([strata * 50 + draw.normal(0, 1, 200), draw.normal(0, 1, 200) + 2 * second], axis=1)
    seen, p = permutation_test(values, second, strata, count=499, seed=3)
    assert abs(seen[0]) < 1
    assert p[0] > 0.05
    assert seen[1] == pytest.approx(2, abs=0.5)
    assert p[1] == pytest.approx(1 / 500)
    assert (stratified_difference(values, strata == 1, strata) == 0).all()


def test_p_values_under_no_difference_are_uniform() -> None:
    draw = np.random.default_rng(5)
    low = sum(
        permutation_test(draw.normal(size=(40, 1)), np.arange(40) < 20, np.zeros(40, dtype=np.intp), count=99, seed=seed)[1][0]
        <= 0.1
        for seed in range(200)
    )
    assert 6 <= low <= 36


def test_benjamini_and_hochberg_s_own_example() -> None:
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    found = adjusted(p)
    assert (found <= 0.05).sum() == 4
    assert found[3] == pytest.approx(0.0095 * 15 / 4)
    assert (np.diff(found) >= 0).all()
    assert list(adjusted([0.5, 0.01])) == [0.5, 0.02]
    assert adjusted([]).size == 0
    with pytest.raises(ValueError, match="between"):
        adjusted([1.5])


def test_a_median_line_is_not_bent_by_a_tenth_of_wild_points_and_never_falls() -> None:
    draw = np.random.default_rng(4)
    x = draw.uniform(100, 8_000, 500)
    y = 120 + 0.08 * x + draw.normal(0, 10, 500)
    y[:50] += 5_000
    line = median_line(x, y)
    assert line.slope == pytest.approx(0.08, rel=0.03)
    assert line.intercept == pytest.approx(122, abs=6)
    assert line.at(1_000) == pytest.approx(line.intercept + 1_000 * line.slope)
    assert median_line(x, 500 - 0.05 * x).slope == 0
    flat = median_line([5, 5, 5], [1, 2, 9])
    assert (flat.slope, flat.intercept, flat.n) == (0, 2, 3)
    exact = median_line([0, 1, 2, 3], [1, 3, 5, 7])
    assert (exact.slope, exact.intercept) == (pytest.approx(2), pytest.approx(1))
    for bad in (([], []), ([1], [1, 2]), ([1, np.inf], [1, 2])):
        with pytest.raises(ValueError, match="finite"):
            median_line(*bad)
