"""Fake-quantized tf_keras models, their ranges and their integer files."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from compress.quantize.layer_difference import layer_differences, layer_outputs
from compress.quantize.qat import (
    as_channels_last,
    fake_quantize,
    kernels,
    measure_ranges,
    require_survival,
    structures,
)
from compress.shared_values import Keeper
from compress.tf_keras_training import fine_tune_tf_keras
from compress.training import FineTune
from edge.errors import CheckFailed

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 0.5, (64, 8, 8, 3)).astype(np.float32)
LABELS = (IMAGES[:, :4].mean((1, 2, 3)) > 0.25).astype(np.int64)


def batches(_epoch: int) -> Iterator[Any]:
    for start in range(0, 64, 16):
        yield {"image": IMAGES[start : start + 16]}, LABELS[start : start + 16]


def net() -> Any:
    """Supported layers, and a normalization and a shared layer that are not."""
    layers = tf_keras.layers
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(0)
    image = layers.Input((8, 8, 3), name="image")
    x = layers.ReLU()(layers.BatchNormalization(name="folded")(layers.Conv2D(8, 3, name="stem")(image)))
    x = layers.ReLU()(layers.BatchNormalization()(layers.DepthwiseConv2D(3, name="depthwise")(x)))
    x = layers.SeparableConv2D(8, 3, name="separable")(x)
    shared = layers.Dense(8, name="shared")
    x = layers.Add()([shared(x), shared(x)])
    x = layers.Flatten()(layers.LayerNormalization(name="norm")(x))
    x = layers.Dense(32, activation="relu", name="hidden")(x)
    return tf_keras.Model(image, layers.Dense(2, name="label")(x))


def change(model: Any, layer: str, function: Any) -> None:
    kernel, *rest = model.get_layer(layer).get_weights()
    model.get_layer(layer).set_weights([function(kernel), *rest])


def pruned(kernel: Any) -> Any:
    return np.where(np.abs(kernel) < np.median(np.abs(kernel)), 0, kernel)


def shared(kernel: Any) -> Any:
    return np.round(kernel / kernel.max() * 2) / 2 * kernel.max()


def converted(model: Any) -> bytes:
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return bytes(converter.convert())


@pytest.fixture(scope="module")
def trained() -> Any:
    """(the structures before, the fake-quantized model after a fit, its file, what was skipped)."""
    model = net()
    change(model, "hidden", pruned)
    change(model, "depthwise", pruned)
    change(model, "stem", shared)
    made = fake_quantize(model)
    before = structures(made.model)
    measure_ranges(made.model, list(batches(0)))
    fine_tune_tf_keras(
        made.model,
        batches,
        4,
        ("crossentropy", "logits"),
        FineTune(2, 1e-3),
        lambda *_: None,
        Keeper(kernels(made.model)).keep,
    )
    return before, made.model, converted(made.model), made.skipped


def test_layers_that_stay_float_are_named(trained: Any) -> None:
    said = {entry.what: entry.reason for entry in trained[3]}
    assert set(said) == {"quantize.qat: shared", "quantize.qat: norm"}
    assert "more than once" in said["quantize.qat: shared"]
    assert "LayerNormalization" in said["quantize.qat: norm"]


def test_zeros_and_shared_values_reach_the_file(trained: Any) -> None:
    before, model, tflite, _ = trained
    assert len(before) == 3
    require_survival(before, model, tflite)


def test_a_file_without_them_is_refused(trained: Any) -> None:
    before, model, _, _ = trained
    fresh = fake_quantize(net()).model
    measure_ranges(fresh, list(batches(0)))
    with pytest.raises(CheckFailed, match=r"the \.tflite lost the structure of .*(are 0|holds)"):
        require_survival(before, model, converted(fresh))
    other = tf_keras.Sequential([tf_keras.layers.Input((4,)), tf_keras.layers.Dense(2)])
    with pytest.raises(CheckFailed, match="no integer weights of its shape"):
        require_survival(before, model, converted(other))


def test_the_file_computes_as_the_fake_quantized_model(trained: Any) -> None:
    """Both round at the same places; where a sum lies on the edge of two steps they may take different ones, and later
    layers carry that on.
    """
    from edge.engines import open_engine

    _, model, tflite, _ = trained
    engine = open_engine(tflite, "tflite")
    name, output = engine.inputs[0].name, engine.outputs[0].name
    got = np.concatenate([engine.run({name: IMAGES[i : i + 1]})[output] for i in range(16)])
    wanted = model(IMAGES[:16], training=False).numpy()
    low, high = (
        float(next(v for v in model.variables if v.name.endswith(f"label/post_activation_{end}:0")))
        for end in ("min", "max")
    )
    off = np.abs(got - wanted) / ((high - low) / 255)
    assert np.mean(off < 0.5) >= 0.75
    # the float normalization enlarges one step without limit where it divides by almost nothing
    assert np.median(off) < 0.01


def test_each_integer_layer_alone_is_within_one_step(trained: Any) -> None:
    _, model, tflite, _ = trained
    feeds = {"image": IMAGES[:16]}
    found = {entry.name: entry for entry in layer_differences(tflite, layer_outputs(model, feeds), [IMAGES[:16]])}
    assert {"re_lu", "hidden", "label"} <= {name.split("_1")[0] for name in found}
    for entry in found.values():
        assert entry.alone <= 1, entry
        assert entry.share < 0.02, entry
        assert entry.off_grid < 0.01, entry


def test_a_layer_of_other_weights_is_not_within_one_step(trained: Any) -> None:
    """The comparison sees a kernel that is not the file's."""
    _, model, tflite, _ = trained
    feeds = {"image": IMAGES[:4]}
    seen = layer_outputs(model, feeds)
    step = np.diff(np.unique(seen["hidden"])).min()
    moved = {**seen, "hidden": np.where(seen["hidden"] > 0, seen["hidden"] + 2 * step, 0).astype(np.float32)}
    found = {entry.name: entry for entry in layer_differences(tflite, moved, [IMAGES[:4]])}
    assert found["hidden"].alone >= 2


def test_ranges_are_those_of_the_examples() -> None:
    made = fake_quantize(net()).model
    first = next(v for v in made.variables if v.name.endswith("quantize_layer_max:0"))
    relu = next(v for v in made.variables if v.name.endswith("re_lu/output_max:0"))
    assert float(relu) == 6
    statistics = [v.numpy() for v in made.variables if "moving" in v.name]
    measure_ranges(made, list(batches(0)))
    assert float(first) == pytest.approx(IMAGES.max(), abs=1e-3)
    assert 0 < float(relu) < 5
    for before, variable in zip(statistics, (v for v in made.variables if "moving" in v.name), strict=True):
        np.testing.assert_array_equal(before, variable.numpy())


def test_nothing_to_quantize_is_a_failed_check() -> None:
    rows = tf_keras.layers.Input((4, 3))
    model = tf_keras.Model(rows, tf_keras.layers.GRU(2, name="cell")(rows))
    with pytest.raises(CheckFailed, match=r"nothing to quantize .*cell: .* cannot quantize a GRU"):
        fake_quantize(model)


def test_layouts() -> None:
    dense, conv, depthwise = np.zeros((3, 5)), np.zeros((3, 3, 2, 7)), np.zeros((3, 3, 6, 1))
    for kernel, shape in ((dense, (5, 3)), (conv, (7, 3, 3, 2)), (depthwise, (1, 3, 3, 6))):
        laid = as_channels_last(np.zeros(shape, np.int8), kernel)
        assert laid is not None
        assert laid.size == kernel.size
    assert as_channels_last(np.zeros((3, 5), np.int8), dense) is None


def test_the_switch_of_tfmot_is_put_back() -> None:
    assert "TF_USE_LEGACY_KERAS" not in os.environ
