"""The one-step form of a recurrent graph: one frame and the states go in, the answer and the next states come out.

Every loop is opened to its body, and its states become inputs and outputs. What stands around the loops has to treat
each step by itself. Weights, tensors and their names stay those of the sequence form, and with them all grids.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from compress.quantize.lsq.graph import Graph, Loop, Node
from edge.errors import CheckFailed

_EACH = frozenset({"add", "gelu", "mul", "relu", "requantize", "rsqrt", "sigmoid", "sub", "tanh"})


@dataclass(frozen=True)
class OneStep:
    """The graph of one step. `states` maps the name of each input that is a state to that of its next value."""

    graph: Graph
    states: Mapping[str, str]


def one_step(graph: Graph) -> OneStep:
    """The one-step form: sequences [1, T, ...] become [1, 1, ...]; the answer after T steps is that of T frames.

    Raises:
        CheckFailed: there is no loop, or an operation around the loops looks at several steps at once.

    """
    scans = [node for node in graph.nodes if node.loop is not None]
    if not scans:
        raise CheckFailed("there is no one-step form: the model has no recurrent layer", "it has no state to keep")
    made = _Opened(graph, graph.shape(scans[0].inputs[0])[1])
    for node in graph.nodes:
        made.take(node)
    made.graph.outputs = [made.renamed.get(name, name) for name in graph.outputs]
    made.graph.outputs += made.states.values()
    return OneStep(made.graph, made.states)


class _Opened:
    """The one-step graph in the making. `timed` are the tensors that hold one value for each step."""

    def __init__(self, source: Graph, steps: int) -> None:
        self._source, self._steps = source, steps
        self.graph = Graph(weights=dict(source.weights), inputs=list(source.inputs))
        self.states: dict[str, str] = {}
        self.renamed: dict[str, str] = {}
        self._timed: set[str] = set()
        for name in source.inputs:
            tensor = source.tensors[name]
            if len(tensor.shape) > 1 and tensor.shape[1] == steps:
                self._timed.add(name)
                tensor = replace(tensor, shape=(1, 1, *tensor.shape[2:]))
            self.graph.tensors[name] = tensor

    def take(self, node: Node) -> None:
        """Write one operation of the sequence form."""
        timed = [name for name in node.inputs if name in self._timed]
        if node.loop is not None:
            self._open(node, node.loop)
            return
        tensor = self._source.tensors[node.output]
        inputs = tuple(self.renamed.get(name, name) for name in node.inputs)
        attributes = node.attributes
        if timed:
            reason = self._refusal(node, timed)
            if reason:
                layer = self._source.origin.get(node.output, node.output)
                raise CheckFailed(
                    f"there is no one-step form: layer {layer} {reason}",
                    "the recurrent layers' last step, or what treats each step alone, can follow them",
                )
            self._timed.add(node.output)
            tensor = replace(tensor, shape=(1, 1, *tensor.shape[2:]))
            if node.kind == "reshape":
                attributes = {"to": tensor.shape[1:]}
        self._add(replace(node, inputs=inputs, attributes=attributes), tensor.shape, tensor.name)

    def _refusal(self, node: Node, timed: list[str]) -> str:
        """Why an operation looks at more than one step; nothing where it does not."""
        rank, given = len(self._source.shape(timed[0])), node.attributes
        others = [self._source.shape(name) for name in node.inputs if name not in self._timed]
        if node.kind in _EACH:
            # broadcasting aligns the last axes; the steps are the axis before the last rank - 2
            same = all(shape[len(shape) - rank + 1 :][:1] == (1,) for shape in others if len(shape) > rank - 2)
            alone, reason = same and (rank > 2 or not others), "has values of its own for each step"
        else:
            alone, reason = {
                "dense": (rank > 2, "mixes the steps"),
                "gather": (True, ""),
                "mean": (given.get("axis") != 1, "averages over the steps"),
                "reshape": (given.get("to", (0,))[0] == self._steps, "flattens the steps"),
                "softmax": (rank > 2, "mixes the steps"),
                "transpose": (given.get("order", ())[:2] == (0, 1), "moves the steps"),
            }.get(node.kind, (False, "attends to several steps"))
        return "" if alone else reason

    def _open(self, node: Node, loop: Loop) -> None:
        body = loop.body
        self.graph.weights |= body.weights
        for frame, sequence in zip(loop.frames, node.inputs, strict=True):
            self.graph.tensors[frame] = body.tensors[frame]
            given = self.renamed.get(sequence, sequence)
            self.graph.nodes.append(Node("reshape", (given,), frame, {"to": body.shape(frame)[1:]}))
        followed = dict(zip(loop.following, loop.states, strict=True))
        rounded = {node.output: node.inputs[0] for node in body.nodes if node.kind == "requantize"}
        for following, state in followed.items():
            self.graph.tensors[state] = body.tensors[state]
            whole = rounded.get(following)
            if whole in followed and body.tensors[state].grid == body.tensors[following].grid:
                # what another state rounds to need not be carried; both start from zero
                self.graph.nodes.append(Node("requantize", (followed[whole],), state))
                continue
            self.graph.inputs.append(state)
            self.states[state] = following
        for inner in body.nodes:
            self.graph.tensors[inner.output] = body.tensors[inner.output]
            self.graph.nodes.append(inner)
            self.graph.origin[inner.output] = self._source.origin[node.output]
        if not loop.every_step:
            self.renamed[node.output] = loop.emitted
            return
        self._timed.add(node.output)
        shape = body.shape(loop.emitted)
        tensor = replace(self._source.tensors[node.output], shape=(1, *shape), grid=None, like=loop.emitted)
        self.graph.tensors[node.output] = tensor
        self.graph.nodes.append(Node("reshape", (loop.emitted,), node.output, {"to": shape}))

    def _add(self, node: Node, shape: tuple[int, ...], name: str) -> None:
        self.graph.tensors[name] = replace(self._source.tensors[name], shape=shape)
        self.graph.nodes.append(node)
        self.graph.origin[name] = self._source.origin[name]
