import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetool.verify import score_interval


@pytest.mark.parametrize(
    ("worse", "better", "n", "level", "low", "high"),
    [
        # Fagerland, Lydersen and Laake, "Recommended tests and confidence intervals for paired binomial
        # proportions", Statistics in Medicine 33, 2014: airway hyper-responsiveness (Bentur et al., 2009).
        (1, 7, 21, 0.95, -0.517, -0.026),
        # R's PropCIs::scoreci.mp(25, 28, 618), 90 %.
        (28, 25, 618, 0.90, -0.0148, 0.0247),
    ],
)
def test_published_intervals(worse, better, n, level, low, high):
    digits = 3 if n == 21 else 4
    assert tuple(round(bound, digits) for bound in score_interval.interval(worse, better, n, level)) == (low, high)


def test_wilson_agrees_with_published_values():
    """Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17, 1998."""
    for successes, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)):
        assert score_interval.wilson(successes, n) == pytest.approx((low, high), abs=5e-5)
    assert score_interval.wilson(20, 20) == pytest.approx((1 - 0.1611, 1), abs=5e-5)


counts = st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 400)).filter(lambda c: sum(c) > 0)


@settings(deadline=None, max_examples=60)
@given(counts)
def test_bounds_solve_the_score_equation_and_mirror(cells):
    worse, better, n = cells[0], cells[1], sum(cells)
    low, high = score_interval.interval(worse, better, n)
    assert -1 <= low < high <= 1
    assert low <= (worse - better) / n <= high
    mirrored = score_interval.interval(better, worse, n)
    assert mirrored == pytest.approx((-high, -low), abs=1e-12)
    if low > -1 and high < 1:
        assert score_interval.score(worse, better, n, high) == pytest.approx(-1.959964, abs=1e-4)
        assert score_interval.score(worse, better, n, low) == pytest.approx(1.959964, abs=1e-4)


def test_no_difference_at_all_still_has_a_bound():
    bound = score_interval.upper_bound(0, 0, np.array([100, 1000, 10000]))
    np.testing.assert_allclose(bound, 2.706 / (np.array([100, 1000, 10000]) + 2.706), rtol=1e-3)


@pytest.mark.parametrize(("n", "limit"), [(200, 0.05), (1000, 0.02)])
@pytest.mark.parametrize("better", [0.0, 0.01, 0.05])
def test_level_computed_exactly_from_the_trinomial(n, limit, better):
    """Every table with its probability: the bound lies within a true difference at most 5.2 % of the time."""
    from math import lgamma, log

    share = better + limit
    low, high = max(0, int(n * share) - 60), int(n * share) + 60
    b, c = np.meshgrid(np.arange(low, high), np.arange(0, 1 if better == 0 else int(n * better) + 50), indexing="ij")
    rest = n - b - c
    factorial = np.array([lgamma(k + 1) for k in range(n + 1)])
    logs = factorial[n] - factorial[b] - factorial[c] - factorial[rest]
    logs = logs + b * log(share) + (c * log(better) if better else 0) + rest * log(1 - share - better)
    chances = np.exp(logs)
    assert chances.sum() == pytest.approx(1, abs=1e-6)
    passed = score_interval.upper_bound(b, c, n) <= limit
    assert 0.02 < chances[passed].sum() < 0.052
