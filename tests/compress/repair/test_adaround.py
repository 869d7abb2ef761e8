"""AdaRound and bias correction: the binary problem against all its solutions, and whole models in LiteRT."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.quantize.litert_compact import write_model
from compress.quantize.litert_model import read_model
from compress.quantize.litert_static import activations, quantize_static
from compress.repair.adaround import adaround, damped, error_of, up_or_down
from compress.repair.bias import correct_bias
from compress.repair.grid import nearest, scales_of
from compress.repair.litert_layers import constant, kernel_of, layers_of
from compress.repair.moments import moments_of
from edge.errors import BadModel, CheckFailed
from tests.compress.repair.conftest import scores, sqnr_db


def problem(seed: int, k: int) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(2, 3, k)).astype(np.float32).astype(np.float64)
    reads = rng.normal(size=(2, 40, k)) @ rng.normal(size=(2, k, k))
    return kernel, scales_of(kernel, per_channel=True) * 16, damped(reads.transpose(0, 2, 1) @ reads / 40)


@given(st.integers(0, 2**32 - 1))
def test_never_worse_than_nearest_and_next_to_the_weight(seed: int) -> None:
    kernel, scales, second = problem(seed, 8)
    chosen = up_or_down(kernel, scales, second)
    assert np.all(error_of(chosen - kernel, second) <= error_of(nearest(kernel, scales) - kernel, second) * (1 + 1e-9))
    assert np.all(np.abs(chosen - kernel) <= scales[..., None] * (1 + 1e-6))
    steps = chosen / scales[..., None]
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-9)


def test_close_to_the_best_of_all_roundings() -> None:
    """On average it wins back at least half of what the best of all 2^k roundings does."""
    won, possible = 0.0, 0.0
    for seed in range(20):
        kernel, scales, second = problem(seed, 6)
        down = np.floor(kernel / scales[..., None])
        every = [down + np.array(ups) for ups in itertools.product((0, 1), repeat=6)]
        best = np.min([error_of(way * scales[..., None] - kernel, second) for way in every], axis=0)
        start = error_of(nearest(kernel, scales) - kernel, second)
        won += float((start - error_of(up_or_down(kernel, scales, second) - kernel, second)).sum())
        possible += float((start - best).sum())
    assert won > possible / 2


def test_moments_are_those_of_the_layer(uneven: bytes, samples: Any) -> None:
    """W E[x] + b is the mean of what a layer computes: SAME and VALID padding, strides, depthwise with two outputs."""
    model = read_model(uneven)
    layers, _ = layers_of(model)
    moments = moments_of(uneven, layers, samples)
    assert {layer.operator.kind for layer in layers} == {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
    for layer in layers:
        # the layer alone without its activation, in front of it the model as it is
        changed = read_model(uneven)
        changed.subgraphs[0].operators[layer.operator.place].builtinOptions.fusedActivationFunction = 0
        seen = [v[layer.target] for v in activations(write_model(changed), samples, frozenset({layer.target}))]
        means = np.mean([values.reshape(-1, values.shape[-1]).mean(axis=0) for values in seen], axis=0)
        read = moments[layer.name].mean
        predicted = np.einsum("gok,gk->go", kernel_of(model, layer), read).ravel()
        predicted += constant(model, layer.bias) if layer.bias >= 0 else 0
        np.testing.assert_allclose(predicted, means, atol=1e-4 * np.abs(means).max())


@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_are_on_the_grid_that_int8_finds(uneven: bytes, samples: Any, per_channel: bool) -> None:
    for repair in (adaround, correct_bias):
        model = read_model(repair(uneven, samples, per_channel=per_channel).model)
        for layer in layers_of(model)[0]:
            kernel = kernel_of(model, layer)
            steps = kernel / scales_of(kernel, per_channel=per_channel)[..., None]
            np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)


def test_outputs_come_closer(uneven: bytes, samples: Any) -> None:
    wanted = scores(uneven)

    def after(model: bytes) -> float:
        return sqnr_db(wanted, scores(quantize_static(model, samples, per_channel=False).model))

    plain, corrected = after(uneven), after(correct_bias(uneven, samples, per_channel=False).model)
    made = adaround(uneven, samples, per_channel=False)
    assert corrected > plain
    assert after(made.model) > plain
    assert all(figure <= 1 + 1e-9 for figure in made.figures.values())
    assert min(made.figures.values()) < 0.9


def test_nothing_to_treat_and_quantized(uneven: bytes, samples: Any) -> None:
    import keras

    from convert.to_litert import to_litert

    image = keras.Input((4, 4, 1), name="image")
    bare = to_litert(keras.Model(image, keras.layers.MaxPooling2D()(image)), "float32", None)
    for repair, name in ((adaround, "adaround"), (correct_bias, "bias")):
        with pytest.raises(CheckFailed, match=rf"repair\.{name} has nothing to treat"):
            repair(bare, samples)
        with pytest.raises(BadModel, match="quantized"):
            repair(quantize_static(uneven, samples).model, samples)


def test_shared_weights_are_named() -> None:
    import keras

    from convert.to_litert import to_litert

    left, right = keras.Input((6, 6, 2), name="left"), keras.Input((6, 6, 2), name="right")
    twice = keras.layers.Conv2D(4, 3, activation="relu")
    both = keras.layers.Flatten()(keras.layers.Conv2D(4, 1)(keras.layers.Add()([twice(left), twice(right)])))
    model = to_litert(keras.Model([left, right], keras.layers.Dense(3)(both)), "float32", None)
    rng = np.random.default_rng(0)
    pictures = [{n: rng.normal(size=(1, 6, 6, 2)).astype(np.float32) for n in ("left", "right")} for _ in range(8)]
    made = adaround(model, lambda: iter(pictures))
    assert [entry.reason for entry in made.skipped].count("several operations use its weights") == 2
    assert len(made.figures) == 2


@pytest.mark.parametrize("repair", [adaround, correct_bias])
def test_weights_behind_a_dead_relu_go_into_the_bias(samples: Any, repair: Any) -> None:
    """Batch normalization makes them a hundred times as large as the others, and no output depends on them."""
    import keras

    from convert.to_litert import to_litert

    keras.utils.set_random_seed(0)
    image = keras.Input((12, 12, 2), name="image")
    x = keras.layers.Conv2D(8, 1, activation="relu", name="expand")(image)
    x = keras.layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise")(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(6, 1, name="project")(x))
    model = keras.Model(image, keras.layers.Dense(5, name="scores")(x))
    kernel, bias = model.get_layer("expand").get_weights()
    kernel[..., 3], bias[3] = 0, -1
    model.get_layer("expand").set_weights([kernel, bias])
    kernel, bias = model.get_layer("depthwise").get_weights()
    kernel[:, :, 3], bias[3] = 100, 2
    model.get_layer("depthwise").set_weights([kernel, bias])
    before = to_litert(model, "float32", None)
    made = repair(before, samples, per_channel=False).model
    wanted, plain, repaired = (
        scores(model) - scores(model).mean(axis=0)
        for model in (before, *(quantize_static(m, samples, per_channel=False).model for m in (before, made)))
    )
    assert sqnr_db(wanted, plain) < 1
    assert sqnr_db(wanted, repaired) > 15
    parsed = read_model(made)
    (depthwise,) = (layer for layer in layers_of(parsed)[0] if layer.depthwise)
    kernel = kernel_of(parsed, depthwise)
    assert not kernel[3].any()
    assert kernel[np.arange(8) != 3].any(axis=(1, 2)).all()
