"""The levels of benchmarks/smaller_and_faster.py."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.smaller_and_faster import on_levels


@given(st.integers(0, 63).map(lambda half: 2 * half + 1), st.integers(0, 2**32 - 1))
def test_int8_keeps_the_levels_apart(levels: int, seed: int) -> None:
    kernel = np.random.default_rng(seed).normal(size=(3, 3, 4, 5)).astype(np.float32)
    made = on_levels(kernel, levels)
    largest = np.abs(kernel).max(axis=(0, 1, 2))
    assert np.all(np.abs(made - kernel) <= largest / levels / 2 + 1e-6)
    in_bytes = np.round(made / largest * 127)
    assert len(np.unique(in_bytes)) <= 2 * levels + 1
    np.testing.assert_allclose(np.round(in_bytes / 127 * levels) / levels * largest, made, atol=1e-5)


def test_a_channel_without_weights_stays_so() -> None:
    kernel = np.zeros((2, 3), np.float32)
    kernel[0, 1] = 2
    np.testing.assert_array_equal(on_levels(kernel, 3), kernel)
