"""Every operation of a .tflite or .onnx file, one by one, with what decides where it can run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from convert.cost import onnx_macs, onnx_shapes, tflite_macs
from convert.flatbuffer import DTYPES, read_flatbuffer
from convert.load import read_onnx

# Operations whose MACs follow from more than one shape: recurrent cells, loops and branches (as in convert/cost.py)
_UNCOUNTED = frozenset({
    "BIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_RNN", "IF", "LSTM", "RNN", "SVDF",
    "UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN", "WHILE",
})  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """One operand: `shape` has None where a length is open, and is None where nothing is known of it."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None
    constant: bool = False

    @property
    def size_bytes(self) -> int:
        """Its bytes, with open lengths taken as 1; 0 where nothing is known."""
        if self.shape is None or self.dtype in {"", "string"}:
            return 0
        return prod(1 if n is None else n for n in self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Operation:
    """One operation. `kind` is the builtin's name ("CONV_2D", "Conv"), or a custom operation's own, and `domain` that
    of an ONNX operation outside the standard. `macs` is None where they are unknown. `attributes` are plain values.
    """

    kind: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    macs: int | None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""
    custom: bool = False

    @property
    def data(self) -> Tensor | None:
        """The first operand that is computed, not stored."""
        return next((tensor for tensor in self.inputs if not tensor.constant), None)


@dataclass(frozen=True)
class Census:
    """All operations in the order of the file. `activation_bytes` is the most that is alive between two of them,
    with no buffer reused in place: what an arena needs at least, an estimate of its size.
    """

    operations: tuple[Operation, ...]
    activation_bytes: int


def census(path: Path, model_format: str) -> Census:
    """Count a .tflite or .onnx file.

    Raises:
        BadModel: the file cannot be read.

    """
    found = _tflite(read_flatbuffer(path)) if model_format == "tflite" else _onnx(read_onnx(path))
    return Census(tuple(found), _most_alive(found))


def _tflite(model: Any) -> list[Operation]:
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    names = {number: name for name, number in vars(BuiltinOperator).items() if isinstance(number, int)}
    found = []
    for number, graph in enumerate(model.subgraphs):
        tensors = [_tflite_tensor(model, tensor, number) for tensor in graph.tensors]
        for operator in graph.operators if graph.operators is not None else []:
            code = model.operatorCodes[operator.opcodeIndex]
            kind = max(code.builtinCode, code.deprecatedBuiltinCode)
            custom = kind == BuiltinOperator.CUSTOM
            name = (code.customCode or b"CUSTOM").decode(errors="replace") if custom else names.get(kind, str(kind))
            macs = None if custom or name in _UNCOUNTED else tflite_macs(graph.tensors, operator, kind)
            options = {} if operator.builtinOptions is None else vars(operator.builtinOptions)
            found.append(
                Operation(
                    name,
                    tuple(tensors[i] for i in operator.inputs if i >= 0) if operator.inputs is not None else (),
                    tuple(tensors[i] for i in operator.outputs) if operator.outputs is not None else (),
                    macs,
                    {key: value for key, value in options.items() if isinstance(value, bool | int | float)},
                    custom=custom,
                )
            )
    return found


def _tflite_tensor(model: Any, tensor: Any, graph: int) -> Tensor:
    data = model.buffers[tensor.buffer].data
    declared = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
    shape = None if declared is None else tuple(None if n < 0 else int(n) for n in declared)
    name = tensor.name.decode(errors="replace") if isinstance(tensor.name, bytes) else str(tensor.name or "")
    return Tensor(
        f"{graph}/{name}", DTYPES.get(tensor.type, "int8"), shape, constant=data is not None and len(data) > 0
    )


def _onnx(model: Any) -> list[Operation]:
    import onnx

    shapes = onnx_shapes(model)
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.tensor_type for value in (*inferred.input, *inferred.value_info, *inferred.output)}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    stored = {name for node in model.graph.node if node.op_type == "Constant" for name in node.output}

    def tensor(name: str) -> Tensor:
        if name in constants:
            kind = onnx.helper.tensor_dtype_to_np_dtype(constants[name].data_type)
            return Tensor(name, _dtype(kind), tuple(constants[name].dims), constant=True)
        if name not in types or not types[name].elem_type:
            return Tensor(name, "", None, constant=name in stored)
        dims = types[name].shape.dim
        shape = tuple(int(dim.dim_value) if dim.HasField("dim_value") else None for dim in dims)
        kind = onnx.helper.tensor_dtype_to_np_dtype(types[name].elem_type)
        return Tensor(name, _dtype(kind), shape, constant=name in stored)

    return [
        Operation(
            node.op_type,
            tuple(tensor(name) for name in node.input if name),
            tuple(tensor(name) for name in node.output if name),
            onnx_macs(node, shapes) if node.domain in {"", "ai.onnx"} else None,
            {a.name: _plain(onnx.helper.get_attribute_value(a)) for a in node.attribute if a.type in _PLAIN_TYPES},
            domain="" if node.domain == "ai.onnx" else node.domain,
            custom=node.domain not in {"", "ai.onnx"},
        )
        for node in model.graph.node
        if node.op_type != "Constant"
    ]


_PLAIN_TYPES = (1, 2, 3, 6, 7)  # AttributeProto: FLOAT, INT, STRING, FLOATS, INTS


def _plain(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _dtype(kind: Any) -> str:
    name = np.dtype(kind).name
    return "string" if name == "object" else name


def _most_alive(operations: list[Operation]) -> int:
    last: dict[str, int] = {}
    for number, operation in enumerate(operations):
        last |= {tensor.name: number for tensor in (*operation.inputs, *operation.outputs)}
    alive: dict[str, int] = {}
    most = 0
    for number, operation in enumerate(operations):
        for tensor in (*operation.inputs, *operation.outputs):
            if not tensor.constant:
                alive[tensor.name] = tensor.size_bytes
        most = max(most, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last[name] > number}
    return most
