"""Dynamic int8 for a float ONNX model: int8 weights, activations quantized to uint8 while running.

ONNX operator DynamicQuantizeLinear, https://onnx.ai/onnx/operators/onnx__DynamicQuantizeLinear.html.
Convolutions, where asked for, keep float activations: their weights stand in the file as int8, a Cast and a Mul by the
scales, which a runtime computes once when it loads the model (ONNX Runtime leaves a DequantizeLinear for every run).
"""

import tempfile
from pathlib import Path
from typing import Any

from compress.quantize import Quantized
from compress.quantize.onnx_model import count_ops, finish, preprocess, read_model, require_float
from compress.quantize.rounding import round_with_feedback
from edge.errors import BadModel
from edge.quiet import quiet
from edge.report import Skipped

# Not Conv: its dynamic kernel, ConvInteger, runs 3 to 14 times slower than float32 on x86 (MobileNetV2, DS-CNN).
_OPERATORS = ("MatMul", "Gemm", "Attention", "LSTM", "Gather", "EmbedLayerNormalization")


def quantize_dynamic(model: bytes, *, convolutions: bool = False, bits: int = 8) -> Quantized:
    """int8 weights, one scale per output channel, for matrix products, embeddings and LSTM.

    `convolutions` stores their weights as int8, too, of which they use `bits`: fewer pack smaller.

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
        made = onnx.load(str(target))
    if convolutions:
        _store_convolutions(made, bits)
    result = finish(made)
    counts = count_ops(result)
    if counts.quantized == 0:
        raise BadModel(
            "dynamic int8 changes nothing: the model has no matrix product, embedding or LSTM with constant weights",
            "set convolutions = true, or use static int8",
        )
    slow = "ConvInteger is slower than float32; convolutions = true stores its weights as int8"
    reasons = {} if convolutions else {"Conv": slow}
    rest = "no dynamic int8 kernel, or no constant weights"
    return Quantized(
        result, tuple(Skipped(f"{n} x {name}", reasons.get(name, rest)) for name, n in counts.float_ops.items())
    )


def _store_convolutions(model: Any, bits: int) -> None:
    """int8 for the constant weights [outputs, ...] of every Conv, one scale an output, in place."""
    import onnx

    graph = model.graph
    names = {node.input[1] for node in graph.node if node.op_type == "Conv"}
    for tensor in [entry for entry in graph.initializer if entry.name in names]:
        weights = onnx.numpy_helper.to_array(tensor)
        ((integers,), (scales,)) = round_with_feedback(weights.reshape(1, len(weights), -1), None, 2 ** (bits - 1) - 1)
        name, along = tensor.name, (len(scales), *[1] * (weights.ndim - 1))
        tensor.CopyFrom(onnx.numpy_helper.from_array(integers.reshape(weights.shape), f"{name}_int8"))
        graph.initializer.append(onnx.numpy_helper.from_array(scales.reshape(along), f"{name}_scale"))
        cast = onnx.helper.make_node("Cast", [f"{name}_int8"], [f"{name}_cast"], to=onnx.TensorProto.FLOAT)
        graph.node.insert(0, onnx.helper.make_node("Mul", [f"{name}_cast", f"{name}_scale"], [name]))
        graph.node.insert(0, cast)
