"""Pre-processing, counting, and models that are quantized already."""

import numpy as np
import pytest

from compress.quantize.onnx_dynamic import quantize_dynamic
from compress.quantize.onnx_float16 import quantize_float16
from compress.quantize.onnx_model import count_ops, finish, preprocess, read_model, require_float, stayed_float
from edge.errors import BadModel
from tests import models
from tests.compress.quantize.conftest import outputs


def test_preprocessing_keeps_the_function_and_infers_every_shape(onnx: bytes) -> None:
    ready = preprocess(read_model(onnx))
    assert np.allclose(outputs(finish(ready), "onnx"), outputs(onnx, "onnx"), atol=1e-4)
    assert {entry.domain for entry in ready.opset_import} == {""}


def test_models_that_are_quantized_already_are_refused(onnx: bytes) -> None:
    for model in (quantize_dynamic(onnx).model, quantize_float16(onnx).model):
        with pytest.raises(BadModel, match="already") as error:
            require_float(read_model(model))
        assert error.value.hint


def test_bytes_that_are_no_model_are_refused() -> None:
    for data in (b"no model at all", b""):
        with pytest.raises(BadModel):
            read_model(data)


def test_a_float_model_counts_as_float() -> None:
    counts = count_ops(models.onnx_mlp().read_bytes())
    assert counts.quantized == 0
    assert counts.float_ops == {"Gemm": 2, "Relu": 1}
    assert [entry.what for entry in stayed_float(models.onnx_mlp().read_bytes(), "x")] == ["2 x Gemm", "1 x Relu"]
