"""Writing a .tflite in few bytes: what says nothing is left out, equal vectors and strings are stored once.

Nothing that computes changes. Left out are buffers that no tensor names, quantization without a scale, the converter's
notes on itself, and of an inner tensor's name all but the first of the operations that a converter joined in it by ";".

Per-channel quantization writes one int64 zero point per channel, all zero, for every weight and every bias: in a
small network that is up to a fifth of the file. A flatbuffer may point at one vector from many places
(https://flatbuffers.dev/internals/), so equal vectors are shared. Tensor data keeps its 16-byte alignment.
"""

from collections import Counter
from typing import Any

import numpy as np

from compress.quantize.litert_model import read_model

# Buffer.data has force_align: 16 in the schema; the library's Python writer does not know that attribute.
_DATA_ALIGNMENT = 16
_NOTES = b"CONVERSION_METADATA"


def compact(model: bytes) -> bytes:
    """The same .tflite in fewer bytes, or `model` itself where nothing is gained.

    Raises:
        BadModel: `model` is not a readable .tflite.

    """
    parsed = read_model(model)
    _leave_out(parsed)
    small = write_model(parsed)
    return small if len(small) < len(model) else model


def _leave_out(parsed: Any) -> None:
    parsed.metadata = [entry for entry in parsed.metadata or () if entry.name != _NOTES] or None
    for graph in parsed.subgraphs:
        ends = {int(index) for side in (graph.inputs, graph.outputs) for index in (() if side is None else side)}
        firsts = Counter(_first(tensor.name) for tensor in graph.tensors)
        for index, tensor in enumerate(graph.tensors):
            if index not in ends and firsts[_first(tensor.name)] == 1:
                tensor.name = _first(tensor.name)
            details = tensor.quantization
            if details is not None and details.scale is None and details.details is None:
                tensor.quantization = None
    # the first buffer is that of tensors without data
    named = [*(tensor for graph in parsed.subgraphs for tensor in graph.tensors), *(parsed.metadata or ())]
    kept = sorted({0, *(entry.buffer for entry in named)})
    places = {old: new for new, old in enumerate(kept)}
    parsed.buffers = [parsed.buffers[old] for old in kept]
    for entry in named:
        entry.buffer = places[entry.buffer]


def _first(name: bytes | None) -> bytes | None:
    return None if name is None else name.split(b";")[0]


def write_model(parsed: Any) -> bytes:
    """An unpacked `ModelT` as bytes, equal vectors and strings written once, tensor data aligned to 16 bytes."""
    import flatbuffers  # type: ignore[import-untyped]  # has no types

    class Sharing(flatbuffers.Builder):  # type: ignore[misc]  # flatbuffers has no types
        """A builder that remembers what it wrote."""

        def __init__(self) -> None:
            super().__init__(1024)
            self.seen: dict[Any, int] = {}

        def CreateNumpyVector(self, x: Any) -> int:  # noqa: N802 -- the library's name
            values = np.ascontiguousarray(x)
            key = (values.dtype.str, values.tobytes())
            if key not in self.seen:
                if values.dtype == np.uint8:
                    self.Prep(_DATA_ALIGNMENT, values.size)
                self.seen[key] = super().CreateNumpyVector(values)
            return self.seen[key]

        def CreateString(self, s: Any, encoding: str = "utf-8", errors: str = "strict") -> int:  # noqa: N802 -- as above
            key = ("string", s)
            if key not in self.seen:
                self.seen[key] = super().CreateString(s, encoding, errors)
            return self.seen[key]

    builder = Sharing()
    builder.Finish(parsed.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
