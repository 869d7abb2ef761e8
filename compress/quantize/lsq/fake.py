"""The graph computed in Keras: float, or with every tensor on its grid (fake quantization), and trained so.

The step of a grid is learned as s = s0 exp(t). The paper scales the gradient of s by 1 / sqrt(N Q_P), so that SGD moves
steps and weights alike; Adam, which trains here, divides any such factor out again, and what balances steps of all
sizes is that t moves each by a fraction (as in Jain et al., "Trained quantization thresholds", MLSys 2020).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.quantize.lsq.graph import Graph, Node, graphs_of, learned_grids, owners
from compress.quantize.lsq.step_size import Grid, first_grid

Array = npt.NDArray[Any]
# what becomes of each tensor and weight: (its name, its value) -> its value
Put = Callable[[str, Any], Any]
SEEN = 4096  # values kept of each tensor at each of its appearances
LEAST_VARIANCE = 1e-6  # below, rsqrt gives the largest number of any grid


def evaluate(graph: Graph, feeds: Mapping[str, Any], put: Put, *, unrolled: bool = False) -> dict[str, Any]:
    """All tensors of a graph, and its weights, by name; batches of any size.

    `unrolled` runs loops step by step in Python, so that `put` sees real values there too.
    """
    import keras

    constants = {}
    for part in graphs_of(graph):
        for weight in part.weights.values():
            value = keras.ops.reshape(keras.ops.convert_to_tensor(weight.read()), weight.shape)
            constants[weight.name] = value if weight.role == "bias" else put(weight.name, value)
    values = {
        name: value if graph.tensors[name].integer else put(name, keras.ops.convert_to_tensor(value))
        for name, value in feeds.items()
    }
    return _run(graph, constants | values, put, unrolled)


def _run(graph: Graph, values: dict[str, Any], put: Put, unrolled: bool) -> dict[str, Any]:
    for node in graph.nodes:
        if node.loop is not None:
            values[node.output] = _scan(node, graph, values, put, unrolled)
            continue
        value = operate(node, [values[name] for name in node.inputs])
        shares = graph.tensors[node.output].like is not None
        values[node.output] = value if shares else put(node.output, value)
    return values


def operate(node: Node, given: list[Any]) -> Any:
    """What one operation computes in real numbers."""
    import keras

    return _OPERATIONS[node.kind](keras.ops, node.attributes, *given)


def _dense(ops: Any, attributes: Mapping[str, Any], x: Any, kernel: Any, bias: Any = 0.0) -> Any:
    made = ops.matmul(x, kernel) + bias
    return ops.relu(made) if attributes.get("relu") else made


def _matmul(ops: Any, attributes: Mapping[str, Any], x: Any, y: Any) -> Any:
    return ops.matmul(x, ops.swapaxes(y, -1, -2) if attributes["transpose_y"] else y)


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda ops, _, x, y: ops.add(x, y),
    "dense": _dense,
    "gather": lambda ops, _, ids, table: ops.take(table, ids, axis=0),
    "gelu": lambda ops, _, x: ops.gelu(x, approximate=False),
    "matmul": _matmul,
    "mean": lambda ops, given, x: ops.mean(x, axis=given["axis"], keepdims=given["keepdims"]),
    "mul": lambda ops, _, x, y: ops.multiply(x, y),
    "relu": lambda ops, _, x: ops.relu(x),
    "requantize": lambda ops, _, x: x,
    "reshape": lambda ops, given, x: ops.reshape(x, (-1, *given["to"])),
    "rsqrt": lambda ops, _, x: ops.rsqrt(ops.maximum(x, LEAST_VARIANCE)),
    "sigmoid": lambda ops, _, x: ops.sigmoid(x),
    "softmax": lambda ops, _, x: ops.softmax(x, axis=-1),
    "sub": lambda ops, _, x, y: ops.subtract(x, y),
    "tanh": lambda ops, _, x: ops.tanh(x),
    "transpose": lambda ops, given, x: ops.transpose(x, given["order"]),
}


def _scan(node: Node, graph: Graph, values: dict[str, Any], put: Put, unrolled: bool) -> Any:
    from keras import ops

    loop = node.loop
    assert loop is not None
    body = loop.body
    sequences = [ops.moveaxis(values[name], 1, 0) for name in node.inputs]
    batch = ops.shape(sequences[0])[1]
    states = [ops.zeros((batch, *body.shape(name)[1:])) for name in loop.states]
    outside = {name: value for name, value in values.items() if name in body.weights}

    def step(carried: Any, frames: Any) -> tuple[list[Any], Any]:
        given = {
            **outside,
            **dict(zip(loop.frames, frames, strict=True)),
            **dict(zip(loop.states, carried, strict=True)),
        }
        made = _run(body, given, put, unrolled)
        return [made[name] for name in loop.following], made[loop.emitted]

    if unrolled:
        emitted = []
        for i in range(graph.shape(node.inputs[0])[1]):
            states, last = step(states, [sequence[i] for sequence in sequences])
            emitted.append(last)
        return ops.stack(emitted, axis=1) if loop.every_step else emitted[-1]
    return _while(step, states, sequences, loop.every_step, ops.zeros((batch, *body.shape(loop.emitted)[1:])))


def _while(step: Callable[..., Any], states: list[Any], sequences: list[Any], every_step: bool, zeros: Any) -> Any:
    """The loop as one TensorFlow loop: keras.ops.scan (3.15) fails for two states and one output."""
    import tensorflow as tf

    steps = sequences[0].shape[0]
    kept = tf.TensorArray(zeros.dtype, size=steps if every_step else 0, element_shape=zeros.shape)

    def once(i: Any, carried: list[Any], last: Any, kept: Any) -> tuple[Any, ...]:
        carried, last = step(carried, [sequence[i] for sequence in sequences])
        return i + 1, carried, last, kept.write(i, last) if every_step else kept

    _, _, last, kept = tf.while_loop(lambda i, *_: i < steps, once, (0, states, zeros, kept), maximum_iterations=steps)
    return tf.transpose(kept.stack(), (1, 0, 2)) if every_step else last


def calibrate(graph: Graph, batches: Iterable[Mapping[str, Array]]) -> dict[str, Grid]:
    """The grids to start from, by name, of what learns its grid: least squared error on batches."""
    seen: dict[str, list[Array]] = {name: [] for name in learned_grids(graph)}
    roles = {weight.name: weight.role for part in graphs_of(graph) for weight in part.weights.values()}

    def watch(name: str, value: Any) -> Any:
        if name in seen and (name not in roles or not seen[name]):
            flat = np.asarray(value, np.float32).ravel()
            # the extremes decide the zero point, so they are always among what is kept
            kept = np.concatenate([flat[:: max(1, len(flat) // SEEN)], [flat.min(), flat.max()]])
            seen[name].append(flat if name in roles else kept)
        return value

    for batch in batches:
        evaluate(graph, {name: batch[name] for name in graph.inputs}, watch, unrolled=True)
    return {name: first_grid(np.concatenate(parts), symmetric=name in roles) for name, parts in seen.items()}


def all_grids(graph: Graph, learned: Mapping[str, Grid]) -> dict[str, Grid]:
    """The grid of every tensor and weight but indices and biases: prescribed, learned or shared."""
    own = {t.name: t.grid for part in graphs_of(graph) for t in part.tensors.values() if t.grid is not None}
    known = {**own, **learned}
    return {name: known[owner] for name, owner in owners(graph).items() if owner in known}


def fake_quantized(source: Any, graph: Graph, grids: Mapping[str, Grid]) -> Any:
    """A Keras model with the inputs and weights of `source` that computes its graph with every tensor on its grid.

    Its layer `lsq` holds the learned steps; `learned` reads the grids of a trained one.
    """
    import keras

    lowest = _layer_class()(source, graph, grids)
    inputs = [keras.Input(t.shape[1:], dtype=t.dtype, name=t.name) for t in source.inputs]
    return keras.Model(inputs, lowest(inputs), name=source.name)


def learned(model: Any) -> dict[str, Grid]:
    """The grids of a model made by `fake_quantized`, as they are now."""
    layer = model.get_layer("lsq")
    factors = np.exp(np.asarray(layer.offsets.numpy(), np.float64))
    return {
        name: replace(grid, scale=float(np.float32(grid.scale * factor)))
        for (name, grid), factor in zip(layer.starts.items(), factors, strict=True)
    }


def _layer_class() -> Any:
    import keras
    import tensorflow as tf

    class FakeQuantized(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
        """A whole model as one layer. Its activation tells the loss what comes out."""

        def __init__(self, source: Any, graph: Graph, grids: Mapping[str, Grid]) -> None:
            super().__init__(name="lsq")
            self.source = source
            self.graph = graph
            self.starts = dict(grids)
            self.prescribed = {n: g for n, g in all_grids(graph, grids).items() if n not in grids and g.bits == 8}
            last = [node.kind for node in graph.nodes if node.output == graph.outputs[0]]
            kind = last[0] if last and last[0] in ("softmax", "sigmoid") else "linear"
            self.activation = keras.activations.get(kind)
            self.offsets = self.add_weight(shape=(len(grids),), initializer="zeros", name="step_offsets")
            self.built = True

        def call(self, inputs: Any) -> Any:
            scales = tf.unstack(tf.exp(tf.convert_to_tensor(self.offsets)) * [g.scale for g in self.starts.values()])
            steps = dict(zip(self.starts, scales, strict=True))

            def put(name: str, value: Any) -> Any:
                if name in steps:
                    return straight_through(value, steps[name], self.starts[name])
                if name in self.prescribed:
                    grid = self.prescribed[name]
                    return straight_through(value, tf.constant(grid.scale), grid)
                return value  # 16 bits: too fine to matter to training

            given = inputs if isinstance(inputs, list | tuple) else [inputs]
            values = evaluate(self.graph, dict(zip(self.graph.inputs, given, strict=True)), put)
            made = [values[name] for name in self.graph.outputs]
            return made[0] if len(made) == 1 else made

    return FakeQuantized


def straight_through(value: Any, scale: Any, grid: Grid) -> Any:
    """`step_size.fake_quantize` with the gradients of `step_size.gradients`, as one TensorFlow operation."""
    import tensorflow as tf

    low, high = float(grid.low - grid.zero_point), float(grid.high - grid.zero_point)

    @tf.custom_gradient  # type: ignore[untyped-decorator]  # tensorflow is untyped
    def quantized(v: Any, s: Any) -> Any:
        u = v / s
        clipped = tf.clip_by_value(u, low, high)
        rounded = tf.round(clipped)

        def gradient(upstream: Any) -> Any:
            inside = u == clipped
            by_step = tf.where(inside, rounded - u, clipped)
            return tf.where(inside, upstream, 0.0), tf.reduce_sum(by_step * upstream)

        return rounded * s, gradient

    return quantized(tf.convert_to_tensor(value), scale)
