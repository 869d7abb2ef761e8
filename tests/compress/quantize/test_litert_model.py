"""What is float, what is integer, and files that older converters wrote."""

from typing import Any

import numpy as np
import pytest

from compress.quantize.litert_compact import write_model
from compress.quantize.litert_dynamic import quantize_dynamic
from compress.quantize.litert_model import count_ops, read_model, require_float, stayed_float
from compress.quantize.litert_static import quantize_static
from edge.errors import BadModel
from tests import models
from tests.compress.quantize.conftest import outputs


def test_counts_of_a_float_and_of_an_int8_model() -> None:
    counts = count_ops(models.litert_float().read_bytes())
    assert counts.quantized == 0
    assert counts.floating == sum(counts.float_ops.values()) > 0
    counts = count_ops(models.litert_int8().read_bytes())
    assert counts.floating == 0
    assert counts.quantized > 0


def test_a_quantized_model_is_not_quantized_again(litert: bytes) -> None:
    for model in (models.litert_int8().read_bytes(), quantize_dynamic(litert).model):
        with pytest.raises(BadModel, match=r"quantized already: tensor .* holds int8") as error:
            require_float(read_model(model))
        assert error.value.hint


def test_bytes_that_are_no_model_are_refused(litert: bytes) -> None:
    for data in (b"no model at all", litert[: len(litert) // 2]):
        with pytest.raises(BadModel):
            read_model(data)


def test_files_of_old_converters_are_quantized_too(litert: bytes, calibration: Any) -> None:
    """They hold an operation's code only in the deprecated field, have no signature, and may repeat names."""
    old = read_model(litert)
    for code in old.operatorCodes:
        code.deprecatedBuiltinCode, code.builtinCode = code.builtinCode, 0
    old.signatureDefs = None
    graph = old.subgraphs[0]
    graph.tensors[graph.inputs[0]].name = b"image"
    for index in set(range(len(graph.tensors))) - {*graph.inputs, *graph.outputs}:
        graph.tensors[index].name = b""
    graph.tensors[graph.outputs[0]].name = b"scores"
    model = write_model(old)
    assert np.array_equal(outputs(model, "tflite"), outputs(litert, "tflite"))
    quantized = quantize_static(model, calibration)
    assert count_ops(quantized.model).floating == 0
    agreement = np.mean(outputs(quantized.model, "tflite").argmax(1) == outputs(litert, "tflite").argmax(1))
    assert agreement > 0.95


def test_what_stayed_float_is_named_with_its_reason() -> None:
    skipped = stayed_float(models.litert_fallback().read_bytes(), "because")
    assert {entry.reason for entry in skipped} == {"because"}
    assert any("ARG_MAX" in entry.what for entry in skipped)
