"""Pruning by |w dL/dw|: what matters to the loss stays, however small it is, and an interrupted fit ends the same."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from compress.prune.pruner import Schedule
from compress.prune.taylor import MEMORY, TaylorPruner, importance
from compress.training import Batch, FineTune, fine_tune

SIZE = 32


def batch(key: int) -> Batch:
    """x [32, 6] whose first two entries are large and whose last four are small; y is of the small ones only."""
    x = np.random.default_rng(key).normal(size=(SIZE, 6)) * [0.01, 0.01, 9, 9, 9, 9]
    return {"x": x.astype(np.float32)}, (x[:, 2:] @ [0.1, -0.1, 0.1, -0.1])[:, None].astype(np.float32)


def model() -> Any:
    """One dense layer: its two largest weights read inputs that are next to nothing."""
    import keras

    keras.utils.set_random_seed(0)
    x = keras.Input((6,), name="x")
    made = keras.Model(x, keras.layers.Dense(1, name="out")(x))
    made.get_layer("out").set_weights(
        [np.array([[0.9], [0.8], [0.1], [-0.1], [0.1], [-0.09]], np.float32), np.zeros(1)]
    )
    return made


def train(epoch: int) -> Iterator[Batch]:
    return (batch(100 * epoch + place) for place in range(20))


def fitted(epochs: int, checkpoint: Path | None = None, *, stop: int | None = None) -> tuple[Any, TaylorPruner]:
    made, pruner = model(), TaylorPruner(Schedule(1 / 3), lambda step: batch(10_000 + step), "mse")

    def progress(done: int, total: int, loss: float) -> None:
        if done == stop:
            raise KeyboardInterrupt

    fine_tune(made, train, 20, "mse", [pruner], FineTune(epochs, 1e-3, SIZE), progress, checkpoint=checkpoint)
    return made, pruner


def test_importance_is_a_moving_mean_of_weight_times_gradient() -> None:
    weights, gradient = np.array([2.0, -3.0, 0.0]), np.array([-1.0, 0.5, 9.0])
    scores: npt.NDArray[Any] = np.zeros(3)
    for _ in range(400):
        scores = importance(scores, weights, gradient)
    assert scores == pytest.approx([2.0, 1.5, 0.0], rel=1e-3)
    assert importance(np.ones(3), weights, gradient)[2] == pytest.approx(MEMORY)


def test_large_weights_that_do_not_matter_go() -> None:
    made, _ = fitted(2)
    kernel = made.get_layer("out").get_weights()[0].ravel()
    assert kernel[:2].tolist() == [0, 0]
    assert np.all(np.abs(kernel[2:]) > 0.05)


def test_an_interrupted_fit_ends_the_same(tmp_path: Path) -> None:
    whole, _ = fitted(3)
    with pytest.raises(KeyboardInterrupt):
        fitted(3, tmp_path, stop=30)
    resumed, _ = fitted(3, tmp_path)
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        assert np.array_equal(one, other)
