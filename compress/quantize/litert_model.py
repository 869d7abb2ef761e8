"""What the LiteRT quantizers need to know of a .tflite: is it float, what runs in integers, what stayed float."""

import struct
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from compress.quantize import OpCount
from edge.errors import BadModel
from edge.report import Skipped

# TensorType and BuiltinOperator of the schema (tensorflow/compiler/mlir/lite/schema/schema.fbs).
FLOAT32, FLOAT16, INT64 = 0, 1, 4
_INTEGERS = frozenset({3, 7, 9, 17})  # uint8, int16, int8, int4
_DEQUANTIZE, _QUANTIZE = 6, 114
# Operations that move or reshape data: they compute nothing, so their type costs nothing.
_MOVES = frozenset({22, 43, 70, 77, 88, 94, 102, 150})
# Where the weights stand among the inputs of an operation.
_WEIGHTS_AT = {
    "CONV_2D": 1,
    "DEPTHWISE_CONV_2D": 1,
    "FULLY_CONNECTED": 1,
    "TRANSPOSE_CONV": 1,
    "GATHER": 0,
    "EMBEDDING_LOOKUP": 1,
}
_CONTROL_FLOW = {118: "IF", 119: "WHILE", 44: "UNIDIRECTIONAL_SEQUENCE_LSTM", 16: "LSTM"}


def read_model(data: bytes) -> Any:
    """The unpacked `ModelT` of a .tflite.

    Raises:
        BadModel: it cannot be read.

    """
    from ai_edge_litert import schema_py_generated as schema

    if data[4:8] != b"TFL3":
        raise BadModel("the model is not a .tflite file", "convert it first")
    try:
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        for buffer in model.buffers:
            # Offsets 0 and 1 mean "the data is in the buffer"; others point behind the flatbuffer (large models).
            if buffer.offset > 1:
                buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    except (struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise BadModel(f"the .tflite file is damaged: {error}", "convert the model again") from error
    return model


def upgrade(model: Any) -> Any:
    """The model as litert_quantizer understands it, changed in place.

    It reads only the new field of an operation's code and finds tensors by their names, which old files leave
    empty or use twice.
    """
    model.signatureDefs = model.signatureDefs or []
    for code in model.operatorCodes:
        code.builtinCode = max(int(code.builtinCode), int(code.deprecatedBuiltinCode))
    names: set[bytes] = set()
    for graph in model.subgraphs:
        for index, tensor in enumerate(graph.tensors):
            name = tensor.name or b"tensor"
            tensor.name = name if name not in names else name + b"_%d" % index
            while tensor.name in names:
                tensor.name += b"_"
            names.add(tensor.name)
    return model


def restore_names(result: Any, original: Any) -> Any:
    """Give the outputs of a quantized model, changed in place, the names they had without a DEQUANTIZE."""
    for graph, before in zip(result.subgraphs, original.subgraphs, strict=True):
        for index, old in zip(graph.outputs, before.outputs, strict=True):
            name = before.tensors[old].name
            for tensor in graph.tensors:
                if tensor.name == name and tensor is not graph.tensors[index]:
                    tensor.name = name + b"_quantized"
            graph.tensors[index].name = name
    return result


def require_float(model: Any) -> None:
    """A model that is quantized already cannot be quantized again: its float weights are gone.

    Raises:
        BadModel: a constant or an activation is stored in integers or in float16.

    """
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            details = tensor.quantization
            scaled = details is not None and details.scale is not None and len(details.scale) > 0
            constant = len(_data(model, tensor)) > 0
            if (scaled and tensor.type in _INTEGERS) or (constant and tensor.type == FLOAT16):
                name = tensor.name.decode()
                raise BadModel(
                    f"the .tflite is quantized already: tensor {name!r} holds {_type_name(tensor.type)}",
                    "start from the float32 .tflite or from the Keras model",
                )


def require_static_graph(model: Any, precision: str) -> None:
    """Static quantization needs the range of every activation, which those inside a loop do not show.

    Raises:
        BadModel: the model has loops, branches or fused recurrent cells.

    """
    kinds = {_kind(model, operator) for graph in model.subgraphs for operator in _operators(graph)}
    found = sorted(name for code, name in _CONTROL_FLOW.items() if code in kinds)
    if found:
        raise BadModel(
            f"{', '.join(found)} cannot be quantized to {precision}: activations inside are not visible to calibration",
            "use dynamic or float16, or build the recurrent layers with unroll=True and convert again",
        )


def count_ops(data: bytes) -> OpCount:
    """How many operations compute on integers or integer weights, and which stayed float.

    QUANTIZE, DEQUANTIZE and pure data movement count as neither.
    """
    model = read_model(data)
    quantized, floats = 0, Counter[str]()
    for graph in model.subgraphs:
        for operator in _operators(graph):
            kind = _kind(model, operator)
            if kind in _MOVES or kind in (_QUANTIZE, _DEQUANTIZE):
                continue
            inputs = [graph.tensors[i] for i in operator.inputs if i >= 0] if operator.inputs is not None else []
            outputs = [graph.tensors[i] for i in operator.outputs] if operator.outputs is not None else []
            if any(t.type in _INTEGERS for t in (*inputs, *outputs)):
                quantized += 1
            elif any(t.type in (FLOAT32, FLOAT16) for t in (*inputs, *outputs)):
                floats[_op_name(kind)] += 1
    return OpCount(quantized, dict(sorted(floats.items())))


def stayed_float(data: bytes, reason: str) -> tuple[Skipped, ...]:
    """The operations that `count_ops` finds float, as entries for the report."""
    return tuple(Skipped(f"{n} x {name}", reason) for name, n in count_ops(data).float_ops.items())


def stored_as(data: bytes, dtype: str) -> dict[str, int]:
    """Constants of one type ("float32", "int8", ...) and at least two dimensions, counted by their operation."""
    model = read_model(data)
    found = Counter[str]()
    for graph in model.subgraphs:
        for operator in _operators(graph):
            for index in operator.inputs if operator.inputs is not None else ():
                tensor = graph.tensors[index]
                if (
                    index >= 0
                    and is_constant(model, tensor)
                    and len(_shape(tensor)) >= 2
                    and _type_name(tensor.type) == dtype
                ):
                    found[_op_name(_kind(model, operator))] += 1
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class WeightedOperator:
    """An operation of the main graph with constant weights: where it stands, its kind ("CONV_2D", ...), the name of
    its first output, and the tensor of its weights with their shape.
    """

    place: int
    kind: str
    name: str
    weights: int
    shape: tuple[int, ...]


def weighted_operators(model: Any) -> list[WeightedOperator]:
    """The convolutions, dense layers and embeddings of the main graph that have constant float weights."""
    found = []
    graph = model.subgraphs[0]
    for place, operator in enumerate(_operators(graph)):
        kind = operator_kind(model, operator)
        at = _WEIGHTS_AT.get(kind)
        if at is None or len(operator.inputs) <= at:
            continue
        index = int(operator.inputs[at])
        tensor = graph.tensors[index]
        shape = tuple(int(size) for size in _shape(tensor))
        if index >= 0 and tensor.type == FLOAT32 and is_constant(model, tensor) and len(shape) >= 2:
            name = graph.tensors[operator.outputs[0]].name.decode()
            found.append(WeightedOperator(place, kind, name, index, shape))
    return found


def drop_unread(model: Any) -> None:
    """Empty the buffers that no tensor names any more; buffers are known by their place, so they stay in the list."""
    read = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    read |= {entry.buffer for entry in model.metadata or ()}
    for place, buffer in enumerate(model.buffers):
        if place not in read:
            buffer.data = None


def _shape(tensor: Any) -> Any:
    return () if tensor.shape is None else tensor.shape


def is_constant(model: Any, tensor: Any) -> bool:
    """Whether a tensor's values stand in the file."""
    return len(_data(model, tensor)) > 0


def _data(model: Any, tensor: Any) -> Any:
    data = model.buffers[tensor.buffer].data
    return () if data is None else data


def _operators(graph: Any) -> Any:
    return () if graph.operators is None else graph.operators


def _kind(model: Any, operator: Any) -> int:
    code = model.operatorCodes[operator.opcodeIndex]
    return max(int(code.builtinCode), int(code.deprecatedBuiltinCode))  # old files use only the deprecated field


def operator_kind(model: Any, operator: Any) -> str:
    """The kind of an operation: "CONV_2D", ..."""
    return _op_name(_kind(model, operator))


def _op_name(kind: int) -> str:
    from ai_edge_litert import schema_py_generated as schema

    return next((n for n, v in vars(schema.BuiltinOperator).items() if v == kind), f"operation {kind}")


def _type_name(kind: int) -> str:
    from ai_edge_litert import schema_py_generated as schema

    return next((n.lower() for n, v in vars(schema.TensorType).items() if v == kind), f"type {kind}")
