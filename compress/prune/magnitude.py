"""Unstructured magnitude pruning on a polynomial schedule.

Zhu and Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model compression", 2017
(arXiv:1710.01878), section 3: while the model is trained, the weights of smallest magnitude are set to zero and
stay zero, more of them as the schedule goes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from compress.training import TransformSummary
from edge.errors import CheckFailed, UnknownName
from edge.report import Skipped

Weights = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]
Scope = Literal["global", "per_layer"]

NAME = "prune.magnitude"
POWER = 3  # equation 1: many weights go early, while the learning rate is high and redundancy plenty
SMALL_VARIABLES = "they are a few values a channel: zeros in them cost accuracy and save next to nothing"
NOT_PRUNED = {
    "depthwise_kernel": "a few values a channel: zeros in it cost accuracy and save next to nothing",
    "embeddings": "an embedding is read by row, so single zeros save nothing",
}
OTHER = "magnitude pruning covers the kernels of dense and convolution layers"


@dataclass(frozen=True)
class MagnitudePruning:
    """How far and how fast to prune.

    Attributes:
        sparsity: fraction of the prunable weights that is zero at the end, in [0, 1).
        begin, end: fractions of all steps at which the schedule starts and is done; the rest only recovers.
        frequency_steps: optimizer steps between two changes of the masks.
        scope: "global" ranks the weights of all kernels together, "per_layer" those of each kernel alone.
        layers: names of the layers to prune; None is all that can be pruned.

    """

    sparsity: float = 0.7
    begin: float = 0.0
    end: float = 0.5
    frequency_steps: int = 10
    scope: Scope = "global"
    layers: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise ValueError(f"sparsity must be in [0, 1), not {self.sparsity}")
        if not 0 <= self.begin < self.end <= 1:
            raise ValueError(f"begin and end must be 0 <= begin < end <= 1, not {self.begin} and {self.end}")
        if self.frequency_steps < 1:
            raise ValueError(f"frequency_steps must be at least 1, not {self.frequency_steps}")


def schedule(step: float, begin: float, end: float, sparsity: float) -> float:
    """The sparsity at `step`: s (1 - (1 - (t - t0) / (t1 - t0))^3), from 0 at `begin` to s from `end` on.

    Zhu and Gupta, equation 1, with an initial sparsity of 0.
    """
    progress = min(max((step - begin) / (end - begin), 0.0), 1.0)
    return sparsity * (1 - (1 - progress) ** POWER)


def mask(weights: Weights, sparsity: float) -> Mask:
    """False for the round(sparsity * size) weights of smallest magnitude, True for the rest. Any shape."""
    kept = np.ones(weights.size, np.bool_)
    count = round(sparsity * weights.size)
    if count:
        kept[np.argpartition(np.abs(weights), count - 1, axis=None)[:count]] = False
    return kept.reshape(weights.shape)


def masks(kernels: Sequence[Weights], sparsity: float, scope: Scope) -> list[Mask]:
    """One mask for each kernel: `sparsity` over all of them together, or over each alone."""
    if scope == "per_layer":
        return [mask(kernel, sparsity) for kernel in kernels]
    together = mask(np.concatenate([kernel.ravel() for kernel in kernels]), sparsity)
    parts = np.split(together, np.cumsum([kernel.size for kernel in kernels])[:-1])
    return [part.reshape(kernel.shape) for part, kernel in zip(parts, kernels, strict=True)]


class MagnitudePruner:
    """Prunes one model while it is trained (a `WeightTransform`); one object for one fit."""

    def __init__(self, settings: MagnitudePruning) -> None:
        self._settings = settings
        self._kernels: list[Any] = []
        self._masks: list[Mask] = []
        self._skipped: tuple[Skipped, ...] = ()

    def begin(self, model: Any) -> None:
        """Find the kernels to prune. Raises CheckFailed where there is none, UnknownName for an unknown layer."""
        self._kernels, self._skipped = prunable(model, self._settings.layers)
        if not self._kernels:
            reasons = "; ".join(sorted({entry.reason for entry in self._skipped})) or "it has no weights"
            raise CheckFailed(f"{NAME} has nothing to prune in model {model.name!r}: {reasons}", "leave the pass out")
        self._masks = [np.ones(kernel.shape, np.bool_) for kernel in self._kernels]

    def step(self, step: int, total_steps: int) -> None:
        """Zero what is pruned so far, and at every `frequency_steps` (and where the schedule ends) prune further."""
        settings = self._settings
        self._apply()
        first, last = settings.begin * total_steps, settings.end * total_steps
        if first <= step < last + 1 and (step % settings.frequency_steps == 0 or step >= last):
            now = schedule(step, first, last, settings.sparsity)
            # pruned weights are zero, so they rank lowest and no mask ever gives one back
            self._masks = masks([kernel.numpy() for kernel in self._kernels], now, settings.scope)
            self._apply()

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
                    f"{NAME}: {np.count_nonzero(values[~kept])} pruned weights of {kernel.path} are not 0"
                )
            if not np.any(values):
                raise CheckFailed(
                    f"{NAME} left nothing of {kernel.path} at a sparsity of {self._settings.sparsity:g}",
                    "lower the sparsity, or prune each layer alone (scope = per_layer)",
                )
            figures[kernel.path] = np.count_nonzero(values == 0) / values.size
        return TransformSummary(NAME, figures, self._skipped)

    def _apply(self) -> None:
        import keras

        for kernel, kept in zip(self._kernels, self._masks, strict=True):
            # not a product: a negative weight times 0 is -0.0, other bytes than 0.0 in a file
            kernel.assign(keras.ops.where(kept, kernel, 0))


def prunable(model: Any, layers: tuple[str, ...] | None = None) -> tuple[list[Any], tuple[Skipped, ...]]:
    """The kernels of a Keras 3 model that can be pruned, and what cannot be and why.

    Prunable are the kernels of dense and convolution layers, and the pointwise kernels of separable ones.

    Raises:
        UnknownName: one of `layers` is not a layer that has weights.

    """
    import keras

    known = [layer for layer in model._flatten_layers(include_self=False) if _own_weights(layer)]  # noqa: SLF001 - model.layers leaves out layers within layers
    names = {layer.name for layer in known}
    for name in layers or ():
        if name not in names:
            raise UnknownName("layer with weights", name, names)
    kinds = keras.layers
    convolutions = (kinds.Conv1D, kinds.Conv2D, kinds.Conv3D)
    transposed = (kinds.Conv1DTranspose, kinds.Conv2DTranspose, kinds.Conv3DTranspose)
    whole = (kinds.Dense, kinds.EinsumDense, *convolutions, *transposed)
    separable = (kinds.SeparableConv1D, kinds.SeparableConv2D)
    depthwise = (kinds.DepthwiseConv1D, kinds.DepthwiseConv2D)
    kernels, skipped, small = [], [], 0
    for layer in known:
        target = "kernel" if isinstance(layer, whole) else "pointwise_kernel" if isinstance(layer, separable) else None
        for variable in _own_weights(layer):
            if len(variable.shape) < 2:
                small += 1
            elif layers is not None and layer.name not in layers:
                skipped.append(Skipped(f"{NAME}: {variable.path}", "not among the layers that the recipe names"))
            elif variable.name == target:
                kernels.append(variable)
            else:
                kind = "depthwise_kernel" if isinstance(layer, depthwise) else variable.name
                skipped.append(Skipped(f"{NAME}: {variable.path}", NOT_PRUNED.get(kind, OTHER)))
    if small:
        skipped.append(Skipped(f"{NAME}: {small} biases and normalization parameters", SMALL_VARIABLES))
    return kernels, tuple(skipped)


def _own_weights(layer: Any) -> list[Any]:
    """The floating-point variables that a layer itself holds, without those of layers within it."""
    own = layer._trainable_variables + layer._non_trainable_variables  # noqa: SLF001 - .weights adds the layers within
    return [variable for variable in own if variable.dtype.startswith(("float", "bfloat"))]
