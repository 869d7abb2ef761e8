"""Equalization changes no function and evens out the ranges; what it cannot treat is named."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from compress.quantize.litert_static import quantize_static
from compress.repair.equalize import equalize, factors
from edge.errors import BadModel, CheckFailed
from tests.compress.repair.conftest import scores, sqnr_db

RANGES = arrays(np.float32, 9, elements=st.floats(2**-10, 2**10, width=32))


@given(RANGES, RANGES)
def test_factors_make_both_ranges_equal(first: Any, second: Any) -> None:
    factor = factors(first, second)
    np.testing.assert_allclose(first / factor, second * factor, rtol=1e-5)


def test_an_unused_channel_keeps_its_weights() -> None:
    ones = np.ones(2, np.float32)
    assert factors(np.array([0, 4], np.float32), ones).tolist() == [1, 2]
    assert factors(ones, np.array([4, 0], np.float32)).tolist() == [0.5, 1]


def test_the_function_stays_and_one_scale_a_tensor_is_enough(uneven: bytes, samples: Any) -> None:
    wanted = scores(uneven)
    made = equalize(uneven)
    # float32 rounding of weights that were multiplied and divided
    np.testing.assert_allclose(scores(made.model), wanted, atol=1e-5 * np.abs(wanted).max())
    assert max(made.figures.values()) > 5
    plain = quantize_static(uneven, samples, per_channel=False).model
    repaired = quantize_static(made.model, samples, per_channel=False).model
    assert sqnr_db(wanted, scores(repaired)) > sqnr_db(wanted, scores(plain)) + 10


def test_a_second_time_finds_nothing_to_move(uneven: bytes) -> None:
    assert max(equalize(equalize(uneven).model).figures.values()) < 1.01


def test_a_channel_that_is_only_a_bias_does_not_blow_up() -> None:
    import keras

    from compress.quantize.litert_model import read_model
    from compress.repair.litert_layers import constant, layers_of
    from convert.to_litert import to_litert

    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 2), name="image")
    x = keras.layers.Conv2D(4, 3, activation="relu", name="first")(image)
    model = keras.Model(image, keras.layers.Conv2D(3, 1)(x))
    kernel, _ = model.get_layer("first").get_weights()
    kernel[..., 0] *= 1e-9
    model.get_layer("first").set_weights([kernel, np.array([1, 2, 0.5, 0], np.float32)])
    made = read_model(equalize(to_litert(model, "float32", None)).model)
    first = layers_of(made)[0][0]
    assert np.abs(constant(made, first.bias)).max() <= 2 * (1 + 1e-6)


def test_what_cannot_be_equalized_is_named(uneven: bytes) -> None:
    reasons = {entry.reason for entry in equalize(uneven).skipped}
    assert "several operations read its output" in reasons
    assert "it is an output of the model" in reasons
    assert any("ReLU6" in reason for reason in reasons)
    assert not any("ReLU6" in entry.reason for entry in equalize(uneven, replace_relu6=True).skipped)


def test_nothing_to_equalize_and_quantized(uneven: bytes, samples: Any) -> None:
    import keras

    from convert.to_litert import to_litert

    image = keras.Input((4,), name="image")
    alone = to_litert(keras.Model(image, keras.layers.Dense(3)(image)), "float32", None)
    with pytest.raises(CheckFailed, match=r"repair\.equalize has nothing to equalize: it is an output"):
        equalize(alone)
    with pytest.raises(BadModel, match="quantized"):
        equalize(quantize_static(uneven, samples).model)
