"""Dynamic int8 for a float ONNX model: int8 weights, activations quantized to uint8 while running.

ONNX operator DynamicQuantizeLinear, https://onnx.ai/onnx/operators/onnx__DynamicQuantizeLinear.html.
"""

import tempfile
from pathlib import Path

from compress.quantize import Quantized
from compress.quantize.onnx_model import count_ops, finish, preprocess, read_model, require_float
from edge.errors import BadModel
from edge.quiet import quiet
from edge.report import Skipped

# Not Conv: its dynamic kernel, ConvInteger, runs 3 to 14 times slower than float32 on x86 (MobileNetV2, DS-CNN).
_OPERATORS = ("MatMul", "Gemm", "Attention", "LSTM", "Gather", "EmbedLayerNormalization")


def quantize_dynamic(model: bytes) -> Quantized:
    """int8 weights, one scale per output channel, for matrix products, embeddings and LSTM.

    Raises:
        BadModel: damaged, quantized already, or nothing in it can be quantized this way.

    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    parsed = read_model(model)
    require_float(parsed)
    with quiet(), tempfile.TemporaryDirectory(prefix="edgetool-") as folder:
        source, target = Path(folder) / "source.onnx", Path(folder) / "target.onnx"
        onnx.save(preprocess(parsed), str(source))
        try:
            quantize_dynamic(
                source, target, op_types_to_quantize=list(_OPERATORS), per_channel=True, weight_type=QuantType.QInt8
            )
        except (ValueError, TypeError, RuntimeError, KeyError) as error:
            raise BadModel(f"dynamic int8 failed: {error}", "use float16 or static int8") from error
        result = finish(onnx.load(str(target)))
    counts = count_ops(result)
    if counts.quantized == 0:
        raise BadModel(
            "dynamic int8 changes nothing: the model has no matrix product, embedding or LSTM with constant weights",
            "use static int8, which also covers convolutions",
        )
    slow = "ConvInteger is slower than float32"
    reasons = {"Conv": slow, "ConvTranspose": slow}
    rest = "no dynamic int8 kernel, or no constant weights"
    return Quantized(
        result, tuple(Skipped(f"{n} x {name}", reasons.get(name, rest)) for name, n in counts.float_ops.items())
    )
