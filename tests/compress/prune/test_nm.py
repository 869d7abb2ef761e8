import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.prune.nm import INPUTS, mask, nm_pruner
from compress.prune.pruner import Schedule
from compress.training import FineTune, fine_tune
from edge.errors import CheckFailed


@given(st.integers(1, 3), st.integers(2, 6), st.integers(1, 3), st.integers(1, 4), st.integers(0, 9))
def test_every_group_keeps_its_n_largest(n, m, groups, outputs, seed):
    n = min(n, m - 1)
    weights = np.random.default_rng(seed).normal(size=(3, groups * m, outputs))
    kept = mask(weights, 1 - n / m, n, m)
    assert kept.shape == weights.shape
    for spot in range(3):
        for output in range(outputs):
            for group in range(groups):
                lie = slice(group * m, (group + 1) * m)
                values, keeps = np.abs(weights[spot, lie, output]), kept[spot, lie, output]
                assert keeps.sum() == n
                assert values[keeps].min() >= values[~keeps].max()


def test_the_schedule_takes_weights_one_by_one():
    weights = np.array([[1.0], [4.0], [2.0], [3.0]])
    assert [int((~mask(weights, sparsity, 2, 4)).sum()) for sparsity in (0.0, 0.25, 0.5, 0.9)] == [0, 1, 2, 2]
    assert mask(weights, 0.5, 2, 4)[:, 0].tolist() == [False, True, False, True]


def test_a_fit_ends_in_the_form_and_names_what_does_not_fit():
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(8, 3, activation="relu", name="stem")(inputs)
    x = keras.layers.Conv2D(6, 3, activation="relu", name="body")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(3, name="head")(x))
    rng = np.random.default_rng(0)
    images, labels = rng.random((40, 8, 8, 3), np.float32), rng.integers(0, 3, 40)
    summary = fine_tune(
        model, lambda _: iter([({"image": images}, labels)] * 5), 5, "crossentropy",
        [nm_pruner(Schedule(0.5, frequency_steps=1), 2, 4)], FineTune(2), lambda *_: None,
    ).transforms[0]  # fmt: skip
    assert summary.figures == {"body/kernel": 0.5}
    kernel = model.get_layer("body").kernel.numpy()
    groups = np.moveaxis(kernel, INPUTS, -1).reshape(-1, 4)
    assert (np.count_nonzero(groups, axis=1) == 2).all()
    said = {entry.what: entry.reason for entry in summary.skipped}
    assert said["prune.nm: stem/kernel"] == "its 3 inputs are no multiple of 4"
    assert said["prune.nm: head/kernel"] == "its 6 inputs are no multiple of 4"


def test_nothing_that_fits_is_refused_with_the_reason():
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    with pytest.raises(CheckFailed, match=r"nothing to prune.*its 3 inputs are no multiple of 4"):
        nm_pruner(Schedule(0.5), 2, 4).begin(model)
