"""A model as the operations that integer kernels compute: what is trained, and what both formats are written from.

Every tensor that an operation gives lies on a grid of integers or is wide; `requantize` goes between the two. A
recurrent layer is one `scan` whose body is a graph.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from compress.quantize.lsq.step_size import Grid

Kind = Literal[
    "add",
    "dense",
    "gather",
    "gelu",
    "matmul",
    "mean",
    "mul",
    "relu",
    "requantize",
    "reshape",
    "rsqrt",
    "scan",
    "sigmoid",
    "softmax",
    "sub",
    "tanh",
    "transpose",
]
# dense layers and tables are int8 on a symmetric grid, biases int32 on the grid of the products, values are constants
# that meet activations
Role = Literal["kernel", "table", "bias", "value"]

# The grids that the integer kernels of LiteRT prescribe for these functions
UNIT = Grid(1 / 256, -128)  # sigmoid, softmax
SIGNED_UNIT = Grid(1 / 128, 0)  # tanh
# What is kept finer than 8 bits: too fine to matter to training, and float32 in both formats
WIDE = Grid(2.0**-15, 0, 16)


def is_wide(grid: Grid) -> bool:
    """Whether what lies on the grid is float32 in the files."""
    return grid.bits > 8


@dataclass(frozen=True)
class Tensor:
    """An activation. `shape` has batch 1; `grid` is fixed where an operation prescribes it, else it is learned.

    `like` names the tensor whose grid it shares. `integer` marks indices, which have no grid.
    """

    name: str
    shape: tuple[int, ...]
    grid: Grid | None = None
    like: str | None = None
    integer: bool = False


@dataclass(frozen=True)
class Weight:
    """A constant. `read` gives its value as a function of the Keras variables, so that gradients reach them."""

    name: str
    shape: tuple[int, ...]
    role: Role
    read: Callable[[], Any]


@dataclass(frozen=True)
class Node:
    """One operation. `inputs` name tensors or weights; a dense's are (x, kernel) or (x, kernel, bias)."""

    kind: Kind
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    loop: "Loop | None" = None


@dataclass(frozen=True)
class Loop:
    """The body of a scan. Frame i of each sequence and the states go in; the next states come out.

    `frames` and `states` name inputs of the body, `following` its outputs that are the next states, `emitted` the
    output that the scan gives: of every step where `every_step`, else of the last.
    """

    body: "Graph"
    frames: tuple[str, ...]
    states: tuple[str, ...]
    following: tuple[str, ...]
    emitted: str
    every_step: bool


@dataclass
class Graph:
    """Operations in the order in which they run; `origin` says which layer made each node's output."""

    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, Weight] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    origin: dict[str, str] = field(default_factory=dict)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor or weight."""
        return self.tensors[name].shape if name in self.tensors else self.weights[name].shape


def graphs_of(graph: Graph) -> Iterator[Graph]:
    """The graph itself and the bodies of its loops."""
    yield graph
    for node in graph.nodes:
        if node.loop is not None:
            yield from graphs_of(node.loop.body)


def owners(graph: Graph) -> dict[str, str]:
    """By the name of every tensor and weight, the one whose grid it has: itself where it shares none."""
    like = {t.name: t.like or t.name for part in graphs_of(graph) for t in part.tensors.values()}
    like |= {w.name: w.name for part in graphs_of(graph) for w in part.weights.values()}

    def follow(name: str) -> str:
        return name if like[name] == name else follow(like[name])

    return {name: follow(name) for name in like}


def learned_grids(graph: Graph) -> list[str]:
    """The tensors and weights whose step is learned."""
    found = []
    for part in graphs_of(graph):
        found += [t.name for t in part.tensors.values() if t.grid is None and t.like is None and not t.integer]
        found += [w.name for w in part.weights.values() if w.role != "bias"]
    return found


class Builder:
    """Writes a graph, one operation a method; shapes follow from the inputs, names from the layer."""

    def __init__(self, names: set[str] | None = None) -> None:
        self.graph = Graph()
        self._names = set() if names is None else names
        self.layer = ""

    def body(self) -> "Builder":
        """A builder for the body of a loop, whose names do not collide with these."""
        inner = Builder(self._names)
        inner.layer = self.layer
        return inner

    def input(
        self, name: str, shape: tuple[int, ...], *, grid: Grid | None = None, integer: bool = False, like: str = ""
    ) -> str:
        """An input of the graph; `like` names the tensor whose grid it has."""
        name = self._name(name)
        self.graph.tensors[name] = Tensor(name, shape, grid, like or None, integer)
        self.graph.inputs.append(name)
        return name

    def weight(self, what: str, role: Role, shape: tuple[int, ...], read: Callable[[], Any]) -> str:
        """A constant of the current layer."""
        name = self._name(what)
        self.graph.weights[name] = Weight(name, shape, role, read)
        return name

    def dense(self, x: str, kernel: str, bias: str | None = None, *, what: str = "dense", relu: bool = False) -> str:
        """[..., in] x [in, out] -> [..., out], with the ReLU that its kernel computes along."""
        shape = (*self.graph.shape(x)[:-1], self.graph.shape(kernel)[-1])
        given = (x, kernel) if bias is None else (x, kernel, bias)
        return self._add("dense", given, what, shape, relu=relu)

    def gather(self, ids: str, table: str) -> str:
        """Rows of a table: [B, T] -> [B, T, width]. They lie on the table's grid."""
        shape = (*self.graph.shape(ids), self.graph.shape(table)[1])
        return self._add("gather", (ids, table), "rows", shape, like=table)

    def add(self, x: str, y: str, *, what: str = "add", grid: Grid | None = None) -> str:
        """X + y, broadcast."""
        return self._add("add", (x, y), what, self._broadcast(x, y), grid=grid)

    def sub(self, x: str, y: str, *, what: str = "sub", grid: Grid | None = None) -> str:
        """X - y, broadcast."""
        return self._add("sub", (x, y), what, self._broadcast(x, y), grid=grid)

    def mul(self, x: str, y: str, *, what: str = "mul", grid: Grid | None = None) -> str:
        """X * y, broadcast."""
        return self._add("mul", (x, y), what, self._broadcast(x, y), grid=grid)

    def unary(self, kind: Kind, x: str, *, what: str = "", grid: Grid | None = None) -> str:
        """A function of each element, or softmax over the last axis."""
        prescribed = {"sigmoid": UNIT, "softmax": UNIT, "tanh": SIGNED_UNIT}.get(kind)
        return self._add(kind, (x,), what or kind, self.graph.shape(x), grid=grid or prescribed)

    def wide(self, x: str) -> str:
        """The same numbers, from here on wide."""
        return self.unary("requantize", x, what="wide", grid=WIDE)

    def matmul(
        self, x: str, y: str, *, transpose_y: bool = False, what: str = "matmul", grid: Grid | None = None
    ) -> str:
        """[..., a, b] x [..., b, c], where y may be given as [..., c, b]."""
        columns = self.graph.shape(y)[-2 if transpose_y else -1]
        shape = (*self.graph.shape(x)[:-1], columns)
        return self._add("matmul", (x, y), what, shape, grid=grid, transpose_y=transpose_y)

    def mean(self, x: str, axis: int, *, keepdims: bool, what: str = "mean", grid: Grid | None = None) -> str:
        """The mean over one axis, counted with the batch."""
        shape = self.graph.shape(x)
        rest = (1,) if keepdims else ()
        made = (*shape[:axis], *rest, *shape[axis + 1 :])
        return self._add("mean", (x,), what, made, grid=grid, axis=axis, keepdims=keepdims)

    def reshape(self, x: str, shape: tuple[int, ...]) -> str:
        """Another shape behind the batch; the grid stays."""
        return self._add("reshape", (x,), "reshape", (1, *shape), like=x, to=shape)

    def transpose(self, x: str, order: tuple[int, ...]) -> str:
        """Axes in another order; the grid stays."""
        shape = self.graph.shape(x)
        return self._add("transpose", (x,), "transpose", tuple(shape[i] for i in order), like=x, order=order)

    def scan(self, sequences: tuple[str, ...], loop: Loop, steps: int) -> str:
        """A loop over axis 1 of the sequences: [B, T, ...] -> [B, T, units], or [B, units] of the last step."""
        emitted = loop.body.tensors[loop.emitted]
        units = emitted.shape[1:]
        shape = (1, steps, *units) if loop.every_step else (1, *units)
        return self._add("scan", sequences, "scan", shape, grid=emitted.grid, loop=loop)

    def _broadcast(self, x: str, y: str) -> tuple[int, ...]:
        import numpy as np

        return tuple(int(n) for n in np.broadcast_shapes(self.graph.shape(x), self.graph.shape(y)))

    def _add(
        self,
        kind: Kind,
        inputs: tuple[str, ...],
        what: str,
        shape: tuple[int, ...],
        *,
        grid: Grid | None = None,
        like: str | None = None,
        loop: Loop | None = None,
        **attributes: Any,
    ) -> str:
        name = self._name(what)
        self.graph.tensors[name] = Tensor(name, shape, grid, like)
        self.graph.nodes.append(Node(kind, inputs, name, attributes, loop))
        self.graph.origin[name] = self.layer
        return name

    def _name(self, what: str) -> str:
        base = f"{self.layer}/{what}" if self.layer else what
        name, number = base, 1
        while name in self._names:
            name, number = f"{base}_{number}", number + 1
        self._names.add(name)
        return name
