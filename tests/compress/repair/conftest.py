"""A small net of inverted residuals whose channels have very different ranges, as a float .tflite, with its inputs."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from edge.engines import open_engine, predict


@pytest.fixture(scope="session")
def uneven() -> bytes:
    """Image [12, 12, 2] -> scores [5]; a channel's gain is between 1/30 and 30, which per-tensor int8 cannot hold."""
    import keras

    from convert.to_litert import to_litert

    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((12, 12, 2), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="stem")(image)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise")(x)
    start = layers.Conv2D(6, 1, name="pointwise")(x)
    x = layers.Conv2D(12, 1, activation="relu", name="expand")(start)
    x = layers.DepthwiseConv2D(3, strides=2, depth_multiplier=2, activation="relu", name="twofold")(x)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 1, activation="relu", name="project")(x))
    y = layers.GlobalAveragePooling2D()(layers.ReLU(max_value=6)(layers.Conv2D(6, 1)(start)))
    model = keras.Model(image, layers.Dense(5, name="scores")(layers.Add()([x, y])))
    rng = np.random.default_rng(0)
    pairs = (("stem", "depthwise"), ("depthwise", "pointwise"), ("expand", "twofold"), ("twofold", "project"))
    for first, second in ((model.get_layer(a), model.get_layer(b)) for a, b in pairs):
        (kernel, bias), (after, *rest) = first.get_weights(), second.get_weights()
        gain = np.exp(rng.uniform(-3.4, 3.4, first.output.shape[-1])).astype(np.float32)
        shape = kernel.shape[2:] if kernel.shape[2] * kernel.shape[3] == len(gain) else (1, len(gain))
        first.set_weights([kernel * gain.reshape(shape), bias * gain])
        second.set_weights([after / gain[:, None], *rest])
    return to_litert(model, "float32", None)


def images(n: int, seed: int) -> Any:
    """Smooth pictures [n, 1, 12, 12, 2]."""
    coarse = np.random.default_rng(seed).normal(size=(n, 1, 4, 4, 2)).astype(np.float32)
    return coarse.repeat(3, 2).repeat(3, 3)


@pytest.fixture(scope="session")
def samples() -> Callable[[], Iterator[dict[str, Any]]]:
    return lambda: ({"image": image} for image in images(48, 1))


def scores(model: bytes) -> Any:
    """Scores [60, 5] on pictures that no calibration has seen."""
    engine = open_engine(model, "tflite")
    result = np.concatenate([predict(engine, {"image": image})["scores"] for image in images(60, 2)])
    engine.close()
    return result


def sqnr_db(wanted: Any, got: Any) -> float:
    """10 log10(signal power / error power)."""
    return float(10 * np.log10(np.square(wanted).sum() / np.square(wanted - got).sum()))
