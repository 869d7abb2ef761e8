"""What the ONNX quantizers share: pre-processing, the check that a model is float, and the count of what changed."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from compress.quantize import OpCount
from compress.quantize.onnx_compact import compact
from edge.errors import BadModel
from edge.report import Skipped

_QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast"})
# Operations that move or describe data: they compute nothing, so their type costs nothing.
_MOVES = frozenset(
    [
        "Reshape",
        "Transpose",
        "Shape",
        "Gather",
        "Concat",
        "Slice",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Identity",
        "Constant",
        "ConstantOfShape",
        "Expand",
        "Split",
        "Pad",
        "Tile",
        "Range",
        "Size",
        "Where",
        "Equal",
        "Not",
        "And",
        "Or",
        "Less",
        "Greater",
        "Loop",
        "If",
        "Scan",
    ]
)
_EIGHT_BITS = (2, 3)  # uint8 and int8 of TensorProto.DataType
_INTEGER_OPS = ("Integer", "QLinear", "DynamicQuantize", "MatMulNBits", "QGemm", "QAttention")


def read_model(data: bytes) -> Any:
    """The `ModelProto` of an ONNX model whose data is inside the bytes.

    Raises:
        BadModel: it cannot be read.

    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no types

    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError) as error:
        raise BadModel(f"the ONNX file is damaged: {error}", "export the model again") from error
    if not model.graph.node:
        raise BadModel("the model is not an ONNX file: it has no operations", "export the model again")
    return model


def require_float(model: Any) -> None:
    """A model that is quantized already cannot be quantized again.

    Raises:
        BadModel: it has quantization operations or float16 constants.

    """
    import onnx

    kinds = {node.op_type for node in model.graph.node}
    found = sorted(kind for kind in kinds if kind.endswith("QuantizeLinear") or kind.startswith(_INTEGER_OPS))
    if found or any("QuantizeLinear" in kind or "DequantizeLinear" in kind for kind in kinds):
        raise BadModel(
            f"the ONNX model is quantized already: it has {', '.join(found) or 'DequantizeLinear'}",
            "start from the float32 model",
        )
    half = [t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16]
    if half:
        raise BadModel(f"the ONNX model is float16 already: constant {half[0]!r}", "start from the float32 model")


def preprocess(model: Any) -> Any:
    """Fuse batch normalization into convolutions, fold constants and infer shapes, before anything is quantized.

    Ranges would otherwise be measured between operations that the runtime fuses, and tensors of unknown shape
    would stay float. https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html#pre-processing

    Raises:
        BadModel: ONNX Runtime cannot load the model.

    """
    import onnx
    import onnxruntime
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    with tempfile.TemporaryDirectory(prefix="edgetool-") as folder:
        optimized = Path(folder) / "optimized.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(optimized)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        try:
            onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no common base class
            raise BadModel(f"ONNX Runtime cannot load the model: {_line(error)}", "export it again") from error
        result = onnx.load(str(optimized))
    # The optimizer lists every domain that the runtime knows; only those in use belong into the file.
    used = {node.domain for node in result.graph.node} | {""}
    kept = [entry for entry in result.opset_import if entry.domain in used]
    del result.opset_import[:]
    result.opset_import.extend(kept)
    result = onnx.shape_inference.infer_shapes(result)
    add_pre_process_metadata(result)
    return result


def finish(model: Any) -> bytes:
    """Sort the operations, drop the marks that quantization leaves, store it small, check, and serialize.

    Raises:
        BadModel: the result is not valid ONNX.

    """
    import onnx
    from onnxruntime.quantization.onnx_model import ONNXModel

    ONNXModel(model).topological_sort()  # new nodes are appended at the end
    del model.metadata_props[:]
    compact(model)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise BadModel(f"quantization gave an invalid ONNX model: {_line(error)}", "try another precision") from error
    return bytes(model.SerializeToString())


def count_ops(data: bytes) -> OpCount:
    """How many operations compute on integers, and which stayed float.

    An operation between DequantizeLinear and QuantizeLinear counts as quantized: the runtime fuses the three.
    QuantizeLinear, DequantizeLinear, Cast, pure data movement and what makes a constant of constants count as neither.
    """
    model = read_model(data)
    dequantized = {out for n in model.graph.node if n.op_type == "DequantizeLinear" for out in n.output}
    constants = {tensor.name for tensor in model.graph.initializer}
    from_integers = {tensor.name for tensor in model.graph.initializer if tensor.data_type in _EIGHT_BITS}
    quantized, floats = 0, Counter[str]()
    for node in model.graph.node:
        if node.input and constants.issuperset(node.input):
            constants.update(node.output)
            if not from_integers.isdisjoint(node.input):
                from_integers.update(node.output)
            continue
        if node.op_type in _QUANTIZERS or node.op_type in _MOVES:
            continue
        if not (dequantized | from_integers).isdisjoint(node.input) or any(
            mark in node.op_type for mark in _INTEGER_OPS
        ):
            quantized += 1
        else:
            floats[node.op_type] += 1
    return OpCount(quantized, dict(sorted(floats.items())))


def stayed_float(data: bytes, reason: str) -> tuple[Skipped, ...]:
    """The operations that `count_ops` finds float, as entries for the report."""
    return tuple(Skipped(f"{n} x {name}", reason) for name, n in count_ops(data).float_ops.items())


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
