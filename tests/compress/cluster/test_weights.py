"""Clustering of tf_keras layers, trained for a few steps."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tf_keras

from compress.cluster.weights import Clustered, WeightClustering, cluster, strip
from compress.tf_keras_training import fine_tune_tf_keras
from compress.training import FineTune
from edge.errors import CheckFailed, UnknownName

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(64, 8, 8, 3)).astype(np.float32)
LABELS = (IMAGES.mean((1, 2, 3)) > 0).astype(np.int64)


def net() -> Any:
    layers = tf_keras.layers
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(0)
    image = layers.Input((8, 8, 3), name="image")
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(8, 3, name="stem")(image))
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.SeparableConv2D(8, 3, name="separable")(x)
    shared = layers.Dense(8, name="shared")
    x = layers.Reshape((4, 8))(layers.Add()([shared(x), shared(x)]))
    x = layers.GRU(6, name="gru")(x)
    return tf_keras.Model(image, layers.Dense(2, activation="softmax", name="label")(x))


def batches(_epoch: int) -> Iterator[Any]:
    for start in range(0, 64, 16):
        yield {"image": IMAGES[start : start + 16]}, LABELS[start : start + 16]


def trained(clustered: Clustered, learning_rate: float = 1e-2) -> list[float]:
    losses: list[float] = []
    fine_tune_tf_keras(
        clustered.model,
        batches,
        4,
        ("crossentropy", "softmax"),
        FineTune(2, learning_rate),
        lambda _done, _total, loss: losses.append(loss),
    )
    return losses


def values(model: Any, layer: str, name: str) -> Any:
    return next(v for v in model.get_layer(layer).weights if v.name.endswith(f"{name}:0")).numpy()


def test_kernels_are_left_with_few_values_and_still_learn() -> None:
    settings = WeightClustering(6, depthwise=True)
    clustered = cluster(net(), settings)
    losses = trained(clustered)
    model = strip(clustered, settings)
    assert losses[-1] < losses[0]
    kernels = {
        "stem": "kernel",
        "depthwise": "depthwise_kernel",
        "separable": "pointwise_kernel",
        "shared": "kernel",
        "gru": "recurrent_kernel",
        "label": "kernel",
    }
    for layer, name in kernels.items():
        assert 2 <= np.unique(values(model, layer, name)).size <= 6, layer
    assert np.unique(values(model, "separable", "depthwise_kernel")).size > 6
    assert [entry.what for entry in clustered.skipped] == ["cluster.weights: norm"]
    np.testing.assert_allclose(model(IMAGES), clustered.model(IMAGES), atol=1e-6)


@pytest.mark.parametrize("init", ["linear", "density_based", "random"])
def test_each_initialization_per_channel(init: Any) -> None:
    settings = WeightClustering(4, init, per_channel=True, preserve_sparsity=False, layers=("stem",))
    model = strip(cluster(net(), settings), settings)
    kernel = values(model, "stem", "kernel")
    assert max(np.unique(kernel[..., channel]).size for channel in range(8)) <= 4
    assert np.unique(kernel).size > 4
    assert np.unique(values(model, "shared", "kernel")).size > 4


def test_zeros_stay() -> None:
    model = net()
    layer = model.get_layer("shared")
    kernel, bias = layer.get_weights()
    pruned = np.abs(kernel) < np.quantile(np.abs(kernel), 0.6)
    layer.set_weights([np.where(pruned, 0, kernel), bias])
    settings = WeightClustering(5)
    clustered = cluster(model, settings)
    trained(clustered)
    after = values(strip(clustered, settings), "shared", "kernel")
    assert np.all(after[pruned] == 0)
    assert np.unique(after).size <= 5


def test_what_cannot_be_clustered_is_named() -> None:
    clustered = cluster(net(), WeightClustering(16))
    said = {entry.what.partition(": ")[2]: entry.reason for entry in clustered.skipped}
    assert "depthwise = true" in said["depthwise"]
    assert said["label"] == "it has 12 weights for 16 values"
    with pytest.raises(UnknownName, match="'stemm'"):
        cluster(net(), WeightClustering(4, layers=("stemm",)))
    with pytest.raises(CheckFailed, match=r"nothing to cluster in model 'model': .*norm: normalization"):
        cluster(net(), WeightClustering(4, layers=("norm",)))
    frozen = net()
    frozen.trainable = False
    with pytest.raises(CheckFailed, match="stem: it is not trained"):
        cluster(frozen, WeightClustering(4))


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        WeightClustering(2)
    with pytest.raises(ValueError, match="init must be one of"):
        WeightClustering(init="kmeans")  # type: ignore[arg-type]  # what is tested


def test_divergence_is_said() -> None:
    clustered = cluster(net(), WeightClustering(4))
    with pytest.raises(CheckFailed, match=r"NaN or infinite|loss became"):
        trained(clustered, 1e30)
