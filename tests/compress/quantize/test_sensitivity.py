"""Each layer quantized alone: the layer that is to blame is found, and noises of layers add up."""

import math
from typing import Any

import numpy as np
import pytest

from compress.quantize.litert_mixed import mixable
from compress.quantize.mixable import Mixable, Precision
from compress.quantize.sensitivity import Outputs, Sensitivity, measure, noise
from edge.errors import CheckFailed
from tests.compress.quantize.conftest import outputs, spots


def run(model: bytes) -> Outputs:
    return {"scores": outputs(model, "tflite")}


def accuracy(found: Outputs) -> float:
    return float(np.mean(found["scores"].argmax(1) == spots(100, 9)[1]))


@pytest.fixture(scope="module")
def source(uneven: bytes, calibration: Any) -> Mixable:
    return mixable(uneven, calibration, per_channel=False)


@pytest.fixture(scope="module")
def sensitivity(source: Mixable) -> Sensitivity:
    return measure(source, run, accuracy, lambda *_: None)


def test_the_layer_with_uneven_channels_is_found(sensitivity: Sensitivity) -> None:
    assert sensitivity.score > 0.7
    assert [entry.layer.kind for entry in sensitivity.layers][1] == "DEPTHWISE_CONV_2D"
    # what is wrong are its weights, so that wider activations do not help
    for at, precision in enumerate(("int8", "int16x8")):
        assert {entry.effects[at].precision for entry in sensitivity.layers} == {precision}
        worst = max(sensitivity.layers, key=lambda entry, at=at: entry.effects[at].noise)
        assert worst.layer.kind == "DEPTHWISE_CONV_2D"
        assert worst.effects[at].score < sensitivity.score
    others = [entry for entry in sensitivity.layers if entry.layer.kind != "DEPTHWISE_CONV_2D"]
    assert all(entry.effects[0].sqnr_db is not None and entry.effects[0].sqnr_db > 25 for entry in others)
    assert all(entry.effects[1].noise < entry.effects[0].noise for entry in others)


def test_noises_of_layers_add_up(source: Mixable, sensitivity: Sensitivity) -> None:
    quiet = [entry for entry in sensitivity.layers if entry.layer.kind != "DEPTHWISE_CONV_2D"]
    chosen: dict[str, Precision] = {layer.name: "float32" for layer in source.layers}
    chosen |= {entry.layer.name: "int8" for entry in quiet}
    together = noise(run(source.model), run(source.build(chosen).model))
    added = sum(entry.effects[0].noise for entry in quiet)
    assert abs(10 * math.log10(together / added)) < 3


def test_noise_is_error_over_signal_of_the_worst_output() -> None:
    a, b = np.array([[3.0, 4.0]]), np.array([[1.0]])
    assert noise({"a": a, "b": b}, {"a": a, "b": b}) == 0
    assert noise({"a": a, "b": b}, {"a": a * 1.1, "b": b}) == pytest.approx(0.01)
    assert noise({"a": a, "b": b}, {"a": a, "b": b * 1.5}) == pytest.approx(0.25)
    assert noise({"a": a}, {"a": a * np.nan}) == math.inf
    assert noise({"a": a * 0}, {"a": a}) == math.inf


def test_a_model_without_layers_is_refused(calibration: Any) -> None:
    import keras

    from convert.to_litert import to_litert

    image = keras.Input((16, 16, 1), name="image")
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D(name="scores")(image))
    empty = mixable(to_litert(model, "float32", None), calibration)
    with pytest.raises(CheckFailed, match="no operation has constant weights"):
        measure(empty, run, accuracy, lambda *_: None)
