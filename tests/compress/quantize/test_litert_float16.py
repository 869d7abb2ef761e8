"""Half the bytes, 11 bits of precision."""

import pytest

from compress.quantize.litert_compact import compact
from compress.quantize.litert_float16 import quantize_float16
from compress.quantize.litert_model import stored_as
from edge.errors import BadModel
from tests.compress.quantize.conftest import outputs, sqnr_db


def test_weights_are_halved_and_nearly_the_same(litert: bytes) -> None:
    result = quantize_float16(litert)
    assert len(result.model) < 0.65 * len(compact(litert))
    assert sqnr_db(outputs(litert, "tflite"), outputs(result.model, "tflite")) > 50  # 11 bits are 68 dB at best
    assert stored_as(result.model, "float32") == {}
    assert result.skipped == ()
    with pytest.raises(BadModel, match="quantized already"):
        quantize_float16(result.model)
