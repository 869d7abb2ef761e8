"""Keras and .tflite to ONNX, with the model's own names and batch 1, equal in ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.parity import TOLERANCES, compare
from convert.reference import run
from convert.to_onnx import OPSET, refuse_onnx_to_litert, tflite_to_onnx, to_onnx
from edge.errors import BadModel
from tests import models


def _session(model: bytes) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def _outputs(model: bytes, feeds: dict[str, Any]) -> dict[str, Any]:
    session = _session(model)
    names = [output.name for output in session.get_outputs()]
    n = len(next(iter(feeds.values())))
    parts = [session.run(names, {k: v[i : i + 1] for k, v in feeds.items()}) for i in range(n)]
    return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(names)}


def test_both_keras_versions(keras_cnn: Any, legacy_cnn: Any, images: Any) -> None:
    import onnx

    for source in (keras_cnn, legacy_cnn):
        model = to_onnx(source)
        session = _session(model)
        assert [(i.name, i.shape) for i in session.get_inputs()] == [("image", [1, 8, 8, 1])]
        assert [(o.name, o.shape) for o in session.get_outputs()] == [("scores", [1, 3])]
        assert onnx.load_model_from_string(model).opset_import[0].version == OPSET
        found = compare(
            run(source, {"image": images}),
            _outputs(model, {"image": images}),
            quantization_scale=None,
            tolerance=TOLERANCES["float32"],
        )
        assert found.first_divergence is None, found


def test_exact_gelu_recurrence_and_crossed_names() -> None:
    """Erfc has no ONNX operator; inputs and outputs whose sorted order is not their own order."""
    import keras

    layers = keras.layers
    zulu, alpha = keras.Input((5, 4), name="zulu"), keras.Input((4,), name="alpha")
    state = layers.GRU(3)(zulu)
    hidden = layers.Dense(6, activation="gelu")(layers.Concatenate()([state, alpha]))
    model = keras.Model([zulu, alpha], [layers.Dense(2, name="y")(hidden), layers.Dense(3, name="a")(hidden)])
    rng = np.random.default_rng(0)
    feeds = {"zulu": rng.normal(size=(6, 5, 4)).astype("f"), "alpha": rng.normal(size=(6, 4)).astype("f")}
    found = _outputs(to_onnx(model), feeds)
    assert list(found) == ["y", "a"]
    for name, value in run(model, feeds).items():
        assert np.allclose(found[name], value, atol=1e-5)


def test_nothing_is_printed(keras_cnn: Any, capsys: pytest.CaptureFixture[str]) -> None:
    to_onnx(keras_cnn)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def test_operations_that_onnx_lacks_are_named() -> None:
    import keras

    signal = keras.Input((16,), name="signal")
    with pytest.raises(BadModel, match=r"(?i)erfinv|Ndtri"):
        to_onnx(keras.Model(signal, keras.layers.Lambda(keras.ops.erfinv, output_shape=(16,))(signal)))


@pytest.mark.parametrize("source", [models.litert_float, models.litert_int8])
def test_from_a_tflite_file(source: Any) -> None:
    from ai_edge_litert.interpreter import Interpreter

    model = tflite_to_onnx(source())
    session = _session(model)
    assert [i.name for i in session.get_inputs()] == ["image"]
    assert [o.name for o in session.get_outputs()] == ["scores"]
    interpreter = Interpreter(model_path=str(source()))
    runner = interpreter.get_signature_runner()
    integer = runner.get_input_details()["image"]["dtype"] == np.int8
    rng = np.random.default_rng(0)
    for _ in range(5):
        image = rng.integers(-128, 128, (1, 8, 8, 1)).astype(np.int8) if integer else rng.random((1, 8, 8, 1), "f")
        wanted = runner(image=image)["scores"].astype(np.float64)
        got = session.run(None, {"image": image})[0].astype(np.float64)
        assert np.abs(wanted - got).max() <= (1 if integer else 1e-5)  # one step: rounding of halves differs


def test_there_is_no_way_back(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=r"cannot become \.tflite") as error:
        refuse_onnx_to_litert(tmp_path / "a.onnx")
    assert error.value.hint is not None
    assert "Keras" in error.value.hint
