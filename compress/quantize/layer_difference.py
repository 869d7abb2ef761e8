"""How far each layer of an integer .tflite is from the fake-quantized layer that was trained, in steps of its output.

A layer is judged alone: it is cut out of the file and fed with what the fake-quantized model feeds its own, so that
what layers before it rounded otherwise does not count. Which tensor of the file is which of the model is found by
their values: the one of its shape that is nearest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.quantize.litert_compact import write_model
from compress.quantize.litert_model import drop_unread, is_constant, operator_kind, read_model

Values = npt.NDArray[Any]
INT8 = 9  # TensorType of the schema
# A tensor further from the model's than this in the mean, in steps, is another one
NEAREST = 2.0


@dataclass(frozen=True)
class LayerDifference:
    """One layer of the file, by the name of the fake-quantized layer.

    Attributes:
        operations: what computes it in the file, first to last.
        alone: the largest difference in steps, fed with the numbers of the fake-quantized layer.
        share: of the elements, how many differ so.
        in_the_file: the largest difference in steps where the layers before it computed its input.
        off_grid: how far the model's numbers are from the file's steps, at most, in steps. Above 0 the file rounds
            where the model does not.

    """

    name: str
    operations: tuple[str, ...]
    alone: int
    share: float
    in_the_file: float
    off_grid: float


def layer_outputs(model: Any, inputs: Mapping[str, Values]) -> dict[str, Values]:
    """What every layer of a tf_keras model gives for inputs [n, ...] by name: [n, ...], as in inference.

    Layers that are used more than once, or give several tensors, are left out.
    """
    import tf_keras

    once = [layer for layer in model.layers if len(layer.inbound_nodes) == 1 and not isinstance(layer.output, list)]
    inner = tf_keras.Model(model.inputs, [layer.output for layer in once])
    made = inner([inputs[name] for name in model.input_names], training=False)
    return {layer.name: np.asarray(values) for layer, values in zip(once, made, strict=True)}


def layer_differences(
    tflite: bytes, layers: Mapping[str, Values], inputs: Sequence[Values]
) -> tuple[LayerDifference, ...]:
    """Every integer layer of a file that can be told from the values `layers` [n, ...] of a model on `inputs` [n, ...].

    `inputs` are in the order of the file's. Layers that the file computes within another are left out.
    """
    model = read_model(tflite)
    graph = model.subgraphs[0]
    seen = _all_tensors(tflite, inputs)
    matched = _matched(graph, seen, layers)
    fed = {index: values for index, values in seen.items() if index in set(graph.inputs)}
    found = []
    for index, name in matched.items():
        tensor = graph.tensors[index]
        stops = (set(matched) | set(fed)) - {index}
        piece = _piece(model, index, stops)
        starts = sorted({i for op in piece for i in op.inputs if i in stops})
        given = {
            i: fed[i] if i in fed else _integers(layers[matched[i]].reshape(seen[i].shape), graph.tensors[i])
            for i in starts
        }
        got = _run(_cut(tflite, piece, starts, index), list(given.values()))
        wanted = layers[name].reshape(got.shape)
        off = np.abs(got.astype(np.int64) - _integers(wanted, tensor))
        steps = wanted / tensor.quantization.scale[0]
        found.append(
            LayerDifference(
                name,
                tuple(operator_kind(model, op) for op in piece),
                int(off.max()),
                float(np.mean(off > 0)),
                float(np.abs(_real(seen[index], tensor) - wanted).max() / tensor.quantization.scale[0]),
                float(np.abs(steps - np.rint(steps)).max()),
            )
        )
    return tuple(found)


def _matched(graph: Any, seen: Mapping[int, Values], layers: Mapping[str, Values]) -> dict[int, str]:
    """The layer whose values each integer tensor of the graph has, by index, in the order of the file's operations."""
    made = [int(i) for op in graph.operators for i in op.outputs if graph.tensors[i].type == INT8 and i in seen]
    nearest: dict[int, tuple[float, str]] = {}
    for name, values in layers.items():
        fits = [i for i in made if seen[i].size == values.size]
        distances = {
            i: float(np.mean(np.abs(_real(seen[i], graph.tensors[i]).ravel() - values.ravel())))
            / float(graph.tensors[i].quantization.scale[0])
            for i in fits
        }
        best = min(distances, key=lambda i: distances[i], default=None)
        if best is not None and distances[best] < min(NEAREST, nearest.get(best, (NEAREST, ""))[0]):
            nearest[best] = distances[best], name
    return {i: nearest[i][1] for i in made if i in nearest}


def _piece(model: Any, output: int, stops: set[int]) -> list[Any]:
    """The operations that make a tensor of those where to stop, in the order of the file."""
    graph = model.subgraphs[0]
    wanted, piece = {output}, []
    for op in reversed(graph.operators):
        if wanted & {int(i) for i in op.outputs}:
            piece.append(op)
            wanted |= {int(i) for i in op.inputs if i >= 0 and not is_constant(model, graph.tensors[i])} - stops
    return piece[::-1]


def _cut(tflite: bytes, piece: Sequence[Any], inputs: Sequence[int], output: int) -> bytes:
    """A file of some operations alone."""
    model = read_model(tflite)
    graph = model.subgraphs[0]
    kept = {int(op.outputs[0]) for op in piece}
    graph.operators = [op for op in graph.operators if int(op.outputs[0]) in kept]
    graph.inputs, graph.outputs = np.asarray(inputs, np.int32), np.asarray([output], np.int32)
    model.signatureDefs = []
    drop_unread(model)
    return write_model(model)


def _run(data: bytes, inputs: Sequence[Values]) -> Values:
    """The integers that a file of one output gives for stacked inputs, in the runtime as it is shipped."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    places = [entry["index"] for entry in interpreter.get_input_details()]
    (out,) = interpreter.get_output_details()
    made = []
    for row in range(len(inputs[0])):
        for place, values in zip(places, inputs, strict=True):
            interpreter.set_tensor(place, values[row : row + 1])
        interpreter.invoke()
        made.append(interpreter.get_tensor(out["index"]))
    return np.concatenate([np.atleast_1d(one) for one in made])


def _all_tensors(tflite: bytes, inputs: Sequence[Values]) -> dict[int, Values]:
    """What every tensor that is computed holds for stacked inputs: [n, ...] by index."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=tflite,
        num_threads=1,
        experimental_preserve_all_tensors=True,
        # a delegate keeps what is between its operations for itself
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    graph = read_model(tflite).subgraphs[0]
    places = [int(i) for i in graph.inputs]
    computed = [*places, *(int(i) for op in graph.operators for i in op.outputs)]
    made: dict[int, list[Values]] = {i: [] for i in computed}
    for row in range(len(inputs[0])):
        for place, values in zip(places, inputs, strict=True):
            interpreter.set_tensor(place, values[row : row + 1])
        interpreter.invoke()
        for i, rows in made.items():
            rows.append(interpreter.get_tensor(i))
    return {i: np.concatenate([np.atleast_1d(one) for one in rows]) for i, rows in made.items()}


def _integers(values: Values, tensor: Any) -> Values:
    grid = tensor.quantization
    moved = np.rint(values.astype(np.float64) / grid.scale[0]) + grid.zeroPoint[0]
    held: Values = np.clip(moved, -128, 127).astype(np.int8)
    return held


def _real(integers: Values, tensor: Any) -> Values:
    grid = tensor.quantization
    return np.asarray((integers.astype(np.float64) - grid.zeroPoint[0]) * grid.scale[0])
