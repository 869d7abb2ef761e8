"""The first and second moments of what each layer reads, over calibration samples, in memory that does not grow.

A layer computes y = W x + b for every patch x, so the mean square of what a change of W does to its outputs is
dW E[x x'] dW': these moments are all that a layer-wise repair needs to know of the data.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compress.quantize import Samples
from compress.quantize.litert_static import activations
from compress.repair.litert_layers import Layer

Doubles = npt.NDArray[np.float64]
# Neighbouring patches of one example say the same: this many of each are drawn.
PATCHES = 64


@dataclass
class Moments:
    """Sums over `n` patches: of x [groups, k] and of x x' [groups, k, k]."""

    n: int
    first: Doubles
    second: Doubles

    @property
    def mean(self) -> Doubles:
        """E[x]: [groups, k]."""
        return self.first / self.n

    def covariance(self) -> Doubles:
        """E[x x'] - E[x] E[x]': [groups, k, k]."""
        return self.second / self.n - self.mean[:, :, None] * self.mean[:, None, :]


def moments_of(model: bytes, layers: Sequence[Layer], calibration: Samples, seed: int = 0) -> dict[str, Moments]:
    """The moments of every layer's patches, by its name; a layer whose input the runtime does not keep is missing.

    Raises:
        BadData: the samples do not fit the inputs, or there are none.

    """
    rng = np.random.default_rng(seed)
    found: dict[str, Moments] = {}
    for values in activations(model, calibration, frozenset(layer.source for layer in layers)):
        for layer in layers:
            if layer.source not in values:
                continue
            drawn = patches(values[layer.source], layer, rng)
            first, second = drawn.sum(axis=1), drawn.transpose(0, 2, 1) @ drawn
            if layer.name in found:
                seen = found[layer.name]
                seen.n, seen.first, seen.second = seen.n + drawn.shape[1], seen.first + first, seen.second + second
            else:
                found[layer.name] = Moments(drawn.shape[1], first, second)
    return found


def patches(values: npt.NDArray[np.floating], layer: Layer, rng: np.random.Generator) -> Doubles:
    """At most `PATCHES` of the patches that a layer reads: [groups, patches, k].

    `values` is the input of the layer: [1, H, W, C], or [..., k] for a dense layer.
    """
    if layer.operator.kind == "FULLY_CONNECTED":
        rows = values.reshape(-1, layer.operator.shape[-1]).astype(np.float64)
        return rows[None, rng.permutation(len(rows))[:PATCHES]]
    (image,) = values
    starts = []
    for axis in (0, 1):
        reach = (layer.kernel[axis] - 1) * layer.dilations[axis] + 1
        size, stride = image.shape[axis], layer.strides[axis]
        count = -(-size // stride) if layer.same else (size - reach) // stride + 1
        # TensorFlow pads so that ceil(size / stride) outputs exist, the odd pixel behind
        before = max((count - 1) * stride + reach - size, 0) // 2 if layer.same else 0
        starts.append(np.arange(count) * stride - before)
    chosen = rng.permutation(len(starts[0]) * len(starts[1]))[:PATCHES]
    top, left = starts[0][chosen // len(starts[1])], starts[1][chosen % len(starts[1])]
    rows = top[:, None, None] + (np.arange(layer.kernel[0]) * layer.dilations[0])[None, :, None]
    columns = left[:, None, None] + (np.arange(layer.kernel[1]) * layer.dilations[1])[None, None, :]
    inside = (rows >= 0) & (rows < image.shape[0]) & (columns >= 0) & (columns < image.shape[1])
    taken = image[np.clip(rows, 0, image.shape[0] - 1), np.clip(columns, 0, image.shape[1] - 1)] * inside[..., None]
    drawn = taken.reshape(len(chosen), -1, image.shape[-1]).astype(np.float64)  # [patches, kernel, C]
    if layer.depthwise:
        return np.asarray(drawn.transpose(2, 0, 1))
    return np.asarray(drawn.reshape(1, len(chosen), -1))
