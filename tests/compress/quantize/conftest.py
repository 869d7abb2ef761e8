"""One small trained network as a float .tflite and as a float .onnx, and what runs either."""

import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.engines import open_engine, predict

Samples = Callable[[], Iterator[dict[str, Any]]]


@pytest.fixture(scope="session")
def network() -> Any:
    """image [16, 16, 1] -> scores [4]: the class is the quadrant of a bright spot; about 3,000 weights, trained."""
    import keras

    keras.utils.set_random_seed(3)
    images, labels = spots(512, 1)
    layers = keras.layers
    image = keras.Input((16, 16, 1), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.ReLU()(layers.DepthwiseConv2D(3, padding="same")(x))
    x = layers.ReLU()(layers.Conv2D(16, 1)(x))
    x = layers.Dense(16, activation="relu")(layers.Flatten()(layers.MaxPooling2D(2)(x)))
    model = keras.Model(image, layers.Dense(4, name="scores")(x))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images, labels, batch_size=32, epochs=4, verbose=0)
    return model


def spots(n: int, seed: int) -> tuple[Any, Any]:
    """Noisy images with one bright spot and the quadrant it is in."""
    rng = np.random.default_rng(seed)
    images = rng.normal(0, 0.2, (n, 16, 16, 1)).astype(np.float32)
    rows, columns = rng.integers(0, 16, n), rng.integers(0, 16, n)
    images[np.arange(n), rows, columns] += 3.0
    return images, (rows // 8) * 2 + columns // 8


@pytest.fixture(scope="session")
def litert(network: Any) -> bytes:
    from convert.to_litert import to_litert

    return to_litert(network, "float32", None)


@pytest.fixture(scope="session")
def onnx(network: Any) -> bytes:
    from convert.to_onnx import to_onnx

    return to_onnx(network)


@pytest.fixture(scope="session")
def calibration() -> Samples:
    images, _ = spots(64, 2)
    return lambda: ({"image": image[None]} for image in images)


def outputs(model: bytes, kind: Any, n: int = 100) -> Any:
    """Scores [n, 4] of a model on images it was neither trained nor calibrated on."""
    engine = open_engine(model, kind)
    result = np.concatenate([predict(engine, {"image": image[None]})["scores"] for image in spots(n, 9)[0]])
    engine.close()
    return result


def sqnr_db(wanted: Any, got: Any) -> float:
    """10 log10(signal power / error power)."""
    return float(10 * np.log10(np.square(wanted).sum() / np.square(wanted - got).sum()))


def rss_bytes() -> int:
    """Resident memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.fixture(scope="session")
def uneven(network: Any) -> bytes:
    """The network as a .tflite with a channel that is always 0 and meets depthwise weights that are huge: one scale for
    all of them ruins the others, as in trained MobileNets. Its input and output are harmless.
    """
    import keras

    from convert.to_litert import to_litert

    model = keras.models.clone_model(network)
    model.set_weights(network.get_weights())
    normalization = next(layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization))
    depthwise = next(layer for layer in model.layers if isinstance(layer, keras.layers.DepthwiseConv2D))
    gamma, beta, *moving = normalization.get_weights()
    gamma[0], beta[0] = 0.0, -1.0
    normalization.set_weights([gamma, beta, *moving])
    kernel, bias = depthwise.get_weights()
    kernel[:, :, 0] = 100.0
    depthwise.set_weights([kernel, bias])
    return to_litert(model, "float32", None)
