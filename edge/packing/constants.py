"""Where the constants of a model lie in its file: read by the format's own rules, without a library.

A .tflite is a flatbuffer (https://flatbuffers.dev/internals/, schema.fbs of TensorFlow Lite), an .onnx is Protocol
Buffers (onnx.proto). What is not found here is not lost: it is packed with the rest of the file.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

# TensorType of schema.fbs -> bytes of an element; others (strings, resources) are no numbers
_TFLITE_BYTES = {0: 4, 1: 2, 2: 4, 3: 1, 4: 8, 7: 2, 9: 1, 10: 8, 12: 8, 15: 4, 16: 2, 17: 1}
# TensorProto.DataType -> bytes of an element of raw_data
_ONNX_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2, 21: 1, 22: 1}
_DAMAGE = (struct.error, IndexError, ValueError, OverflowError, RecursionError)
_MAX_DEPTH = 16


@dataclass(frozen=True)
class Constant:
    """`size` bytes from `start` on: elements of `item_bytes`, in `rows` rows of equal length."""

    start: int
    size: int
    item_bytes: int
    rows: int


def find_constants(model: bytes, file_format: str) -> tuple[Constant, ...]:
    """The constants of a .tflite or .onnx in the order of the file, none overlapping; () where it cannot be read."""
    readers = {"tflite": _tflite, "onnx": _onnx}
    if file_format not in readers:
        return ()
    try:
        found = sorted(set(readers[file_format](model)), key=lambda constant: (constant.start, -constant.size))
    except _DAMAGE:
        return ()
    kept: list[Constant] = []
    end = 0
    for constant in found:
        if constant.start >= end and constant.start + constant.size <= len(model):
            kept.append(constant)
            end = constant.start + constant.size
    return tuple(kept)


def _constant(start: int, size: int, item_bytes: int | None, shape: list[int]) -> Iterator[Constant]:
    if item_bytes is None or size <= 0 or size % item_bytes:
        return
    rows = shape[0] if shape and shape[0] > 0 and (size // item_bytes) % shape[0] == 0 else 1
    yield Constant(start, size, item_bytes, rows)


def _tflite(model: bytes) -> Iterator[Constant]:
    root = struct.unpack_from("<I", model)[0]
    buffers = list(_tables(model, root, 4))
    for graph in _tables(model, root, 2):
        for tensor in _tables(model, graph, 0):
            kind, number = _scalar(model, tensor, 1, "<b"), _scalar(model, tensor, 2, "<I")
            data = _field(model, buffers[number], 0)
            if data is None:
                continue
            start, size = _vector(model, data)
            shape = _field(model, tensor, 0)
            first, rank = _vector(model, shape) if shape is not None else (0, 0)
            yield from _constant(
                start, size, _TFLITE_BYTES.get(kind), list(struct.unpack_from(f"<{rank}i", model, first))
            )


def _field(model: bytes, table: int, number: int) -> int | None:
    """Where field `number` of the table at `table` stands; None where it is left out."""
    vtable = table - struct.unpack_from("<i", model, table)[0]
    if vtable < 0 or 4 + 2 * number >= struct.unpack_from("<H", model, vtable)[0]:
        return None
    offset = struct.unpack_from("<H", model, vtable + 4 + 2 * number)[0]
    return table + offset if offset else None


def _scalar(model: bytes, table: int, number: int, form: str) -> int:
    at = _field(model, table, number)
    return 0 if at is None else int(struct.unpack_from(form, model, at)[0])


def _vector(model: bytes, at: int) -> tuple[int, int]:
    """The first element of the vector that the field at `at` points to, and how many it has."""
    start = at + struct.unpack_from("<I", model, at)[0]
    return start + 4, struct.unpack_from("<I", model, start)[0]


def _tables(model: bytes, table: int, number: int) -> Iterator[int]:
    at = _field(model, table, number)
    if at is None:
        return
    first, n = _vector(model, at)
    if first + 4 * n > len(model):
        raise ValueError("a vector ends behind the end of the file")
    for entry in range(first, first + 4 * n, 4):
        yield entry + struct.unpack_from("<I", model, entry)[0]


# field -> what it holds, on the way from ModelProto to TensorProto
_ONNX_CHILDREN = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph"},
}


def _onnx(
    model: bytes, kind: str = "model", start: int = 0, end: int | None = None, depth: int = 0
) -> Iterator[Constant]:
    if depth > _MAX_DEPTH:
        return
    stop = len(model) if end is None else end
    if kind == "tensor":
        yield from _onnx_tensor(model, start, stop)
        return
    for number, wire, first, size in _fields(model, start, stop):
        child = _ONNX_CHILDREN[kind].get(number)
        if child is not None and wire == 2:
            yield from _onnx(model, child, first, first + size, depth + 1)


def _onnx_tensor(model: bytes, start: int, end: int) -> Iterator[Constant]:
    shape: list[int] = []
    kind, raw = 0, (0, 0)
    for number, wire, first, size in _fields(model, start, end):
        if number == 1 and wire == 0:
            shape.append(size)
        elif number == 1 and wire == 2:
            at = first
            while at < first + size:
                value, at = _varint(model, at)
                shape.append(value)
        elif number == 2 and wire == 0:
            kind = size
        elif number == 9 and wire == 2:
            raw = (first, size)
    yield from _constant(*raw, _ONNX_BYTES.get(kind), shape)


def _fields(model: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(number, wire type, first byte, size) of each field; for a varint `size` is its value."""
    at = start
    while at < end:
        tag, at = _varint(model, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(model, at)
            yield tag >> 3, wire, at, value
            continue
        if wire == 2:
            size, at = _varint(model, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > end:
            raise ValueError("a field ends behind the end of its message")
        yield tag >> 3, wire, at, size
        at += size


def _varint(model: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = model[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number has no end")
