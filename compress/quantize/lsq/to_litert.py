"""A trained graph as a .tflite that computes in int8, with float32 at both ends and where the graph is wide.

Kernels and their prescriptions: https://ai.google.dev/edge/litert/models/quantization_spec. The flatbuffer is written
here and not by TensorFlow's converter, which crashes on integer loops and chooses grids of its own.

What is wide in the graph is float32 here, as in training. XNNPACK takes no 16-bit integers, so that LiteRT's own slow
kernels would run between its int8 ones, and TFLite Micro fills no state with them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.quantize.litert_compact import write_model
from compress.quantize.lsq.fake import all_grids
from compress.quantize.lsq.graph import Graph, Loop, Node, is_wide
from compress.quantize.lsq.one_step import OneStep
from compress.quantize.lsq.step_size import Grid, dequantize, quantize

# operation: its name in the schema, its options, and its version
_OPERATIONS = {
    "add": ("ADD", "AddOptions", 2),
    "cast": ("CAST", "CastOptions", 1),
    "dense": ("FULLY_CONNECTED", "FullyConnectedOptions", 5),
    "dequantize": ("DEQUANTIZE", "DequantizeOptions", 2),
    "fill": ("FILL", "FillOptions", 3),
    "gather": ("GATHER", "GatherOptions", 2),
    "gelu": ("GELU", "GeluOptions", 2),
    "less": ("LESS", "LessOptions", 1),
    "matmul": ("BATCH_MATMUL", "BatchMatMulOptions", 2),
    "mean": ("MEAN", "ReducerOptions", 2),
    "mul": ("MUL", "MulOptions", 2),
    "pack": ("PACK", "PackOptions", 1),
    "quantize": ("QUANTIZE", "QuantizeOptions", 2),
    "relu": ("RELU", None, 2),
    "requantize": ("QUANTIZE", "QuantizeOptions", 2),
    "reshape": ("RESHAPE", "ReshapeOptions", 1),
    "rsqrt": ("RSQRT", None, 2),
    "sigmoid": ("LOGISTIC", None, 2),
    "softmax": ("SOFTMAX", "SoftmaxOptions", 2),
    "sub": ("SUB", "SubOptions", 2),
    "tanh": ("TANH", None, 2),
    "transpose": ("TRANSPOSE", "TransposeOptions", 2),
    "update": ("DYNAMIC_UPDATE_SLICE", "DynamicUpdateSliceOptions", 1),
    "while": ("WHILE", "WhileOptions", 1),
}
RELU, BOOL = 1, "BOOL"
_Carried = tuple[str, tuple[int, ...], Grid | None]
_TYPES = {"int8": "INT8", "int32": "INT32", "float32": "FLOAT32", "bool": BOOL}


def to_litert(
    graph: Graph,
    learned: Mapping[str, Grid],
    inputs: Sequence[str],
    outputs: Sequence[str],
    step: OneStep | None = None,
) -> bytes:
    """The .tflite of a graph with the signature `serving_default`; `inputs` and `outputs` name its tensors there.

    With `step`, the graph's one-step form is the signature `step` beside it: the same names and the states, each of
    which has one name as input and as output. Both share the weights.
    """
    writer = _Writer(all_grids(graph, learned))
    writer.signature("serving_default", graph, inputs, outputs)
    if step is not None:
        writer.signature("step", step.graph, [*inputs, *step.states], [*outputs, *step.states])
    return write_model(writer.model)


def step_to_litert(
    graph: Graph, learned: Mapping[str, Grid], inputs: Sequence[str], outputs: Sequence[str], step: OneStep
) -> bytes:
    """A .tflite of the one-step form alone, for what streams and nothing else; arguments are those of `to_litert`."""
    writer = _Writer(all_grids(graph, learned))
    writer.signature("step", step.graph, [*inputs, *step.states], [*outputs, *step.states])
    return write_model(writer.model)


class _Writer:
    """The model in the making: its buffers and operation codes, and the grids of all tensors."""

    def __init__(self, grids: Mapping[str, Grid]) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema, self.grids = schema, grids
        self.model = schema.ModelT()
        self.model.version, self.model.description = 3, b"edgetool quantize.lsq"
        self.model.buffers, self.model.operatorCodes, self.model.subgraphs = [schema.BufferT()], [], []
        self.model.signatureDefs = []
        self._codes: dict[tuple[str, int], int] = {}

    def subgraph(self, name: str) -> "_Subgraph":
        return _Subgraph(self, name)

    def signature(self, key: str, graph: Graph, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """A graph as a subgraph of its own that can be called: float32 in and out, and indices as they are."""
        main = self.subgraph(key)
        fed, given = [], []
        for name, shown in zip(graph.inputs, inputs, strict=True):
            tensor = graph.tensors[name]
            outer = main.tensor(shown, tensor.shape, "int32" if tensor.integer else "float32")
            fed.append(outer)
            if tensor.integer or is_wide(self.grids[name]):
                main.known[name] = outer
            else:
                main.operate("quantize", [outer], main.activation(name, tensor.shape))
        main.run(graph)
        for name, shown in zip(graph.outputs, outputs, strict=True):
            outer = main.known[name]
            if not is_wide(self.grids[name]):
                outer = main.tensor(shown, graph.shape(name), "float32")
                main.operate("dequantize", [main.known[name]], outer)
            given.append(outer)
        main.end(fed, given)
        made = self.schema.SignatureDefT()
        made.signatureKey, made.subgraphIndex = key.encode(), main.index
        made.inputs = [self._entry(name, index) for name, index in zip(inputs, fed, strict=True)]
        made.outputs = [self._entry(name, index) for name, index in zip(outputs, given, strict=True)]
        self.model.signatureDefs.append(made)

    def _entry(self, name: str, index: int) -> Any:
        entry = self.schema.TensorMapT()
        entry.name, entry.tensorIndex = name.encode(), index
        return entry

    def buffer(self, data: npt.NDArray[Any] | None) -> int:
        buffer = self.schema.BufferT()
        if data is not None:
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        return len(self.model.buffers) - 1

    def code(self, operation: str, version: int) -> int:
        key = (operation, version)
        if key not in self._codes:
            code = self.schema.OperatorCodeT()
            code.builtinCode = getattr(self.schema.BuiltinOperator, operation)
            code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), version
            self.model.operatorCodes.append(code)
            self._codes[key] = len(self.model.operatorCodes) - 1
        return self._codes[key]


class _Subgraph:
    """One subgraph: the main one, or the condition or body of a loop."""

    def __init__(self, writer: _Writer, name: str) -> None:
        self._writer, self._schema = writer, writer.schema
        self.graph = writer.schema.SubGraphT()
        self.graph.name, self.graph.tensors, self.graph.operators = name.encode(), [], []
        writer.model.subgraphs.append(self.graph)
        self.index = len(writer.model.subgraphs) - 1
        self.known: dict[str, int] = {}

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        grid: Grid | None = None,
        data: npt.NDArray[Any] | None = None,
    ) -> int:
        made = self._schema.TensorT()
        made.name, made.shape = name.encode(), np.asarray(shape, np.int32)
        made.type = getattr(self._schema.TensorType, _TYPES[dtype])
        made.buffer = self._writer.buffer(data)
        if grid is not None:
            made.quantization = self._schema.QuantizationParametersT()
            made.quantization.scale = np.asarray([grid.scale], np.float32)
            made.quantization.zeroPoint = np.asarray([grid.zero_point], np.int64)
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def activation(self, name: str, shape: Sequence[int]) -> int:
        """The integer tensor of an activation; the graph's operations find it by its name."""
        self.known[name] = self._typed(name, shape, self._writer.grids[name])
        return self.known[name]

    def _typed(self, name: str, shape: Sequence[int], grid: Grid | None) -> int:
        """A tensor of what a grid is stored as; without a grid it counts steps."""
        return self.tensor(name, shape, *_stored(grid))

    def constant(self, name: str, values: Any) -> int:
        """Indices, shapes, axes."""
        array = np.asarray(values, np.int32)
        return self.tensor(name, array.shape, "int32", data=array)

    def operate(self, kind: str, inputs: Sequence[int], output: int | Sequence[int], **options: Any) -> None:
        name, kinds, version = _OPERATIONS[kind]
        outputs = [output] if isinstance(output, int) else list(output)
        made = self._schema.OperatorT()
        made.opcodeIndex = self._writer.code(name, version)
        made.inputs, made.outputs = np.asarray(inputs, np.int32), np.asarray(outputs, np.int32)
        if kinds is not None:
            made.builtinOptionsType = getattr(self._schema.BuiltinOptions, kinds)
            made.builtinOptions = getattr(self._schema, f"{kinds}T")()
            for option, value in options.items():
                setattr(made.builtinOptions, option, value)
        self.graph.operators.append(made)

    def run(self, graph: Graph) -> None:
        """All operations of a graph."""
        for node in graph.nodes:
            if node.loop is None:
                self._node(node, graph)
            else:
                self._loop(node, node.loop, graph)

    def end(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        self.graph.inputs, self.graph.outputs = np.asarray(inputs, np.int32), np.asarray(outputs, np.int32)

    def _node(self, node: Node, graph: Graph) -> None:
        name, given = node.output, node.attributes
        inputs = [self._given(one, node, graph) for one in node.inputs]
        output = self.activation(name, graph.shape(name))
        options: dict[str, Any] = {}
        if node.kind == "dense":
            inputs += [-1] * (3 - len(inputs))
            options = {"keepNumDims": True, "fusedActivationFunction": RELU if given.get("relu") else 0}
        elif node.kind == "gather":
            inputs.reverse()
            options = {"axis": 0}
        elif node.kind == "matmul":
            options = {"adjX": False, "adjY": given["transpose_y"], "asymmetricQuantizeInputs": False}
        elif node.kind == "mean":
            inputs.append(self.constant(f"{name}/axis", [given["axis"]]))
            options = {"keepDims": given["keepdims"]}
        elif node.kind == "reshape":
            inputs.append(self.constant(f"{name}/shape", [1, *given["to"]]))
            options = {"newShape": np.asarray([1, *given["to"]], np.int32)}
        elif node.kind == "softmax":
            options = {"beta": 1.0}
        elif node.kind == "transpose":
            inputs.append(self.constant(f"{name}/order", given["order"]))
        elif node.kind in ("add", "sub"):
            options = {"potScaleInt16": False}
        dequantizes = node.kind == "requantize" and is_wide(self._writer.grids[name])
        self.operate("dequantize" if dequantizes else node.kind, inputs, output, **options)

    def _given(self, name: str, node: Node, graph: Graph) -> int:
        """The index of an input of an operation; weights are quantized and written where they are met."""
        if name in self.known:
            return self.known[name]
        weight = graph.weights[name]
        values = np.asarray(weight.read(), np.float32).reshape(weight.shape)
        if weight.role == "bias":
            # accumulators hold products: their step is the product of the steps
            x, kernel = (self._writer.grids[one] for one in node.inputs[:2])
            step = float(np.float32(x.scale)) * float(np.float32(kernel.scale))
            grid = Grid(step, 0, 32)
            made = self.tensor(name, weight.shape, "int32", grid, quantize(values, grid))
        else:
            grid = self._writer.grids[name]
            integers = quantize(values, grid).astype(np.int8)
            if weight.role == "kernel":
                integers = integers.T  # LiteRT keeps a row for each output
            if is_wide(self._writer.grids[node.output]):
                made = self.tensor(name, integers.shape, "float32", data=dequantize(integers, grid))
            else:
                made = self.tensor(name, integers.shape, "int8", grid, integers)
        self.known[name] = made
        return made

    def _loop(self, node: Node, loop: Loop, graph: Graph) -> None:
        """WHILE: the step, the sequences, the states and what is given go around; frames are gathered by the step."""
        steps, body = graph.shape(node.inputs[0])[1], loop.body
        result = graph.tensors[node.output]
        carried: list[_Carried] = [("step", (), None)]
        carried += [(f"{name}/all", graph.shape(name), self._writer.grids[name]) for name in node.inputs]
        carried += [(name, body.shape(name), self._writer.grids[name]) for name in loop.states]
        if loop.every_step:
            carried.append((f"{node.output}/kept", result.shape, self._writer.grids[node.output]))
        start = [self.constant(f"{node.output}/start", 0), *(self.known[name] for name in node.inputs)]
        for name, shape, grid in carried[1 + len(node.inputs) :]:
            start.append(self._zeros(f"{name}/zeros", shape, grid))
        condition = self._writer.subgraph(f"{node.output}/condition")
        inputs = condition._carried(carried)  # noqa: SLF001 - the same class
        limit = condition.constant("steps", steps)
        more = condition.tensor("more", (), "bool")
        condition.operate("less", [inputs[0], limit], more)
        condition.end(inputs, [more])
        inner = self._writer.subgraph(f"{node.output}/body")
        inner._body(node, loop, carried, result.shape)  # noqa: SLF001 - as above
        ends = [self._typed(f"{node.output}/{name}/end", shape, grid) for name, shape, grid in carried]
        self.operate("while", start, ends, condSubgraphIndex=condition.index, bodySubgraphIndex=inner.index)
        first_state = 1 + len(node.inputs)
        last = ends[-1] if loop.every_step else ends[first_state + loop.following.index(loop.emitted)]
        self.known[node.output] = last

    def _body(
        self,
        node: Node,
        loop: Loop,
        carried: Sequence[_Carried],
        result: tuple[int, ...],
    ) -> None:
        body = loop.body
        inputs = self._carried(carried)
        step, states = inputs[0], inputs[1 + len(node.inputs) :]
        self.known |= dict(zip(loop.states, states, strict=False))
        for name, sequence in zip(loop.frames, inputs[1:], strict=False):
            frame = self.activation(name, body.shape(name))
            self.operate("gather", [sequence, step], frame, axis=1)
        self.run(body)
        following = self.tensor("step/next", (), "int32")
        self.operate("add", [step, self.constant("one", 1)], following, potScaleInt16=False)
        outputs = [following, *inputs[1 : 1 + len(node.inputs)], *(self.known[name] for name in loop.following)]
        if loop.every_step:
            name, shape, grid = carried[-1]
            row = self._typed(f"{name}/row", (1, 1, *result[2:]), grid)
            self.operate("reshape", [self.known[loop.emitted], self.constant("row", (1, 1, *result[2:]))], row)
            zero = self.constant("zero", 0)
            place = self.tensor("place", (len(shape),), "int32")
            self.operate("pack", [zero, step, *[zero] * (len(shape) - 2)], place, valuesCount=len(shape), axis=0)
            kept = self._typed(f"{name}/next", shape, grid)
            self.operate("update", [inputs[-1], row, place], kept)
            outputs.append(kept)
        self.end(inputs, outputs)

    def _carried(self, carried: Sequence[_Carried]) -> list[int]:
        return [self._typed(*one) for one in carried]

    def _zeros(self, name: str, shape: tuple[int, ...], grid: Grid | None) -> int:
        dtype, kept = _stored(grid)
        zero = np.asarray(0 if kept is None else kept.zero_point, dtype)
        made = self._typed(name, shape, grid)
        given = [self.constant(f"{name}/shape", shape), self.tensor(f"{name}/value", (), dtype, kept, zero)]
        self.operate("fill", given, made)
        return made


def _stored(grid: Grid | None) -> tuple[str, Grid | None]:
    """The element type of a tensor on a grid, and the grid that it has in the file; without one it counts steps."""
    if grid is None:
        return "int32", None
    return ("float32", None) if is_wide(grid) else ("int8", grid)
