"""float16 weights for a float .tflite; activations stay float32.

IEEE 754 binary16, round to nearest even: https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/post_training_float16_quant.
"""

from compress.quantize import Quantized
from compress.quantize.litert_compact import write_model
from compress.quantize.litert_model import read_model, require_float, restore_names, stored_as, upgrade
from edge.errors import BadModel
from edge.quiet import quiet
from edge.report import Skipped


def quantize_float16(model: bytes) -> Quantized:
    """Store the weights of convolutions, dense layers and embeddings as float16, expanded when the model is loaded.

    Raises:
        BadModel: damaged or quantized already.

    """
    from litert_quantizer import qtyping, quantizer

    parsed = read_model(model)
    require_float(parsed)
    half = qtyping.OpQuantizationConfig(
        weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT),
        compute_precision=qtyping.ComputePrecision.FLOAT,
        explicit_dequantize=True,
    )
    names = qtyping.TFLOperationName
    with quiet():
        work = quantizer.Quantizer(write_model(upgrade(parsed)))
        for name in (
            names.FULLY_CONNECTED,
            names.CONV_2D,
            names.DEPTHWISE_CONV_2D,
            names.CONV_2D_TRANSPOSE,
            names.EMBEDDING_LOOKUP,
        ):
            work.update_quantization_recipe(".*", name, half, quantizer.AlgorithmName.FLOAT_CASTING)
        try:
            result = bytes(work.quantize(enable_progress_report=False).quantized_model)
        except (ValueError, RuntimeError) as error:
            raise BadModel(f"float16 failed: {error}", "convert the Keras model to float16 instead") from error
    result = write_model(restore_names(read_model(result), parsed))
    return Quantized(result, _stayed_float32(result))


def _stayed_float32(result: bytes) -> tuple[Skipped, ...]:
    return tuple(
        Skipped(f"{n} constants of {name}", "only convolutions, dense layers and embeddings take float16 weights")
        for name, n in stored_as(result, "float32").items()
    )
