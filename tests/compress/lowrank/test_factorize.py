"""Low-rank factorization of real Keras 3 models, held against the kernels that the factors stand for."""

import numpy as np
import pytest

from compress.lowrank.factorize import LowRank, factorize
from compress.lowrank.factors import product
from edge.errors import BadModel, CheckFailed


def network(keras):
    """Strided, dilated and 1x1 convolutions, a layer used twice, and dense layers; kernels are of low rank."""
    layers = keras.layers
    image = keras.Input((12, 12, 8), name="image")
    x = layers.Conv2D(32, 3, strides=2, padding="same", activation="relu", name="strided")(image)
    x = layers.Conv2D(32, 1, strides=2, activation="relu", name="pointwise")(x)
    twice = layers.Conv2D(32, 3, padding="same", dilation_rate=2, name="twice")
    x = layers.Add()([twice(twice(x)), x])
    x = layers.Flatten()(layers.DepthwiseConv2D(3, name="depthwise")(x))
    x = layers.Dense(24, activation="relu", name="hidden")(x)
    model = keras.Model(image, layers.Dense(4, activation="softmax", name="out")(x))
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if layer.name in ("strided", "pointwise", "twice", "hidden"):
            *places, n_in, n_out = layer.kernel.shape
            low = product(rng.normal(size=(n_in, 4)), rng.normal(size=(*places, 4, 4)), rng.normal(size=(4, n_out)))
            layer.kernel.assign(low / np.sqrt(low[..., 0].size) / 4)
            layer.bias.assign(rng.normal(size=n_out))
    return model


@pytest.fixture(scope="module")
def model():
    import keras

    keras.utils.set_random_seed(0)
    return network(keras)


def test_kernels_of_low_rank_are_found_and_nothing_is_lost(model):
    made = factorize(model, LowRank(energy=1 - 1e-9))
    assert made.ranks == {"strided": (4, 4), "pointwise": (4, 4), "twice": (4, 4), "hidden": (4, 4)}
    x = np.random.default_rng(1).normal(size=(3, 12, 12, 8)).astype(np.float32)
    assert made.model(x).numpy() == pytest.approx(model(x).numpy(), abs=1e-5)
    whole, left = made.macs
    assert left < 0.5 * whole
    assert {entry.what for entry in made.skipped} == {"depthwise", "out"}
    names = {layer.name for layer in made.model.layers}
    assert {"strided_in", "strided_core", "strided", "pointwise_in", "pointwise", "hidden_in", "hidden"} <= names
    assert sum(layer.name.startswith("twice") for layer in made.model.layers) == 3


def test_the_budget_is_met_and_the_file_opens_again(model, tmp_path):
    import keras

    before = [weight.numpy() for weight in model.weights]
    made = factorize(model, LowRank(macs=0.25, multiple=1))
    assert made.macs[1] <= 0.25 * made.macs[0]
    assert made.difference <= 1e-5
    assert all(np.array_equal(one, weight.numpy()) for one, weight in zip(before, model.weights, strict=True))
    made.model.save(tmp_path / "model.keras")
    x = np.random.default_rng(1).normal(size=(3, 12, 12, 8)).astype(np.float32)
    assert np.array_equal(keras.models.load_model(tmp_path / "model.keras")(x).numpy(), made.model(x).numpy())


def test_sequential_models_of_one_dimension():
    import keras

    layers = keras.layers
    steps = [keras.Input((10, 16)), layers.Conv1D(32, 3, name="conv"), layers.GlobalMaxPooling1D(), layers.Dense(3)]
    made = factorize(keras.Sequential(steps), LowRank(macs=0.6))
    assert made.macs[1] <= 0.6 * made.macs[0]
    assert set(made.ranks) == {"conv"}


def test_what_cannot_gain_is_said():
    import keras

    layers = keras.layers
    tiny = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.Dense(2)])
    with pytest.raises(CheckFailed, match=r"cannot reach 0\.7 of the MACs: least ranks everywhere leave 1"):
        factorize(tiny, LowRank())
    with pytest.raises(CheckFailed, match="save no MACs anywhere"):
        factorize(tiny, LowRank(energy=0.9))
    grouped = keras.Sequential(
        [
            keras.Input((8, 8, 32)),
            layers.Conv2D(32, 3, groups=2, name="two"),
            layers.Flatten(),
            layers.Dense(32, name="wide"),
        ]
    )
    made = factorize(grouped, LowRank(macs=0.9))
    assert {entry.what: entry.reason for entry in made.skipped} == {"two": "it has 2 groups of channels"}

    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(BadModel, match="class Own is not a graph of layers"):
        factorize(Own(), LowRank())
    for wrong in ({"macs": 1.0}, {"energy": 0.0}, {"multiple": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            LowRank(**wrong)
