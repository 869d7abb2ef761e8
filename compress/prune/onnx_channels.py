"""Channel pruning of an ONNX model without training: trace, rank by its weights, choose, slice, check.

The groups are those of Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023 (arXiv:2301.12900), found on
the graph (`channels.onnx_trace`); the importance is that of Li et al. (L1) or Liu et al. (batch normalization's scale).
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.keras_outputs import difference
from compress.prune.channels.channel import NAME, ChannelPruning, require_groups, scaled_alone
from compress.prune.channels.importance import bn_scale, l1
from compress.prune.channels.onnx_trace import TracedOnnx, trace_onnx
from compress.prune.channels.ranking import choose, normalised
from compress.prune.channels.rebuild import TOLERANCE
from compress.prune.channels.structure import Alive, macs, masked, sliced
from compress.quantize.onnx_model import read_model, require_float
from edge.errors import BadModel, CheckFailed
from edge.report import Skipped

TYPES: dict[str, type[Any]] = {"tensor(int32)": np.int32, "tensor(int64)": np.int64, "tensor(double)": np.float64}


@dataclass(frozen=True)
class PrunedOnnx:
    """The smaller model and what was done: MACs before and after, and the difference from the masked original as a
    fraction of the largest output (None where a normalization over channels makes them differ by design).
    """

    model: bytes
    macs: tuple[int, int]
    difference: float | None
    skipped: tuple[Skipped, ...]


def prune_onnx(data: bytes, settings: ChannelPruning) -> PrunedOnnx:
    """A smaller model with the same inputs and outputs, without the channels of least norm.

    Raises:
        BadModel: damaged, quantized already, or with shapes that cannot be inferred.
        CheckFailed: no channel can be pruned, the budget cannot be reached, or the smaller model is not the masked
            original.

    """
    model = read_model(data)
    require_float(model)
    traced = trace_onnx(model)
    structure = traced.structure

    def weight(name: Hashable) -> npt.NDArray[Any]:
        return traced.weights[str(name)]

    groups, skipped = structure.groups(), structure.left_alone()
    if settings.importance == "bn_scale":
        # exporters fold batch normalization into convolutions, and then there is none left
        groups, others = scaled_alone(structure, groups, weight)
        skipped += others
    require_groups(groups, skipped)
    scores = (bn_scale if settings.importance == "bn_scale" else l1)(structure, weight)
    everything = structure.everything()
    whole = macs(structure, everything)
    alive, small = choose(
        groups, [normalised(scores[group.classes]) for group in groups], everything,
        lambda left: macs(structure, left), settings.macs * whole, multiple=settings.multiple, keep=settings.keep,
    )  # fmt: skip
    made = _without(model, traced, alive)
    return PrunedOnnx(
        made.SerializeToString(),
        (whole, macs(structure, alive)),
        _check(model, made, traced, alive),
        (*skipped, *small),
    )


def _without(model: Any, traced: TracedOnnx, alive: Alive) -> Any:
    """A copy without the dead channels, valid for the checker and with its shapes inferred anew."""
    import onnx

    made = _with_weights(model, traced, lambda name, values: sliced(traced.structure, name, values, alive))
    nodes = {node.output[0]: node for node in made.graph.node}
    for recount in traced.recounts:
        node = nodes[recount.node.output[0]]
        left = int(np.count_nonzero(traced.structure.left(alive, recount.labels)))
        if recount.index is None:
            next(entry for entry in node.attribute if entry.name == recount.attribute).i = left
            continue
        # the shape may be that of other nodes, too, whose channels stay
        shape = traced.weights[node.input[1]].copy()
        shape.reshape(-1)[recount.index] = left
        node.input[1] = f"{node.output[0]}_{recount.attribute}"
        made.graph.initializer.append(onnx.numpy_helper.from_array(shape, node.input[1]))
    del made.graph.value_info[:]
    try:
        onnx.checker.check_model(made)
        return onnx.shape_inference.infer_shapes(made, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BadModel(
            f"{NAME} gave an invalid ONNX model: {str(error).splitlines()[0]}",
            "an operation of this model counts channels and its rule does not know: please report it",
        ) from error


def _with_weights(model: Any, traced: TracedOnnx, change: Callable[[str, npt.NDArray[Any]], npt.NDArray[Any]]) -> Any:
    import onnx

    made = type(model)()
    made.CopyFrom(model)
    for tensor in made.graph.initializer:
        values = traced.weights[tensor.name]
        changed = change(tensor.name, values)
        if changed is not values:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(changed, values.dtype), tensor.name))
    return made


def _check(model: Any, made: Any, traced: TracedOnnx, alive: Alive) -> float | None:
    """The difference in ONNX Runtime between the smaller model and the original with its dead channels masked."""
    if not traced.structure.exact:
        return None
    masks = _with_weights(model, traced, lambda name, values: masked(traced.structure, name, values, alive))
    worst = difference(_run(masks), _run(made))
    if not worst <= TOLERANCE:
        raise CheckFailed(
            f"{NAME}: the smaller model differs from the masked original by {worst:.2g} of the largest output, "
            f"more than {TOLERANCE:g}",
            "an operation of this model mixes channels in a way that its rule does not know: please report it",
        )
    return worst


def _run(model: Any) -> list[npt.NDArray[Any]]:
    """All outputs for drawn inputs at batch 1; indices are 0 or 1, which every table has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feeds = {}
    for value in session.get_inputs():
        shape = [size if isinstance(size, int) and size > 0 else 1 for size in value.shape]
        integer = "int" in value.type
        drawn = rng.integers(0, 2, shape) if integer else rng.normal(0, 1, shape)
        feeds[value.name] = drawn.astype(
            {"tensor(int32)": np.int32, "tensor(int64)": np.int64}.get(value.type, np.float32)
        )
    return [np.asarray(output) for output in session.run(None, feeds)]
