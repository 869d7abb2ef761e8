"""How large a model is in the abstract: its parameters and its multiply-accumulate operations per example.

MACs of a convolution: output elements * kernel height * kernel width * input channels per group; of a dense layer:
output elements * input features (Sze et al., "Efficient Processing of Deep Neural Networks", 2020, section 2).
"""

from math import prod
from pathlib import Path
from typing import Any

from convert.flatbuffer import read_flatbuffer
from convert.load import load_keras, read_onnx
from edge.artifact import Format


def count(path: Path, model_format: Format, *, trust: bool = False) -> tuple[int, int | None]:
    """Parameters, and MACs per example; None for the latter where a layer's count depends on the data or is unknown.

    Raises:
        BadModel: the model cannot be read.

    """
    if model_format == "tflite":
        return _tflite(read_flatbuffer(path))
    if model_format == "onnx":
        return _onnx(read_onnx(path))
    return count_keras(load_keras(path, trust=trust))


def count_keras(model: Any) -> tuple[int, int | None]:
    """`count` for a Keras 3 or tf_keras model that is already loaded. Random-seed states are not parameters."""
    params = sum(int(prod(w.shape)) for w in model.weights if "seed" not in w.name)
    return params, _layers(model)


def _layers(model: Any) -> int | None:
    total = 0
    for layer in model.layers:
        if hasattr(layer, "layers"):
            inner = _layers(layer)
            if inner is None:
                return None
            total += inner
            continue
        kind = type(layer).__name__
        kernels = [w for w in layer.weights if len(w.shape) >= 2]
        if not kernels or kind in ("Embedding", "BatchNormalization", "LayerNormalization", "Normalization"):
            continue
        macs = _layer(layer, kind, kernels)
        if macs is None:
            return None
        total += macs
    return total


def _layer(layer: Any, kind: str, kernels: list[Any]) -> int | None:
    """MACs of one layer with weights per example; None where the count is not a matter of its shapes alone."""
    out, source = getattr(layer, "output", None), getattr(layer, "input", None)
    if out is None or source is None or not hasattr(out, "shape") or not hasattr(source, "shape"):
        return None
    positions, shape = tuple(out.shape)[1:], tuple(kernels[0].shape)
    if None in positions or None in tuple(source.shape)[1:]:
        return None
    if kind.startswith("Separable"):
        return int(prod(positions[:-1]) * (prod(shape) + prod(kernels[1].shape)))
    # Multiplications behind one element of the output, or of the input where the layer spreads it.
    each = {
        "Dense": prod(positions) * shape[0],
        "Conv": prod(positions) * prod(shape[:-1]),
        "Depthwise": prod(positions) * prod(shape[:-2]),
        "Transpose": prod(tuple(source.shape)[1:]) * prod(shape[:-1]),
    }
    family = {"Dense": "Dense", "Conv1D": "Conv", "Conv2D": "Conv", "Conv3D": "Conv", "DepthwiseConv1D": "Depthwise"}
    family |= {"DepthwiseConv2D": "Depthwise", "Conv1DTranspose": "Transpose", "Conv2DTranspose": "Transpose"}
    return int(each[family[kind]]) if kind in family else None


# Codes of BuiltinOperator whose weights are (input index of the kernel) and whose MACs follow from shapes.
_CONV, _DEPTHWISE, _DENSE, _TRANSPOSE_CONV, _BATCH_MATMUL = 3, 4, 9, 67, 126
# Recurrent cells, loops, branches and operations this toolkit does not know: MACs depend on more than one shape.
_UNKNOWN = frozenset({15, 16, 32, 35, 44, 118, 119})


def _tflite(model: Any) -> tuple[int, int | None]:
    params, macs, known = 0, 0, True
    for graph in model.subgraphs:
        weights: set[int] = set()
        for operator in graph.operators if graph.operators is not None else []:
            code = model.operatorCodes[operator.opcodeIndex]
            kind = max(code.builtinCode, code.deprecatedBuiltinCode)
            for slot, index in enumerate(operator.inputs if operator.inputs is not None else []):
                if index >= 0 and _is_weight(model, graph.tensors[index], slot, kind):
                    weights.add(int(index))
            known = known and kind not in _UNKNOWN
            macs += tflite_macs(graph.tensors, operator, kind)
        params += sum(int(prod(graph.tensors[i].shape)) for i in weights)
    return params, macs if known else None


def _is_weight(model: Any, tensor: Any, slot: int, kind: int) -> bool:
    buffer = model.buffers[tensor.buffer]
    if buffer.data is None or len(buffer.data) == 0:
        return False
    if kind in (_CONV, _DEPTHWISE, _DENSE):
        return slot >= 1
    return tensor.type in (0, 1, 9, 17)  # float32, float16, int8, int4; integers elsewhere are shapes and indices


def tflite_macs(tensors: Any, operator: Any, kind: int) -> int:
    """MACs of one operation of a .tflite graph; 0 for kinds that multiply nothing."""
    if kind not in (_CONV, _DEPTHWISE, _DENSE, _TRANSPOSE_CONV, _BATCH_MATMUL):
        return 0
    out = [int(d) for d in tensors[operator.outputs[0]].shape]
    kernel = [int(d) for d in tensors[operator.inputs[1]].shape]
    if kind == _CONV:
        return prod(out) * prod(kernel[1:])
    if kind == _DEPTHWISE:
        return prod(out) * prod(kernel[1:3])
    if kind == _DENSE:
        return prod(out) * kernel[-1]
    if kind == _TRANSPOSE_CONV:
        return prod(int(d) for d in tensors[operator.inputs[2]].shape) * prod(kernel[:3])
    left = [int(d) for d in tensors[operator.inputs[0]].shape]
    return prod(out) * (left[-2] if operator.builtinOptions is not None and operator.builtinOptions.adjX else left[-1])


def _onnx(model: Any) -> tuple[int, int | None]:
    import onnx

    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    integer = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL)
    scales = {name for node in model.graph.node if node.op_type.endswith("Linear") for name in node.input[1:3]}
    biases = {node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    params = sum(
        int(prod(t.dims))
        for name, t in weights.items()
        if name not in scales and (t.data_type not in integer or name in biases)
    )
    shapes = onnx_shapes(model)
    total = 0
    for node in model.graph.node:
        macs = onnx_macs(node, shapes)
        if macs is None:
            return params, None
        total += macs
    return params, total


def onnx_shapes(model: Any) -> dict[str, list[int]]:
    """The shape of every tensor of an ONNX model, for a batch of 1; 0 where inference found no length."""
    import onnx

    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        dims = value.type.tensor_type.shape.dim
        if dims and not dims[0].HasField("dim_value"):
            dims[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(fixed).graph
    shapes = {name: list(t.dims) for name, t in weights.items()}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes.setdefault(value.name, [d.dim_value for d in value.type.tensor_type.shape.dim])
    return shapes


def onnx_macs(node: Any, shapes: dict[str, list[int]]) -> int | None:
    """MACs of one ONNX node; None where they do not follow from the shapes."""
    kind = node.op_type
    if kind in ("LSTM", "GRU", "RNN", "Loop", "If", "Scan", "Einsum", "Attention", "MultiHeadAttention"):
        return None
    if kind not in ("Conv", "ConvTranspose", "ConvInteger", "Gemm", "MatMul", "MatMulInteger"):
        return 0
    out, left, right = (shapes.get(name) for name in (node.output[0], node.input[0], node.input[1]))
    if not out or not left or not right or 0 in (*out, *left, *right):
        return None  # a shape that inference did not find
    transposed = kind == "Gemm" and any(a.name == "transA" and a.i for a in node.attribute)
    if kind.startswith("Conv"):
        return prod(left if kind == "ConvTranspose" else out) * prod(right[1:])
    return prod(out) * int(left[0] if transposed else left[-1])
