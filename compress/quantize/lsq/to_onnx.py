"""A trained graph as a QDQ .onnx: every operation between DequantizeLinear and QuantizeLinear, weights in 8 bits.

Form: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html. Runtimes fuse the three to integer
kernels where they have them. All integers are written as uint8, the weights around 128: int8 weights with uint8
activations are faster on x86 with VNNI, but without it (most of what was sold before 2021) ONNX Runtime adds pairs of
their products in 16 bits, which overflow: a transformer's probabilities were 18 steps of 1/256 off, and are exact so.

A recurrent layer is a Scan, so its weights stand in the file once. What the graph keeps wide is float32, as in
the .tflite.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.quantize.lsq.fake import LEAST_VARIANCE, all_grids
from compress.quantize.lsq.graph import Graph, Loop, Node, is_wide
from compress.quantize.lsq.step_size import Grid, quantize

OPSET, IR_VERSION = 17, 8
UNSIGNED = 128  # what is added to integers with a sign

_FUNCTIONS = {
    "add": "Add",
    "mul": "Mul",
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "sub": "Sub",
    "tanh": "Tanh",
}


def to_onnx(graph: Graph, learned: Mapping[str, Grid], inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """The .onnx of a graph with batch 1; `inputs` and `outputs` name its tensors there, float32 but for indices."""
    import onnx

    main = _Part(all_grids(graph, learned), dict.fromkeys((*inputs, *outputs), 0))
    fed, given = [], []
    for name, shown in zip(graph.inputs, inputs, strict=True):
        tensor = graph.tensors[name]
        fed.append(_info(shown, "int32" if tensor.integer else "float32", tensor.shape))
        main.known[name] = shown if tensor.integer else main.stored(name, shown)
    main.run(graph)
    for name, shown in zip(graph.outputs, outputs, strict=True):
        main.operate("Identity", [main.real(name)], shown)
        given.append(_info(shown, "float32", graph.shape(name)))
    made = onnx.helper.make_model(
        main.graph("lsq", fed, given),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="edgetool quantize.lsq",
    )
    onnx.checker.check_model(made, full_check=True)
    return bytes(made.SerializeToString())


class _Part:
    """One graph in the making: the main one or the body of a loop. `known` has the integers of each tensor by name."""

    def __init__(self, grids: Mapping[str, Grid], names: dict[str, int]) -> None:
        self._grids, self._names = grids, names
        self._nodes: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._initializers: list[Any] = []
        self.known: dict[str, str] = {}

    def graph(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        from onnx import helper

        return helper.make_graph(self._nodes, name, inputs, outputs, self._initializers)

    def operate(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Write one ONNX operation; the name of what it gives, a short one where none is given: a file has hundreds."""
        from onnx import helper

        output = output or self._name("t")
        self._nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, values: Any, dtype: str, name: str = "") -> str:
        """A constant, written once."""
        from onnx import numpy_helper

        array: npt.NDArray[Any] = np.asarray(values, dtype)
        key = (dtype, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self._name(name or "c")
            self._initializers.append(numpy_helper.from_array(array, self._constants[key]))
        return self._constants[key]

    def real(self, name: str) -> str:
        """The float32 of a tensor. Each operation has a DequantizeLinear of its own, which runtimes fuse."""
        grid = self._grids[name]
        if is_wide(grid):
            return self.known[name]
        return self._dequantized(self.known[name], grid)

    def stored(self, name: str, real: str) -> str:
        """The integers of a tensor, made of its float32; 16 bits stay float32."""
        grid = self._grids[name]
        if is_wide(grid):
            return real
        scale, zero = self.constant(grid.scale, "float32"), self.constant(grid.zero_point + UNSIGNED, "uint8")
        return self.operate("QuantizeLinear", [real, scale, zero], self._name(name))

    def run(self, graph: Graph) -> None:
        """All operations of a graph."""
        for node in graph.nodes:
            if node.loop is not None:
                self._loop(node, node.loop, graph)
            elif graph.tensors[node.output].like is not None:
                self.known[node.output] = self._moved(node, graph)
            else:
                self.known[node.output] = self.stored(node.output, self._computed(node, graph))

    def _moved(self, node: Node, graph: Graph) -> str:
        """What changes no number works on the integers as they are."""
        given = [self._held(name, graph) for name in node.inputs]
        if node.kind == "gather":
            return self.operate("Gather", given[::-1], axis=0)
        if node.kind == "reshape":
            return self.operate("Reshape", [*given, self.constant([1, *node.attributes["to"]], "int64")])
        if node.kind == "transpose":
            return self.operate("Transpose", given, perm=list(node.attributes["order"]))
        raise ValueError(f"there is no ONNX operation for {node.kind}")

    def _computed(self, node: Node, graph: Graph) -> str:
        """The float32 that an operation gives."""
        if node.kind == "dense":
            return self._dense(node, graph)
        if node.kind == "matmul":
            return self._matmul(node, graph)
        given = [self._real(name, graph) for name in node.inputs]
        if node.kind == "requantize":
            return given[0]
        if node.kind in _FUNCTIONS:
            return self.operate(_FUNCTIONS[node.kind], given)
        return self._composed(node, given)

    def _composed(self, node: Node, given: list[str]) -> str:
        """What ONNX has under other names, or in pieces."""
        if node.kind == "mean":
            axis, keep = node.attributes["axis"], int(node.attributes["keepdims"])
            return self.operate("ReduceMean", given, axes=[axis], keepdims=keep)
        if node.kind == "softmax":
            return self.operate("Softmax", given, axis=-1)
        if node.kind == "rsqrt":
            held = self.operate("Max", [*given, self.constant(LEAST_VARIANCE, "float32")])
            return self.operate("Reciprocal", [self.operate("Sqrt", [held])])
        if node.kind == "gelu":
            # x (1 + erf(x / sqrt 2)) / 2; the standard's Gelu is of operator set 20
            part = self.operate("Erf", [self.operate("Div", [*given, self.constant(math.sqrt(2), "float32")])])
            whole = self.operate("Mul", [*given, self.operate("Add", [part, self.constant(1, "float32")])])
            return self.operate("Mul", [whole, self.constant(0.5, "float32")])
        raise ValueError(f"there is no ONNX operation for {node.kind}")

    def _dense(self, node: Node, graph: Graph) -> str:
        """Its bias is int32 on the grid of the products."""
        x, kernel = (self._real(name, graph) for name in node.inputs[:2])
        bias = []
        if len(node.inputs) == 3:
            steps = [float(np.float32(self._grids[name].scale)) for name in node.inputs[:2]]
            grid = Grid(steps[0] * steps[1], 0, 32)
            name = node.inputs[2]
            integers = self.constant(quantize(_value(graph, name), grid), "int32", name)
            bias = [self.operate("DequantizeLinear", [integers, self.constant(grid.scale, "float32")])]
        if len(graph.shape(node.inputs[0])) == 2:
            made = self.operate("Gemm", [x, kernel, *bias])
        else:
            made = self.operate("MatMul", [x, kernel])
            made = self.operate("Add", [made, *bias]) if bias else made
        return self.operate("Relu", [made]) if node.attributes.get("relu") else made

    def _matmul(self, node: Node, graph: Graph) -> str:
        x, y = node.inputs
        if not node.attributes["transpose_y"]:
            return self.operate("MatMul", [self._real(x, graph), self._real(y, graph)])
        rank = len(graph.shape(y))
        order = [*range(rank - 2), rank - 1, rank - 2]
        grid, turned = self._grids[y], self.operate("Transpose", [self._held(y, graph)], perm=order)
        other = turned if is_wide(grid) else self._dequantized(turned, grid)
        return self.operate("MatMul", [self._real(x, graph), other])

    def _held(self, name: str, graph: Graph) -> str:
        """The integers of a tensor; a weight is written where it is met."""
        if name not in self.known:
            integers = quantize(_value(graph, name), self._grids[name])
            self.known[name] = self.constant(integers + UNSIGNED, "uint8", name)
        return self.known[name]

    def _real(self, name: str, graph: Graph) -> str:
        self._held(name, graph)
        return self.real(name)

    def _dequantized(self, integers: str, grid: Grid) -> str:
        zero = self.constant(grid.zero_point + UNSIGNED, "uint8")
        return self.operate("DequantizeLinear", [integers, self.constant(grid.scale, "float32"), zero])

    def _loop(self, node: Node, loop: Loop, graph: Graph) -> None:
        """Scan over axis 1: states go around, frames are sliced from the sequences."""
        from onnx import helper

        body = loop.body
        inner = _Part(self._grids, self._names)
        inner.known = {name: inner._name(name) for name in (*loop.states, *loop.frames)}
        fed = [_info(inner.known[name], self._type(name), body.shape(name)) for name in (*loop.states, *loop.frames)]
        inner.run(body)
        results = [*loop.following, loop.emitted] if loop.every_step else [*loop.following]
        given = []
        for name in results:  # one tensor may be a state, what is emitted, or both
            shown = inner.operate("Identity", [inner.known[name]])
            given.append(_info(shown, self._type(name), body.shape(name)))
        start = [self._zeros(name, body.shape(name)) for name in loop.states]
        ends = [self._name(f"{node.output}/{name}") for name in results]
        attributes = {"scan_output_axes": [1]} if loop.every_step else {}
        made = helper.make_node(
            "Scan",
            [*start, *(self.known[name] for name in node.inputs)],
            ends,
            name=node.output,
            body=inner.graph(f"{node.output}/step", fed, given),
            num_scan_inputs=len(loop.frames),
            scan_input_axes=[1] * len(loop.frames),
            **attributes,
        )
        self._nodes.append(made)
        self.known[node.output] = ends[-1] if loop.every_step else ends[loop.following.index(loop.emitted)]

    def _zeros(self, name: str, shape: tuple[int, ...]) -> str:
        grid = self._grids[name]
        zero = 0 if is_wide(grid) else grid.zero_point + UNSIGNED
        return self.constant(np.full(shape, zero), self._type(name))

    def _type(self, name: str) -> str:
        return "float32" if is_wide(self._grids[name]) else "uint8"

    def _name(self, wanted: str) -> str:
        name = wanted
        while name in self._names:
            self._names[wanted] += 1
            name = f"{wanted}{self._names[wanted]}"
        self._names[name] = 0
        return name


def _value(graph: Graph, name: str) -> npt.NDArray[np.float32]:
    weight = graph.weights[name]
    return np.asarray(weight.read(), np.float32).reshape(weight.shape)


def _info(name: str, dtype: str, shape: tuple[int, ...]) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
