"""Integers and scales whose outputs are nearest: never worse than rounding to nearest, on the grid, and scale-free."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.quantize.rounding import round_with_feedback


def layer(seed: int, outputs: int = 5, k: int = 12) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Weights [2, outputs, k] and the second moments [2, k, k] of correlated inputs."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(2, 200, k)) @ (rng.normal(size=(2, k, k)) + np.eye(k))
    return rng.normal(size=(2, outputs, k)) * 10.0 ** rng.integers(-6, 4), mixed.transpose(0, 2, 1) @ mixed / 200


def cost(change: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(np.einsum("goi,gij,goj->go", change, second, change))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), largest=st.sampled_from([7, 127]))
def test_outputs_change_less_than_by_rounding_to_nearest(seed: int, largest: int) -> None:
    weights, second = layer(seed)
    integers, scales = round_with_feedback(weights, second, largest)
    assert np.abs(integers).max() <= largest
    step = np.abs(weights).max(axis=2) / largest
    nearest = np.rint(weights / step[..., None]) * step[..., None]
    before = cost(nearest - weights, second).sum()
    assert cost(integers * scales[..., None].astype(np.float64) - weights, second).sum() < before


def test_error_feedback_is_worth_a_bit() -> None:
    weights, second = layer(0, outputs=64)
    plain, plain_scales = round_with_feedback(weights, None, 7)
    fed, fed_scales = round_with_feedback(weights, second, 7)
    errors = [cost(q * s[..., None].astype(np.float64) - weights, second).sum() for q, s in
              ((plain, plain_scales), (fed, fed_scales))]  # fmt: skip
    assert errors[1] < 0.6 * errors[0]


def test_without_moments_the_error_of_the_weights_is_least() -> None:
    weights, _ = layer(1, outputs=64, k=100)
    integers, scales = round_with_feedback(weights, None, 7)
    widest = np.abs(weights).max(axis=2) / 7
    clipless = np.rint(weights / widest[..., None]) * widest[..., None]
    error = np.square(integers * scales[..., None] - weights).sum()
    assert error < 0.9 * np.square(clipless - weights).sum()


@pytest.mark.parametrize("second", [None, np.eye(4)[None]])
def test_zeros_stay_zeros_and_weights_on_the_grid_stay(second: npt.NDArray[np.float64] | None) -> None:
    weights = np.array([[[0.0, 0.0, 0.0, 0.0], [7.0, -3.0, 0.0, 1.0]]])
    integers, scales = round_with_feedback(weights, second, 7)
    assert integers.tolist() == weights.astype(int).tolist()
    assert scales[0, 1] == pytest.approx(1.0)
    assert scales[0, 0] > 0
