"""The graph of a functional model in either Keras, as calls of layers on tensors."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from edge.errors import BadModel

Map = Callable[[Any], Any]


@dataclass(frozen=True)
class Call:
    """One use of a layer or operation: its arguments as they were given, tensors of the source model among them."""

    layer: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[Any, ...]


def is_tensor(leaf: Any) -> bool:
    """Whether a leaf of the arguments is a symbolic tensor; both Keras mark them alike."""
    return hasattr(leaf, "_keras_history")


def require_graph(model: Any) -> None:
    """Only a graph of layers can be walked.

    Raises:
        BadModel: the model is subclassed, or a Sequential that was never built.

    """
    if not (hasattr(model, "_nodes_by_depth") or is_sequential(model)):
        raise BadModel(
            f"model {model.name!r} is subclassed ({type(model).__name__}): its layers are called by Python code",
            "build it with Model(inputs, outputs) or Sequential",
        )
    if not getattr(functional(model), "inputs", None):
        raise BadModel(f"model {model.name!r} was never built, so its inputs are unknown", "give it an Input first")


def is_sequential(model: Any) -> bool:
    """Whether it is a Sequential of either Keras."""
    return any(kind.__name__ == "Sequential" for kind in type(model).__mro__)


def is_model(layer: Any) -> bool:
    """Whether a layer is itself a model of either Keras."""
    return any(kind.__name__ == "Model" for kind in type(layer).__mro__)


def functional(model: Any) -> Any:
    """The functional graph of a model; a Keras 3 Sequential keeps its own inside."""
    return getattr(model, "_functional", None) or model


def structures(model: Any) -> tuple[Any, Any]:
    """The inputs and outputs of a model as it was built: one tensor, a list or a dictionary of them."""
    graph = functional(model)
    if hasattr(graph, "_inputs_struct"):
        return graph._inputs_struct, graph._outputs_struct  # noqa: SLF001 -- Keras 3 has no public way to ask
    return graph._nested_inputs, graph._nested_outputs  # noqa: SLF001 -- nor has tf_keras


def calls(model: Any) -> Iterator[Call]:
    """Every call of the graph, those that make a tensor before those that take it; inputs are left out."""
    by_depth = functional(model)._nodes_by_depth  # noqa: SLF001 -- the one record of the graph
    for depth in sorted(by_depth, reverse=True):
        for node in by_depth[depth]:
            if node.is_input:
                continue
            if hasattr(node, "operation"):
                arguments = node.arguments
                yield Call(node.operation, tuple(arguments.args), dict(arguments.kwargs), tuple(node.outputs))
            else:
                outputs = tuple(_flat(node.outputs))
                yield Call(node.layer, tuple(node.call_args), dict(node.call_kwargs), outputs)


def layers_of(model: Any) -> tuple[Any, ...]:
    """Each layer and operation of the graph once, in the order of its first call."""
    return tuple({id(call.layer): call.layer for call in calls(model)}.values())


def run(model: Any, inputs: Any, apply: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]) -> Any:
    """Replay the graph: `inputs` in the structure of the model's own, `apply(layer, args, kwargs)` for every call.

    Returns the outputs in the structure of the model's own.
    """
    source, target = structures(model)
    made = {id(old): new for old, new in zip(_flat(source), _flat(inputs), strict=True)}

    def replaced(structure: Any) -> Any:
        return map_structure(lambda leaf: made[id(leaf)] if is_tensor(leaf) else leaf, structure)

    for call in calls(model):
        result = apply(call.layer, replaced(call.args), replaced(call.kwargs))
        made |= {id(old): new for old, new in zip(call.outputs, _flat(result), strict=True)}
    return replaced(target)


def map_structure(function: Map, structure: Any) -> Any:
    """`function` on every leaf of lists, tuples and dictionaries; other objects are leaves."""
    if isinstance(structure, dict):
        return {key: map_structure(function, value) for key, value in structure.items()}
    if isinstance(structure, list | tuple):
        return type(structure)([map_structure(function, value) for value in structure])
    return function(structure)


def _flat(structure: Any) -> list[Any]:
    import tensorflow as tf

    leaves: list[Any] = tf.nest.flatten(structure)
    return leaves
