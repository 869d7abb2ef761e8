"""What every pruning of single weights shares: which kernels, how fast, and zeros that stay zeros.

Zhu and Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression", 2017
(arXiv:1710.01878), section 3: while the model is trained, weights are set to zero and stay zero, more of them as the
schedule goes. Which ones go is what the algorithms beside this file say.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from compress.checkpoint import State
from compress.training import TransformSummary
from edge.errors import CheckFailed, UnknownName
from edge.report import Skipped

Weights = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]
# All kernels and the sparsity that is due -> what is kept of each. Pruned weights are zero, so they rank lowest.
Choose = Callable[[Sequence[Weights], float], list[Mask]]
# The shape of a kernel -> why it cannot be pruned this way, or None.
Unfit = Callable[[tuple[int, ...]], str | None]

POWER = 3  # equation 1: many weights go early, while the learning rate is high and redundancy plenty
SMALL_VARIABLES = "they are a few values a channel: zeros in them cost accuracy and save next to nothing"
NOT_PRUNED = {
    "depthwise_kernel": "a few values a channel: zeros in it cost accuracy and save next to nothing",
    "embeddings": "an embedding is read by row, so single zeros save nothing",
}
OTHER = "pruning of weights covers the kernels of dense and convolution layers"


@dataclass(frozen=True)
class Schedule:
    """How far and how fast to prune.

    Attributes:
        sparsity: fraction of the prunable weights that is zero at the end, in [0, 1).
        begin, end: fractions of all steps at which pruning starts and is done; the rest only recovers.
        kind: "polynomial" is equation 1, "constant" prunes all at `begin`.
        frequency_steps: optimizer steps between two changes of the masks.
        layers: names of the layers to prune; None is all that can be pruned.
        depthwise: whether depthwise kernels are pruned too.

    """

    sparsity: float = 0.7
    begin: float = 0.0
    end: float = 0.5
    kind: Literal["polynomial", "constant"] = "polynomial"
    frequency_steps: int = 10
    layers: tuple[str, ...] | None = None
    depthwise: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise ValueError(f"sparsity must be in [0, 1), not {self.sparsity}")
        if not 0 <= self.begin < self.end <= 1:
            raise ValueError(f"begin and end must be 0 <= begin < end <= 1, not {self.begin} and {self.end}")
        if self.frequency_steps < 1:
            raise ValueError(f"frequency_steps must be at least 1, not {self.frequency_steps}")

    def at(self, step: int, total_steps: int) -> float | None:
        """The sparsity that is due after `step` of `total_steps`, None where the masks stay as they are."""
        first, last = self.begin * total_steps, self.end * total_steps
        if not first <= step < last + 1 or (step % self.frequency_steps and step < last):
            return None
        return self.sparsity if self.kind == "constant" else polynomial(step, first, last, self.sparsity)


def polynomial(step: float, begin: float, end: float, sparsity: float) -> float:
    """The sparsity at `step`: s (1 - (1 - (t - t0) / (t1 - t0))^3), from 0 at `begin` to s from `end` on.

    Zhu and Gupta, equation 1, with an initial sparsity of 0.
    """
    progress = min(max((step - begin) / (end - begin), 0.0), 1.0)
    return sparsity * (1 - (1 - progress) ** POWER)


class Pruner:
    """Prunes one model while it is trained (a `WeightTransform`); one object for one fit."""

    def __init__(self, name: str, schedule: Schedule, choose: Choose, unfit: Unfit = lambda _: None) -> None:
        self._name, self._schedule, self._choose, self._unfit = name, schedule, choose, unfit
        self._kernels: list[Any] = []
        self._masks: list[Mask] = []
        self._skipped: tuple[Skipped, ...] = ()

    def begin(self, model: Any) -> None:
        """Find the kernels to prune. Raises CheckFailed where there is none, UnknownName for an unknown layer."""
        found, skipped = prunable(model, self._name, self._schedule.layers, depthwise=self._schedule.depthwise)
        reasons = {kernel.path: self._unfit(tuple(kernel.shape)) for kernel in found}
        unfit = [Skipped(f"{self._name}: {path}", reason) for path, reason in reasons.items() if reason is not None]
        self._kernels = [kernel for kernel in found if reasons[kernel.path] is None]
        self._skipped = (*skipped, *unfit)
        if not self._kernels:
            said = "; ".join(sorted({entry.reason for entry in self._skipped})) or "it has no weights"
            raise CheckFailed(
                f"{self._name} has nothing to prune in model {model.name!r}: {said}", "leave the pass out"
            )
        self._masks = [np.ones(kernel.shape, np.bool_) for kernel in self._kernels]

    def step(self, step: int, total_steps: int) -> None:
        """Zero what is pruned so far, and where the schedule says so prune further."""
        self._apply()
        due = self._schedule.at(step, total_steps)
        if due is not None:
            self._masks = self._choose([kernel.numpy() for kernel in self._kernels], due)
            self._apply()

    def state(self) -> State:
        """The masks: a weight that happens to be 0 is not pruned."""
        return {str(index): kept for index, kept in enumerate(self._masks)}

    def restore(self, state: State) -> None:
        """Take up the masks of an interrupted fit."""
        self._masks = [state[str(index)] for index in range(len(self._kernels))]

    def finish(self) -> TransformSummary:
        """The fraction of exact zeros in each kernel, by path.

        Raises:
            CheckFailed: a pruned weight is not zero, too few are, or a whole kernel is.

        """
        figures = {}
        for kernel, kept in zip(self._kernels, self._masks, strict=True):
            values = kernel.numpy()
            if np.any(values[~kept]):
                raise CheckFailed(
                    f"{self._name}: {np.count_nonzero(values[~kept])} pruned weights of {kernel.path} are not 0"
                )
            if not np.any(values):
                raise CheckFailed(
                    f"{self._name} left nothing of {kernel.path} at a sparsity of {self._schedule.sparsity:g}",
                    "lower the sparsity, or prune each layer alone (scope = per_layer)",
                )
            figures[kernel.path] = np.count_nonzero(values == 0) / values.size
        return TransformSummary(self._name, figures, self._skipped)

    def _apply(self) -> None:
        import keras

        for kernel, kept in zip(self._kernels, self._masks, strict=True):
            # not a product: a negative weight times 0 is -0.0, other bytes than 0.0 in a file
            kernel.assign(keras.ops.where(kept, kernel, 0))


def prunable(
    model: Any, name: str, layers: tuple[str, ...] | None = None, *, depthwise: bool = False
) -> tuple[list[Any], tuple[Skipped, ...]]:
    """The kernels of a Keras 3 model that can be pruned, and what cannot be and why; `name` is the pass's.

    Prunable are the kernels of dense and convolution layers, and the pointwise kernels of separable ones; with
    `depthwise` the depthwise ones too.

    Raises:
        UnknownName: one of `layers` is not a layer that has weights.

    """
    import keras

    known = [layer for layer in model._flatten_layers(include_self=False) if _own_weights(layer)]  # noqa: SLF001 - model.layers leaves out layers within layers
    names = {layer.name for layer in known}
    for wanted in layers or ():
        if wanted not in names:
            raise UnknownName("layer with weights", wanted, names)
    kinds = keras.layers
    convolutions = (kinds.Conv1D, kinds.Conv2D, kinds.Conv3D)
    transposed = (kinds.Conv1DTranspose, kinds.Conv2DTranspose, kinds.Conv3DTranspose)
    whole = (kinds.Dense, kinds.EinsumDense, *convolutions, *transposed)
    separable = (kinds.SeparableConv1D, kinds.SeparableConv2D)
    one_by_one = (kinds.DepthwiseConv1D, kinds.DepthwiseConv2D)
    kernels, skipped, small = [], [], 0
    for layer in known:
        targets = (
            {"kernel"} if isinstance(layer, whole) else {"pointwise_kernel"} if isinstance(layer, separable) else set()
        )
        if depthwise:
            targets |= {"kernel"} if isinstance(layer, one_by_one) else {"depthwise_kernel"}
        for variable in _own_weights(layer):
            if len(variable.shape) < 2:
                small += 1
            elif layers is not None and layer.name not in layers:
                skipped.append(Skipped(f"{name}: {variable.path}", "not among the layers that the recipe names"))
            elif variable.name in targets:
                kernels.append(variable)
            else:
                kind = "depthwise_kernel" if isinstance(layer, one_by_one) else variable.name
                skipped.append(Skipped(f"{name}: {variable.path}", NOT_PRUNED.get(kind, OTHER)))
    if small:
        skipped.append(Skipped(f"{name}: {small} biases and normalization parameters", SMALL_VARIABLES))
    return kernels, tuple(skipped)


def _own_weights(layer: Any) -> list[Any]:
    """The floating-point variables that a layer itself holds, without those of layers within it."""
    own = layer._trainable_variables + layer._non_trainable_variables  # noqa: SLF001 - .weights adds the layers within
    return [variable for variable in own if variable.dtype.startswith(("float", "bfloat"))]
