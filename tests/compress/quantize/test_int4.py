"""int4 weights on both formats: blocks and rows, dense layers and embeddings, in the runtime that runs them."""

import gzip
from typing import Any

import numpy as np
import pytest

from compress.quantize import litert_int4, onnx_int4
from compress.quantize.litert_int4 import quantize_rows
from compress.quantize.litert_integers import pack_nibbles
from compress.quantize.litert_model import read_model, stored_as
from edge.engines import open_engine, predict
from edge.errors import BadModel, CheckFailed
from tests.compress.quantize.conftest import outputs, sqnr_db


@pytest.fixture(scope="module")
def words() -> Any:
    """ids [8] -> scores [10]: an embedding [1000, 64], dense layers whose inputs do and do not divide by 32."""
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    ids = keras.Input((8,), dtype="int32", name="ids")
    x = layers.Flatten()(layers.Embedding(1000, 64)(ids))
    x = layers.Dense(30, activation="relu")(layers.Dense(64, activation="relu")(x))
    return keras.Model(ids, layers.Dense(10, name="scores")(x))


def scores(model: bytes, kind: Any) -> Any:
    engine = open_engine(model, kind)
    ids = np.random.default_rng(0).integers(0, 1000, (60, 1, 8)).astype(np.int32)
    result = np.concatenate([predict(engine, {"ids": row})["scores"] for row in ids])
    engine.close()
    return result


def test_rows_are_quantized_within_half_a_step() -> None:
    weights = np.random.default_rng(0).normal(size=(50, 33)).astype(np.float32)
    weights[7] = 0
    integers, scales = quantize_rows(weights)
    assert np.abs(integers).max() == 7
    assert np.all(np.abs(integers * scales[:, None] - weights) <= scales[:, None] / 2 * 1.0001)


def test_nibbles() -> None:
    assert pack_nibbles(np.array([1, -1, 7, -7, 3], np.int8)).tolist() == [0xF1, 0x97, 0x03]


def test_litert_embedding_and_dense(words: Any) -> None:
    from convert.to_litert import to_litert

    source = to_litert(words, "float32", None)
    made = litert_int4.quantize_int4(source)
    assert stored_as(made.model, "float32").get("GATHER") is None
    assert len(made.model) < len(source) / 5
    assert sqnr_db(scores(source, "tflite"), scores(made.model, "tflite")) > 12  # 4 bits, three layers


def test_outputs_that_are_pruned_away_are_no_reason_to_refuse_the_file(words: Any) -> None:
    import keras

    from convert.to_litert import to_litert

    pruned = keras.models.clone_model(words)
    pruned.set_weights(words.get_weights())
    for layer in pruned.layers:
        if isinstance(layer, keras.layers.Dense):
            kernel, bias = layer.get_weights()
            kernel[:, 3] = 0
            layer.set_weights([kernel, bias])
    source = to_litert(pruned, "float32", None)
    made = litert_int4.quantize_int4(source)
    assert sqnr_db(scores(source, "tflite"), scores(made.model, "tflite")) > 12


def test_onnx_embedding_and_dense(words: Any) -> None:
    import onnx

    from convert.to_onnx import to_onnx

    source = to_onnx(words)
    made = onnx_int4.quantize_int4(source)
    kinds = [node.op_type for node in onnx.load_from_string(made.model).graph.node]
    assert kinds.count("MatMulNBits") == 3
    assert len(made.model) < len(source) / 4
    assert sqnr_db(scores(source, "onnx"), scores(made.model, "onnx")) > 12


def test_what_stays_float_is_named(litert: bytes, onnx: bytes) -> None:
    for source, module, kind in ((litert, litert_int4, "tflite"), (onnx, onnx_int4, "onnx")):
        made = module.quantize_int4(source)
        assert any("conv" in skipped.what.lower() for skipped in made.skipped)
        assert sqnr_db(outputs(source, kind), outputs(made.model, kind)) > 15


def test_convolutions_are_rounded_by_what_they_read(litert: bytes, calibration: Any) -> None:
    plain = litert_int4.quantize_int4(litert, convolutions=True)
    made = litert_int4.quantize_int4(litert, convolutions=True, calibration=calibration)
    for one in (plain, made):
        # the 3 x 3 stem and the depthwise layer have 9 weights an output, the pointwise one 8: all too few for 4 bits
        assert stored_as(one.model, "float32") == {}
        assert not any("CONV" in skipped.what for skipped in one.skipped)
    wanted = outputs(litert, "tflite")
    assert sqnr_db(wanted, outputs(made.model, "tflite")) > 15


def test_a_wide_convolution_runs_on_four_bits_and_computes_what_the_file_says() -> None:
    import keras

    from convert.to_litert import to_litert

    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 8), name="image")
    model = keras.Model(image, keras.layers.Conv2D(16, 3, activation="relu", name="wide")(image))
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(64, 8, 8, 8)) * np.linspace(0.1, 3, 8) @ (np.eye(8) + 0.5)
    rows = samples.astype(np.float32)
    source = to_litert(model, "float32", None)
    engine = open_engine(source, "tflite")
    (output,) = [spec.name for spec in engine.outputs]
    wanted = np.stack([predict(engine, {"image": row[None]})[output][0] for row in rows])
    engine.close()
    errors = []
    for calibration in (None, lambda: ({"image": row[None]} for row in rows)):
        made = litert_int4.quantize_int4(source, convolutions=True, calibration=calibration)
        assert stored_as(made.model, "int4") == {"CONV_2D": 1}
        engine = open_engine(made.model, "tflite")
        got = np.stack([predict(engine, {"image": row[None]})[output][0] for row in rows])
        engine.close()
        errors.append(sqnr_db(wanted, got))
        # the kernel's activations are int8: a float convolution of the stored weights is that near
        kernel, bias = _stored_convolution(made.model)
        model.layers[-1].set_weights([kernel, bias])
        assert sqnr_db(model.predict(rows, verbose=0), got) > 30
    assert errors[1] > errors[0] + 2  # error feedback is worth decibels
    narrow = litert_int4.quantize_int4(source, convolutions=True, bits=3, calibration=calibration).model
    assert len(narrow) == len(made.model)
    assert len(gzip.compress(narrow)) < len(gzip.compress(made.model))


def _stored_convolution(model: bytes) -> tuple[Any, Any]:
    """Kernel [H, W, in, out] and bias of the one convolution, from the integers and scales in the file."""
    parsed = read_model(model)
    graph = parsed.subgraphs[0]
    _, weights, bias = (graph.tensors[index] for index in graph.operators[0].inputs)
    packed = np.asarray(parsed.buffers[weights.buffer].data, np.uint8)
    nibbles = np.stack([packed & 0xF, packed >> 4], axis=1).ravel().astype(np.int8)
    integers = np.where(nibbles > 7, nibbles - 16, nibbles).reshape(weights.shape)
    kernel = integers * np.asarray(weights.quantization.scale, np.float32)[:, None, None, None]
    values = np.asarray(parsed.buffers[bias.buffer].data, np.uint8).view(np.float32)
    return kernel.transpose(1, 2, 3, 0), values


def test_nothing_to_treat_and_twice(litert: bytes, onnx: bytes) -> None:
    import keras

    from convert.to_litert import to_litert
    from convert.to_onnx import to_onnx

    image = keras.Input((8, 8, 1), name="image")
    model = keras.Model(image, keras.layers.Conv2D(4, 3)(image))
    for source, module in ((to_litert(model, "float32", None), litert_int4), (to_onnx(model), onnx_int4)):
        with pytest.raises(CheckFailed, match=r"quantize\.int4 has nothing to treat"):
            module.quantize_int4(source)
    for source, module in ((litert, litert_int4), (onnx, onnx_int4)):
        with pytest.raises(BadModel, match="quantized"):
            module.quantize_int4(module.quantize_int4(source).model)
