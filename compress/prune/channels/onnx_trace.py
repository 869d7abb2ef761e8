"""The walk through an ONNX graph that applies the rule of every operation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.prune.channels.onnx_rules import RULES, Flows, Recount, Shape, Use
from compress.prune.channels.structure import Flow, Structure
from edge.errors import BadModel
from edge.report import Skipped

Weights = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class TracedOnnx:
    """The structure of a graph, the numbers in it that count channels, and its initializers by name."""

    structure: Structure
    recounts: tuple[Recount, ...]
    weights: Weights


def trace_onnx(model: Any) -> TracedOnnx:
    """Find the channels of a `ModelProto` that can be pruned. Its Constant nodes become initializers.

    Raises:
        BadModel: shapes cannot be inferred, or are open in other dimensions than the first of an input.

    """
    weights = constants_to_initializers(model)
    shapes = _shapes(model)
    structure, recounts = Structure(), list[Recount]()
    flows: dict[str, Flow | None] = {}
    told_nothing: set[str] = set()
    for node in model.graph.node:
        use = Use(structure, recounts, node, flows, weights, shapes)
        captured = _captured(node)
        made = _apply(use, captured)
        told_nothing |= {name for name in (*node.input, *captured) if name in weights} - use.known
        flows |= dict(zip(node.output, made, strict=True))
    for value in model.graph.output:
        flow = flows.get(value.name)
        if flow is not None:
            structure.keep(flow.labels, "they are an output of the model")
        told_nothing.add(value.name)
    for slot in structure.slots:
        if slot.weight in told_nothing:
            structure.keep(slot.labels, f"{slot.weight} is used by another operation, too")
    return TracedOnnx(structure, tuple(recounts), weights)


def constants_to_initializers(model: Any) -> Weights:
    """Turn Constant nodes into initializers in place, and read them all. Initializers are no inputs any more."""
    import onnx

    graph = model.graph
    kept = []
    for node in graph.node:
        value = next((entry for entry in node.attribute if entry.name.startswith("value")), None)
        if node.op_type != "Constant" or value is None or value.type == onnx.AttributeProto.STRING:
            kept.append(node)
            continue
        found = onnx.helper.get_attribute_value(value)
        if not isinstance(found, onnx.TensorProto):
            kind = np.float32 if value.name in ("value_float", "value_floats") else np.int64
            found = onnx.numpy_helper.from_array(np.asarray(found, kind))
        graph.initializer.add().CopyFrom(found)
        graph.initializer[-1].name = node.output[0]
    del graph.node[:]
    graph.node.extend(kept)
    names = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in names]
    del graph.input[:]
    graph.input.extend(inputs)
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}


def _apply(use: Use, captured: Sequence[str]) -> Flows:
    """The rule of an operation; one with a body of its own, or of unknown shape, stops what reaches it."""
    for name in captured:
        flow = use.flows.get(name)
        if flow is not None:
            use.structure.keep(flow.labels, f"the body of {use.name} uses them")
    if captured:
        return _stopped(use, "it has a body of its own")
    rule = RULES.get(use.node.op_type) if use.node.domain in ("", "ai.onnx") else None
    if rule is None:
        return _stopped(use, "how channels pass through it is not known")
    if any(name and name not in use.shapes for name in (*use.node.input, *use.node.output)):
        return _stopped(use, "its shape is not known")
    return rule(use)


def _stopped(use: Use, reason: str) -> Flows:
    """As `Use.stop`; an operation with matrices of its own is named even where no channel reaches it."""
    named = len(use.structure.skipped)
    made = use.stop(reason)
    matrices = [name for name in use.node.input if name in use.weights and use.weights[name].ndim > 1]
    if matrices and len(use.structure.skipped) == named:
        use.structure.skipped.append(Skipped(use.name, f"{use.node.op_type}: {reason}"))
    return made


def _captured(node: Any) -> list[str]:
    """What the bodies of a node (If, Loop, Scan) name; some of it is theirs, which does no harm."""
    import onnx

    bodies = [entry.g for entry in node.attribute if entry.type == onnx.AttributeProto.GRAPH]
    return [
        name
        for body in bodies
        for inner in body.node
        for name in (*inner.input, *(value.name for value in body.output), *_captured(inner))
    ]


def _shapes(model: Any) -> dict[str, Shape]:
    """The shapes of all tensors at batch 1, as far as they can be inferred."""
    import onnx

    single = type(model)()
    single.CopyFrom(model)
    for value in single.graph.input:
        for i, dimension in enumerate(value.type.tensor_type.shape.dim):
            if dimension.dim_value > 0:
                continue
            if i > 0:
                raise BadModel(
                    f"input {value.name!r} is open in dimension {i}, so its MACs cannot be counted",
                    "export the model for inputs of a fixed size; only the batch may stay open",
                )
            dimension.dim_value = 1
    for value in single.graph.output:
        value.type.tensor_type.ClearField("shape")
    del single.graph.value_info[:]
    try:
        single = onnx.shape_inference.infer_shapes(single, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise BadModel(f"the shapes of the ONNX model cannot be inferred: {error}", "export it again") from error
    graph = single.graph
    found = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        sizes = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        if value.type.tensor_type.HasField("shape") and all(sizes):
            found[value.name] = tuple(sizes)
    return found
