"""int8 weights, float activations."""

from compress.quantize.litert_dynamic import quantize_dynamic
from compress.quantize.litert_model import count_ops, stored_as
from tests.compress.quantize.conftest import outputs, sqnr_db


def test_layers_with_weights_become_hybrid_and_the_rest_is_named(litert: bytes) -> None:
    result = quantize_dynamic(litert)
    assert len(result.model) < 0.55 * len(litert)
    assert sqnr_db(outputs(litert, "tflite"), outputs(result.model, "tflite")) > 25  # 8-bit weights and activations
    assert count_ops(result.model).quantized == 5
    assert stored_as(result.model, "float32") == {}
    assert any("MAX_POOL_2D" in entry.what and "no kernel" in entry.reason for entry in result.skipped)
