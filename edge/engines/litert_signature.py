"""Another signature of a .tflite model as the main one.

A signature is a subgraph; the interpreter's record of operations, and its allocation and delegation from Python, are
of the first one only. So the file's first subgraph and the wanted one change places, and everything is as if the
model had been exported with that one alone.
"""

import struct

from edge.errors import BadModel

SUBGRAPHS = 2  # field of Model in tensorflow/compiler/mlir/lite/schema/schema.fbs


def main_subgraph(model: bytes, index: int) -> bytes:
    """The model with its subgraph `index` first.

    A vector of tables holds, per element, the distance from that element to its table (flatbuffers, "Internals"):
    two elements change places when both distances are written anew. Subgraphs that others call (bodies of loops, what
    CALL_ONCE runs) keep their numbers, since no one calls a signature's.

    Raises:
        BadModel: the file has no such subgraph.

    """
    changed = bytearray(model)
    try:
        root = _u32(model, 0)
        table = root - struct.unpack_from("<i", model, root)[0]
        vector = root + struct.unpack_from("<H", model, table + 4 + 2 * SUBGRAPHS)[0]
        vector += _u32(model, vector)
        if not index < _u32(model, vector):
            raise BadModel(f"the model has {_u32(model, vector)} subgraphs, not {index + 1}")
        first, wanted = vector + 4, vector + 4 + 4 * index
        targets = first + _u32(model, first), wanted + _u32(model, wanted)
        struct.pack_into("<I", changed, first, targets[1] - first)
        struct.pack_into("<I", changed, wanted, targets[0] - wanted)
    except struct.error:
        raise BadModel("the model's subgraphs cannot be read: the file is damaged") from None
    return bytes(changed)


def _u32(data: bytes, at: int) -> int:
    value: int = struct.unpack_from("<I", data, at)[0]
    return value
