"""The walk through a Keras 3 model that applies the rule of every layer in the order of the graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compress.prune.channels.keras_table import rule_for
from compress.prune.channels.keras_use import Flows, Resize, Shape, Use
from compress.prune.channels.structure import Flow, Structure
from edge.errors import BadModel


@dataclass(frozen=True)
class Traced:
    """The structure of a model, and the settings of its layers that count channels."""

    structure: Structure
    resizes: tuple[Resize, ...]


def trace(model: Any) -> Traced:
    """Find the channels of a Keras 3 model that can be pruned. The channels of inputs and outputs stay.

    Raises:
        BadModel: not a functional or Sequential Keras 3 model (named), or with shapes that are not fixed.

    """
    require_graph(model)
    structure, resizes = Structure(), list[Resize]()
    outputs = _walk(model, [None] * len(model.inputs), structure, resizes, "")
    for flow in outputs:
        if flow is not None:
            structure.keep(flow.labels, "they are an output of the model")
    return Traced(structure, tuple(resizes))


def require_graph(model: Any) -> None:
    """Raise BadModel where a model is not a graph of layers that Keras 3 can tell."""
    import keras

    if not isinstance(model, keras.Model):
        raise BadModel(
            f"training-time passes need a Keras 3 model, not {type(model).__module__}.{type(model).__qualname__}",
            "save the model with Keras 3, or convert it to .onnx",
        )
    if not _is_graph(model):
        raise BadModel(
            f"model {model.name!r} of class {type(model).__name__} is not a graph of layers",
            "build it with keras.Model(inputs, outputs) or keras.Sequential, or convert it to .onnx",
        )


def graph_of(model: Any) -> Any:
    """The functional graph of a model; that of a Sequential model is inside it."""
    import keras

    return model._functional if isinstance(model, keras.Sequential) else model  # noqa: SLF001 - no public way


def _is_graph(model: Any) -> bool:
    graph = graph_of(model)
    return graph is not None and hasattr(graph, "_nodes_by_depth") and bool(getattr(graph, "outputs", None))


def _walk(model: Any, inputs: Flows, structure: Structure, resizes: list[Resize], prefix: str) -> Flows:
    """The flows of a model's outputs, given those of its inputs."""
    graph = graph_of(model)
    flows: dict[int, Flow | None] = dict(zip(map(id, graph.inputs), inputs, strict=True))
    for node in nodes(graph):
        operation = node.operation
        tensors = node.input_tensors
        given = [flows[id(tensor)] for tensor in tensors]
        name = prefix + operation.name
        if _is_graph_layer(operation):
            for flow in given:
                if flow is not None:
                    structure.keep(flow.labels, f"{name} is a model of its own, and its input keeps its shape")
            made = _walk(operation, given, structure, resizes, f"{name}/")
        else:
            made = _apply(operation, node, tensors, given, structure, resizes, name)
        flows |= dict(zip(map(id, node.outputs), made, strict=True))
    return [flows[id(tensor)] for tensor in graph.outputs]


def nodes(graph: Any) -> list[Any]:
    """The calls of a functional graph, each after those it needs, without the inputs."""
    by_depth: Mapping[int, Sequence[Any]] = graph._nodes_by_depth  # noqa: SLF001 - no public way
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]


def _is_graph_layer(operation: Any) -> bool:
    import keras

    return isinstance(operation, keras.Model) and _is_graph(operation)


def _apply(
    operation: Any,
    node: Any,
    tensors: Sequence[Any],
    given: Flows,
    structure: Structure,
    resizes: list[Resize],
    name: str,
) -> Flows:
    use = Use(
        structure, resizes, operation, operation, name, given,
        [_shape(tensor) for tensor in tensors], [_shape(tensor) for tensor in node.outputs],
        tensors, node.arguments,
    )  # fmt: skip
    rule = rule_for(operation)
    if rule is None:
        return use.stop("how channels pass through it is not known")
    return rule(use)


def _shape(tensor: Any) -> Shape:
    return tuple(tensor.shape)
