"""Reading a .tflite file by its schema, in pure Python, so that a damaged file cannot crash the process.

The runtime's C++ reader may die on a malformed flatbuffer; here every offset is followed by bounds-checked
Python before the runtime sees the file. Schema: tensorflow/compiler/mlir/lite/schema/schema.fbs.
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np

from edge.errors import BadModel
from edge.tensors import Quantization, TensorSpec

# TensorType of the schema -> numpy's name; 4-bit types are packed two to a byte.
DTYPES: dict[int, str] = {
    0: "float32",
    1: "float16",
    2: "int32",
    3: "uint8",
    4: "int64",
    5: "string",
    6: "bool",
    7: "int16",
    8: "complex64",
    9: "int8",
    10: "float64",
    11: "complex128",
    12: "uint64",
    15: "uint32",
    16: "uint16",
}
_DAMAGED = "the file is damaged: copy it again or convert the model again"


def read_flatbuffer(path: Path) -> Any:
    """The unpacked `ModelT` of a .tflite file, with every index and constant size checked.

    Raises:
        BadModel: not a .tflite file, truncated, or with a reference that leads nowhere.

    """
    return parse_flatbuffer(path.read_bytes(), str(path))


def parse_flatbuffer(data: bytes, name: str = "the model") -> Any:
    """`read_flatbuffer` for bytes; `name` is what an error message calls them."""
    if len(data) < 16 or data[4:8] != b"TFL3":
        raise BadModel(f"{name} is not a .tflite file: no identifier TFL3 at byte 4", _DAMAGED)
    if struct.unpack_from("<I", data)[0] + 4 > len(data):
        raise BadModel(f"{name} is truncated: its root lies beyond its {len(data)} bytes", _DAMAGED)
    from ai_edge_litert import schema_py_generated as schema

    try:
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        _inline_data(model, data)
        _check(model)
    except BadModel as error:
        raise BadModel(f"{name}: {error.message}", _DAMAGED) from error
    # What damage can raise inside the generated reader is open-ended; none of it is a bug of ours.
    except (struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise BadModel(f"{name} cannot be read as a flatbuffer: {error}", _DAMAGED) from error
    return model


def _inline_data(model: Any, data: bytes) -> None:
    """Large models keep data behind the flatbuffer, at an offset; 0 and 1 mean "in the buffer"."""
    for buffer in model.buffers or ():
        if buffer.offset > 1:
            if buffer.offset + buffer.size > len(data):
                raise BadModel("the data of a constant lies beyond the end of the file")
            buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)


def _check(model: Any) -> None:
    if not model.subgraphs:
        raise BadModel("it has no graph")
    n_buffers = len(model.buffers or ())
    for number, graph in enumerate(model.subgraphs):
        tensors = graph.tensors if graph.tensors is not None else []
        for index, tensor in enumerate(tensors):
            if not 0 <= tensor.buffer < n_buffers:
                raise BadModel(f"tensor {index} of graph {number} names buffer {tensor.buffer} of {n_buffers}")
            _check_constant(model.buffers[tensor.buffer], tensor, index)
        for kind in ("inputs", "outputs"):
            for index in _ints(getattr(graph, kind)):
                if not 0 <= index < len(tensors):
                    raise BadModel(f"{kind} of graph {number} name tensor {index} of {len(tensors)}")
        _check_operators(graph, len(tensors), len(model.operatorCodes or ()))


def _check_operators(graph: Any, n_tensors: int, n_codes: int) -> None:
    for position, operator in enumerate(graph.operators if graph.operators is not None else []):
        if not 0 <= operator.opcodeIndex < n_codes:
            raise BadModel(f"operation {position} has code {operator.opcodeIndex} of {n_codes}")
        for index in (*_ints(operator.inputs), *_ints(operator.outputs)):
            if not -1 <= index < n_tensors:  # -1 is an optional input that is absent
                raise BadModel(f"operation {position} names tensor {index} of {n_tensors}")


def _check_constant(buffer: Any, tensor: Any, index: int) -> None:
    if buffer.data is None or len(buffer.data) == 0 or tensor.type not in DTYPES or tensor.type == 5 or tensor.sparsity:
        return
    shape = _ints(tensor.shape)
    expected = int(np.prod(shape, dtype=np.int64)) * np.dtype(DTYPES[tensor.type]).itemsize
    if min(shape, default=1) < 0 or expected != len(buffer.data):
        raise BadModel(f"constant tensor {index} of shape {shape} holds {len(buffer.data)} bytes, not {expected}")
    if tensor.type == 0 and np.isnan(np.asarray(buffer.data, np.uint8).view(np.float32)).any():
        raise BadModel(f"constant tensor {index} holds NaN")


def _ints(values: Any) -> tuple[int, ...]:
    return () if values is None else tuple(int(value) for value in values)


def signature_specs(model: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of the main graph, by the names of the signature where there is one, else of the tensors."""
    graph = model.subgraphs[0]
    names: dict[str, dict[int, str]] = {"inputs": {}, "outputs": {}}
    for signature in (model.signatureDefs or ())[:1]:
        if signature.subgraphIndex == 0:
            for kind, by_index in names.items():
                for entry in getattr(signature, kind) or ():
                    by_index[entry.tensorIndex] = _text(entry.name)
    inputs = tuple(_spec(graph.tensors[i], names["inputs"].get(i)) for i in _ints(graph.inputs))
    outputs = tuple(_spec(graph.tensors[i], names["outputs"].get(i)) for i in _ints(graph.outputs))
    return inputs, outputs


def _spec(tensor: Any, name: str | None) -> TensorSpec:
    static = _ints(tensor.shape)
    declared = _ints(tensor.shapeSignature) if tensor.shapeSignature is not None else static
    shape = tuple(None if dim < 0 else dim for dim in (declared or static))
    details = tensor.quantization
    affine = None
    if details is not None and details.scale is not None and len(details.scale) == 1:
        affine = Quantization(float(details.scale[0]), int(details.zeroPoint[0]))
    dtype = DTYPES.get(tensor.type)
    if dtype is None:
        raise BadModel(f"tensor {_text(tensor.name)!r} has type {tensor.type}, which has no numpy type")
    return TensorSpec(name if name is not None else _text(tensor.name), shape, dtype, affine)


def _text(raw: bytes | str | None) -> str:
    return raw.decode(errors="replace") if isinstance(raw, bytes) else (raw or "")
