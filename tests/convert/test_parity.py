"""Rounding passes, lost weights do not: at every precision, whatever the outputs look like."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convert.parity import TOLERANCES, Tolerance, compare
from convert.reference import run

PRECISIONS = sorted(TOLERANCES)


def _outputs(rng: np.random.Generator, spread: float) -> Any:
    scores = np.exp(spread * rng.normal(size=(200, 10)))
    return scores / scores.sum(1, keepdims=True)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("spread", [0.01, 1.0, 10.0])
def test_a_model_that_lost_its_weights_diverges(precision: str, spread: float) -> None:
    reference = {"scores": _outputs(np.random.default_rng(0), spread)}
    mean = np.repeat(reference["scores"].mean(0, keepdims=True), 200, axis=0)
    for dead in (mean, np.full((200, 10), 0.1), np.zeros((200, 10)), np.full((200, 10), np.nan)):
        found = compare(reference, {"scores": dead}, quantization_scale=None, tolerance=TOLERANCES[precision])
        assert found.first_divergence == "scores"


@pytest.mark.parametrize(("precision", "noise"), [("float32", 1e-6), ("float16", 1e-3), ("int8", 0.02), ("int4", 0.1)])
def test_rounding_of_the_precision_is_tolerated_and_of_a_coarser_one_is_not(precision: str, noise: float) -> None:
    rng = np.random.default_rng(1)
    wanted = rng.normal(size=(100, 5))
    got = wanted + noise * rng.normal(size=wanted.shape)
    tolerance = TOLERANCES[precision]
    assert compare({"y": wanted}, {"y": got}, quantization_scale=None, tolerance=tolerance).first_divergence is None
    worse = wanted + 100 * noise * rng.normal(size=wanted.shape)
    assert compare({"y": wanted}, {"y": worse}, quantization_scale=None, tolerance=tolerance).first_divergence == "y"


def test_figures() -> None:
    wanted = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    got = np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 2.0]])
    found = compare({"y": wanted}, {"y": got}, quantization_scale=0.25, tolerance=Tolerance(None, None), name="float")
    assert found.max_abs == 1.0
    assert found.max_lsb == 4.0
    assert found.argmax_agreement == pytest.approx(2 / 3)
    assert found.sqnr_db == pytest.approx(10 * np.log10(6 / 2))
    assert (found.reference, found.n, found.first_divergence) == ("float", 3, None)


def test_missing_and_misshapen_outputs_diverge_and_the_first_is_named() -> None:
    y = np.ones((4, 2))
    reference = {"a": y, "b": y, "c": y}
    found = compare(reference, {"a": y, "c": y}, quantization_scale=None, tolerance=TOLERANCES["int8"])
    assert found.first_divergence == "b"
    found = compare(reference, {"a": y, "b": y, "c": y[:, :1]}, quantization_scale=None, tolerance=TOLERANCES["int8"])
    assert found.first_divergence == "c"


@given(st.integers(1, 20), st.integers(1, 5), st.sampled_from(PRECISIONS))
def test_equal_outputs_never_diverge(n: int, classes: int, precision: str) -> None:
    y = np.random.default_rng(n).normal(size=(n, classes))
    found = compare({"y": y}, {"y": y.copy()}, quantization_scale=None, tolerance=TOLERANCES[precision])
    assert found.first_divergence is None
    assert found.max_abs == 0.0
    assert found.sqnr_db is None  # infinite: no error at all


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_converter_that_drops_weights_silently_is_caught(keras_cnn: Any, images: Any, precision: str) -> None:
    """TensorFlow's `from_concrete_functions` on a Keras 3 model: no error, no warning, no weights."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    function = tf.function(lambda image: keras_cnn(image, training=False))
    concrete = function.get_concrete_function(tf.TensorSpec((1, 8, 8, 1), name="image"))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], keras_cnn)
    if precision == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    interpreter = Interpreter(model_content=converter.convert())
    interpreter.allocate_tensors()
    parts = []
    for image in images:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
        try:
            interpreter.invoke()
        except RuntimeError:  # reading a variable that was never written
            parts.append(np.full((1, 3), np.nan))
            continue
        parts.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).copy())
    reference = run(keras_cnn, {"image": images})
    found = compare(
        reference, {"scores": np.concatenate(parts)}, quantization_scale=None, tolerance=TOLERANCES[precision]
    )
    assert found.first_divergence == "scores"


def test_a_tolerance_checks_its_limits() -> None:
    with pytest.raises(ValueError, match="max_relative"):
        Tolerance(1.5, None)
