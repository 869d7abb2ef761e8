"""Small models that several tests convert; each is built once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

Feeds = dict[str, Any]


@pytest.fixture(scope="session")
def images() -> Any:
    """64 inputs [1, 8, 8, 1] in [-1, 1]."""
    return np.random.default_rng(0).uniform(-1, 1, (64, 8, 8, 1)).astype(np.float32)


def network(api: Any) -> Any:
    """A small CNN in either Keras: image [8, 8, 1] -> scores [3], with spread logits."""
    layers = api.layers
    api.utils.set_random_seed(1)
    image = layers.Input((8, 8, 1), name="image")
    x = layers.Conv2D(8, 3, use_bias=False)(image)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = layers.DepthwiseConv2D(3)(x)
    x = layers.Flatten()(x)
    return api.Model(image, layers.Dense(3, name="scores", kernel_initializer="he_normal")(x))


@pytest.fixture(scope="session")
def keras_cnn() -> Any:
    import keras

    return network(keras)


@pytest.fixture(scope="session")
def legacy_cnn() -> Any:
    import tf_keras

    return network(tf_keras)


@pytest.fixture(scope="session")
def keras_file(keras_cnn: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keras") / "cnn.keras"
    keras_cnn.save(path)
    return path
