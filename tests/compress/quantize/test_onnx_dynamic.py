"""int8 weights of matrix products; convolutions stay float and say so."""

import gzip
from pathlib import Path

import pytest

from compress.quantize.onnx_dynamic import quantize_dynamic
from compress.quantize.onnx_model import count_ops
from edge.errors import BadModel
from tests import models
from tests.compress.quantize.conftest import outputs, sqnr_db


def test_dense_layers_are_quantized_and_convolutions_named(onnx: bytes) -> None:
    result = quantize_dynamic(onnx)
    assert count_ops(result.model).quantized >= 2
    assert len(result.model) < len(onnx)
    assert sqnr_db(outputs(onnx, "onnx"), outputs(result.model, "onnx")) > 25
    assert any("Conv" in entry.what and "ConvInteger is slower" in entry.reason for entry in result.skipped)


def test_weights_of_convolutions_are_stored_as_int8_and_folded_when_loaded(onnx: bytes, tmp_path: Path) -> None:
    import onnxruntime
    from onnx import TensorProto, load, load_from_string

    result = quantize_dynamic(onnx, convolutions=True)
    kernels = [t for t in load_from_string(result.model).graph.initializer if len(t.dims) == 4 and max(t.dims[1:]) > 1]
    assert len(kernels) == 3
    assert {kernel.data_type for kernel in kernels} == {TensorProto.INT8}
    assert not any("Conv" in entry.what for entry in result.skipped)
    assert len(result.model) < len(quantize_dynamic(onnx).model)
    assert sqnr_db(outputs(onnx, "onnx"), outputs(result.model, "onnx")) > 25
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    onnxruntime.InferenceSession(result.model, options, providers=["CPUExecutionProvider"])
    loaded = [node.op_type for node in load(tmp_path / "loaded.onnx").graph.node]
    assert "Mul" not in loaded[:2]
    assert "Cast" not in loaded


def test_a_model_without_matrix_products_is_an_error() -> None:
    with pytest.raises(BadModel, match="changes nothing"):
        quantize_dynamic(models.onnx_unusual_op().read_bytes())


def test_fewer_bits_pack_smaller(onnx: bytes) -> None:
    sizes = [len(gzip.compress(quantize_dynamic(onnx, convolutions=True, bits=bits).model)) for bits in (8, 6, 4)]
    assert sizes[2] < sizes[1] < sizes[0]
    made = quantize_dynamic(onnx, convolutions=True, bits=6).model
    assert sqnr_db(outputs(onnx, "onnx"), outputs(made, "onnx")) > 20
