"""Dynamic-range int8 for a float .tflite: int8 weights per channel, activations quantized while running.

Symmetric per-channel weights after Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference:
A whitepaper", arXiv:1806.08342, section 2.3 and 3.1.
"""

from compress.quantize import Quantized
from compress.quantize.litert_compact import write_model
from compress.quantize.litert_model import read_model, require_float, restore_names, stayed_float, upgrade
from edge.errors import BadModel
from edge.quiet import quiet


def quantize_dynamic(model: bytes) -> Quantized:
    """int8 weights for every operation that has a hybrid kernel; the rest stays float and is named.

    Raises:
        BadModel: damaged or quantized already.

    """
    from litert_quantizer import quantizer, recipe

    parsed = read_model(model)
    require_float(parsed)
    with quiet():
        work = quantizer.Quantizer(write_model(upgrade(parsed)), recipe.dynamic_wi8_afp32())
        try:
            result = bytes(work.quantize(enable_progress_report=False).quantized_model)
        except (ValueError, RuntimeError) as error:
            raise BadModel(f"dynamic int8 failed: {error}", "convert the Keras model to dynamic instead") from error
    result = write_model(restore_names(read_model(result), parsed))
    return Quantized(result, stayed_float(result, "no kernel with int8 weights and float activations"))
