"""Half the bytes, 11 bits of precision, float32 at both ends."""

from compress.quantize.onnx_float16 import quantize_float16
from tests.compress.quantize.conftest import outputs, sqnr_db


def test_a_model_is_halved_and_nearly_the_same(onnx: bytes) -> None:
    result = quantize_float16(onnx)
    assert len(result.model) < 0.65 * len(onnx)
    assert sqnr_db(outputs(onnx, "onnx"), outputs(result.model, "onnx")) > 40  # activations are float16 as well
    assert result.skipped == ()
