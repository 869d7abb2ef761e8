import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from compress.lowrank.factors import product, rank_for, singular_values, svd, tucker2

values = st.floats(-4, 4, width=32)
matrices = npst.arrays(np.float64, npst.array_shapes(min_dims=2, max_dims=2, max_side=7), elements=values)
kernels = npst.arrays(np.float64, npst.array_shapes(min_dims=3, max_dims=4, max_side=5), elements=values)


@given(matrices, st.integers(1, 7))
def test_svd_loses_exactly_the_singular_values_it_drops(matrix, rank):
    left, right = svd(matrix, rank)
    lost = np.sum(np.square(matrix - left @ right))
    dropped = np.sum(np.square(singular_values(matrix, 0)[rank:]))
    assert lost == pytest.approx(dropped, abs=1e-9)


@given(kernels)
def test_full_rank_is_exact(kernel):
    again = product(*tucker2(kernel, (kernel.shape[-2], kernel.shape[-1])))
    assert again == pytest.approx(kernel, abs=1e-9)


@given(kernels, st.integers(1, 5), st.integers(1, 5))
def test_tucker_loses_no_more_than_both_truncations_drop(kernel, into, out):
    """The bound of the truncated decomposition (De Lathauwer et al., 2000, property 10) still holds."""
    into, out = min(into, kernel.shape[-2]), min(out, kernel.shape[-1])
    factors = tucker2(kernel, (into, out))
    lost = np.sum(np.square(kernel - product(*factors)))
    dropped = sum(np.sum(np.square(singular_values(kernel, axis)[rank:])) for axis, rank in ((-2, into), (-1, out)))
    assert lost <= dropped + 1e-9


@given(matrices, st.floats(0.01, 1))
def test_rank_for_is_the_least_that_keeps_the_energy(matrix, energy):
    spectrum = singular_values(matrix, 0)
    rank = rank_for(spectrum, energy)
    squares = np.square(spectrum)
    assert 1 <= rank <= len(spectrum)
    if squares.sum() > 1e-12:
        assert squares[:rank].sum() >= energy * squares.sum() * (1 - 1e-12)
        assert rank == 1 or squares[: rank - 1].sum() < energy * squares.sum() * (1 + 1e-12)


def test_a_kernel_of_low_rank_is_found_again():
    rng = np.random.default_rng(0)
    kernel = product(rng.normal(size=(12, 3)), rng.normal(size=(3, 3, 3, 4)), rng.normal(size=(4, 16)))
    assert [rank_for(singular_values(kernel, axis), 1 - 1e-12) for axis in (-2, -1)] == [3, 4]
    assert product(*tucker2(kernel, (3, 4))) == pytest.approx(kernel)
