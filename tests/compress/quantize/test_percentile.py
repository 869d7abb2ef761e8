"""The range of a given share."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.quantize.percentile import percentile_range


def test_known_quantiles_of_a_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(size=2_000_000)
    counts, _ = np.histogram(values, 4096, (-8, 8))
    low, high = percentile_range(counts, 8.0, 0.99)
    assert abs(low + 2.576) < 0.02  # the normal distribution's 0.5 % quantile
    assert abs(high - 2.576) < 0.02


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.floats(0.5, 0.99999))
def test_at_least_the_share_lies_inside(seed: int, share: float) -> None:
    values = np.random.default_rng(seed).normal(size=5000)
    counts, _ = np.histogram(values, 512, (-6, 6))
    low, high = percentile_range(counts, 6.0, share)
    assert np.mean((values >= low) & (values <= high)) >= share - 1e-9


def test_an_empty_histogram_gives_everything() -> None:
    assert percentile_range(np.zeros(16, np.int64), 2.0) == (-2.0, 2.0)
