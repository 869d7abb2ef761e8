import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from compress.cluster.coded_bits import (
    budget_bits,
    codebook,
    coded_bits,
    density,
    entropy_bits,
    keep_within,
    nearest,
    short_floats,
)

values = npst.arrays(np.float64, st.integers(1, 200), elements=st.floats(-10, 10))
kernels = npst.arrays(
    np.float64, npst.array_shapes(min_dims=2, max_dims=4, max_side=6), elements=st.floats(0, 10, allow_subnormal=False)
)


@given(st.lists(kernels, min_size=1, max_size=3), st.floats(0, 500), st.floats(1, 8))
def test_what_is_kept_fits_the_budget(gains, bits, value_bits):
    kept = keep_within(gains, [gain > 5 for gain in gains], value_bits, bits)
    assert [mask.shape for mask in kept] == [gain.shape for gain in gains]
    if any(mask.any() for mask in kept):
        assert sum(coded_bits(mask, value_bits) for mask in kept) <= bits
    assert not any((mask & (gain <= 0)).any() for mask, gain in zip(kept, gains, strict=True))


def test_the_largest_gains_are_kept_first():
    gain = np.random.default_rng(0).permutation(600).reshape(20, 30) + 1.0
    kept = keep_within([gain], [np.ones((20, 30), np.bool_)], 3.0, 500.0)[0]
    assert 50 < kept.sum() < 200
    assert gain[kept].min() > gain[~kept].max()


def test_a_gain_where_others_are_costs_less():
    before = np.zeros((40, 40), np.bool_)
    before[:20] = True
    gain = np.where(before, 1.0, 1.5)
    assert keep_within([gain], [before], 2.0, 1800.0)[0][:20].all()


def test_coded_bits_are_near_the_entropy():
    kept = np.random.default_rng(0).random((200, 300)) < 0.05
    p = kept.mean()
    ideal = -kept.size * (p * np.log2(p) + (1 - p) * np.log2(1 - p)) + 3 * kept.sum()
    assert coded_bits(kept, 3.0) == pytest.approx(ideal, rel=0.03)


@given(npst.arrays(np.bool_, npst.array_shapes(min_dims=2, max_dims=4, max_side=8)))
def test_densities_are_probabilities(kept):
    p = density(kept)
    assert p.shape == kept.shape
    assert ((p > 0) & (p < 1)).all()


def test_density_knows_rows_and_columns():
    kept = np.zeros((50, 60), np.bool_)
    kept[10:20, 30:] = True
    p = density(kept)
    assert p[15, 45] > 0.8
    assert p[15, 5] < 0.05
    assert p[30, 45] < 0.1


@given(values, st.integers(2, 16))
def test_codebooks_are_sorted_and_lie_within(weights, clusters):
    centres = codebook(weights, clusters)
    assert centres.shape == (clusters,)
    assert (np.diff(centres) >= 0).all()
    assert weights.min() - 1e-9 <= centres[0]
    assert centres[-1] <= weights.max() + 1e-9


@given(values, st.integers(2, 8))
def test_a_round_of_lloyd_does_not_raise_the_error(weights, clusters):
    before = codebook(weights, clusters, rounds=0)
    after = codebook(weights, clusters, before, rounds=1)
    error = [float(np.square(weights - nearest(weights, centres)).sum()) for centres in (before, after)]
    assert error[1] <= error[0] + 1e-9


def test_few_values_are_their_own_codebook():
    weights = np.repeat([-2.0, 0.5, 3.0], 40)
    np.testing.assert_allclose(nearest(weights, codebook(weights, 3)), weights)


@given(npst.arrays(np.float32, st.integers(0, 50), elements=st.floats(-(2.0**60), 2.0**60, width=32)))
def test_short_floats_keep_eight_bits(numbers):
    short = short_floats(numbers)
    assert not (short.view(np.uint32) & 0xFFFF).any()
    np.testing.assert_allclose(short, numbers, rtol=2**-8, atol=1e-38)


def test_budgets_fall_to_the_ratio():
    bits = [budget_bits(step, 10, 16, 100, 4) for step in range(15)]
    assert bits[0] == 400
    assert bits[5] == pytest.approx(100 * (2 + 2 / 8))
    assert bits[10:] == [200] * 5
    assert all(b <= a for a, b in itertools.pairwise(bits))


def test_entropy_of_symbols():
    assert entropy_bits(np.array([1, 1, 2, 2])) == 1
    assert entropy_bits(np.array([7, 7])) == 0
