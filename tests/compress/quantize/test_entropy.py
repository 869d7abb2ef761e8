"""The threshold of least divergence."""

import numpy as np
import pytest

from compress.quantize.entropy import LEVELS, entropy_threshold


def _counts(values: np.ndarray, end: float) -> np.ndarray:
    return np.histogram(np.abs(values), 2048, (0, end))[0]


def test_a_uniform_distribution_is_not_clipped() -> None:
    values = np.random.default_rng(0).uniform(0, 1, 1_000_000)
    assert entropy_threshold(_counts(values, 1.0)) > 0.95


def test_outliers_far_from_the_body_are_clipped() -> None:
    values = np.random.default_rng(0).normal(size=1_000_000)
    values[:10] = 50.0
    threshold = entropy_threshold(_counts(values, 50.0)) * 50.0
    assert 2.5 < threshold < 10.0


@pytest.mark.parametrize("top", [1, 5, LEVELS])
def test_as_many_levels_as_bins_need_no_clipping(top: int) -> None:
    counts = np.zeros(2048, np.int64)
    counts[:top] = 7
    assert entropy_threshold(counts) == top / 2048


def test_many_exact_zeros_of_relu_do_not_matter() -> None:
    counts = _counts(np.random.default_rng(0).exponential(size=100_000), 12.0)
    more = counts.copy()
    more[0] += 10_000_000
    assert entropy_threshold(more) == entropy_threshold(counts)


def test_an_empty_histogram_is_left_whole() -> None:
    assert entropy_threshold(np.zeros(2048, np.int64)) == 1.0
