"""An ONNX model in few bytes: equal constants stored once, short names inside. Nothing that computes changes.

Quantization writes a scale, a zero point and two operations for every tensor, each with names of some 50 letters: in a
small network a tenth of the file. Inputs and outputs keep their names, and so do the operations that compute.
"""

import itertools
import string
from collections.abc import Iterator
from typing import Any

_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


def compact(model: Any) -> None:
    """Make a ModelProto smaller, in place."""
    graph = model.graph
    inner = set(_read_inside(graph))
    kept = {value.name for value in (*graph.input, *graph.output)} | inner
    _drop_zero_points(graph)
    _share(graph, kept)
    _shorten(graph, kept)
    del graph.value_info[:]
    del graph.quantization_annotation[:]
    model.doc_string = graph.doc_string = ""
    for node in graph.node:
        node.doc_string = ""
        if node.op_type in _QUANTIZERS:
            node.name = ""


def _read_inside(graph: Any) -> Iterator[str]:
    """The names that branches and loop bodies mention: they may be the outer graph's."""
    for node in graph.node:
        for attribute in node.attribute:
            for body in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from (name for entry in body.node for name in (*entry.input, *entry.output))
                yield from (value.name for value in (*body.input, *body.output, *body.initializer))
                yield from _read_inside(body)


def _drop_zero_points(graph: Any) -> None:
    """A 32-bit DequantizeLinear knows no zero point but 0, and that it may leave out.

    https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html
    """
    import onnx

    wide = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT32}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and len(node.input) == 3 and node.input[2] in wide:
            del node.input[2]


def _share(graph: Any, kept: set[str]) -> None:
    """One constant for all that are equal, and none that nothing reads."""
    first: dict[bytes, str] = {}
    same: dict[str, str] = {}
    for tensor in graph.initializer:
        if tensor.name not in kept:
            content = type(tensor)()
            content.CopyFrom(tensor)
            content.name = content.doc_string = ""
            same[tensor.name] = first.setdefault(content.SerializeToString(), tensor.name)
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
    read = {name for node in graph.node for name in node.input} | kept
    left = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(left)


def _shorten(graph: Any, kept: set[str]) -> None:
    letters = itertools.chain.from_iterable(
        itertools.product(string.ascii_lowercase, repeat=length) for length in itertools.count(1)
    )
    free = (name for name in map("".join, letters) if name not in kept)
    short = {name: name for name in (*kept, "")}
    for tensor in graph.initializer:
        if tensor.name not in short:
            short[tensor.name] = next(free)
        tensor.name, tensor.doc_string = short[tensor.name], ""
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name not in short:
                    short[name] = next(free)
                names[place] = short[name]
