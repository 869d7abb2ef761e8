"""int8 weights of matrix products; convolutions stay float and say so."""

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


def test_a_model_without_matrix_products_is_an_error() -> None:
    with pytest.raises(BadModel, match="changes nothing"):
        quantize_dynamic(models.onnx_unusual_op().read_bytes())
