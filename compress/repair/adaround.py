"""AdaRound: which weights to round up and which down, so that a layer's outputs change least.

Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML 2020 (arXiv:2004.10568), section 3.2:
the change of a layer's outputs is dW E[x x'] dW', a quadratic binary problem (equation 20) of every output on its own.
The paper relaxes it with a sigmoid; here it is solved by coordinate descent from rounding to nearest (Behdin et al.,
"QuantEase", 2023, arXiv:2309.01885, section 3), so that it never ends worse than it starts and needs no learning rate.
"""

import numpy as np

from compress.quantize import Samples
from compress.repair import Repaired
from compress.repair.grid import LARGEST, Doubles, nearest, put_on_grid
from compress.repair.moments import Moments

NAME = "repair.adaround"
# A part of the mean variance added to each: what calibration has not seen would else cost nothing to change
# (Frantar et al., "GPTQ", ICLR 2023, section 3.3, has the same 1 %).
DAMPING = 0.01
SWEEPS = 10


def adaround(model: bytes, calibration: Samples, *, per_channel: bool = True) -> Repaired:
    """Put the weights of every layer on the int8 grid that the next quantization will use, and correct the biases.

    The bias takes up the mean of the change, so only its variance has to be small. `per_channel` must be what the
    quantization does. The figures are the mean square error of each layer's outputs over that of rounding to nearest.

    Raises:
        BadModel: damaged or quantized already.
        BadData: the samples do not fit the inputs, or there are none.
        CheckFailed: there is no layer to treat.

    """
    return put_on_grid(model, calibration, _rounding, NAME, per_channel=per_channel)


def _rounding(kernel: Doubles, scales: Doubles, seen: Moments, biased: bool) -> tuple[Doubles, float]:
    second = damped(seen.covariance() if biased else seen.second / seen.n)
    chosen = up_or_down(kernel, scales, second)
    before = error_of(nearest(kernel, scales) - kernel, second).sum()
    return chosen, float(error_of(chosen - kernel, second).sum() / before) if before > 0 else 1.0


def error_of(change: Doubles, second: Doubles) -> Doubles:
    """The mean square of what a change of weights [groups, outputs, k] does to each output: [groups, outputs]."""
    return np.asarray(((change @ second) * change).sum(axis=2))


def damped(second: Doubles) -> Doubles:
    """Moments [groups, k, k] with `DAMPING` of the mean of each diagonal added to it."""
    size = second.shape[-1]
    mean = np.trace(second, axis1=1, axis2=2) / size
    return np.asarray(second + (DAMPING * mean + np.finfo(np.float32).tiny)[:, None, None] * np.eye(size))


def up_or_down(kernel: Doubles, scales: Doubles, second: Doubles) -> Doubles:
    """Weights [groups, outputs, k], each at one of the two multiples of its scale [groups, outputs] around it.

    `second` [groups, k, k] is positive definite. Weights that are on the grid already stay there.
    """
    step = scales[..., None]
    # float32 weights on the grid are off it by their rounding, a few parts in 10 million
    down = np.clip(np.floor(kernel / step + 1e-4), -LARGEST, LARGEST)
    up = np.clip(np.ceil(kernel / step - 1e-4), -LARGEST, LARGEST)
    integers = np.clip(np.rint(kernel / step), -LARGEST, LARGEST)
    slope = (integers * step - kernel) @ second
    for _ in range(SWEEPS):
        changed = False
        for place in range(kernel.shape[2]):
            own = second[:, place, place][:, None]
            # the minimum of a parabola over two values is at the one nearer to its lowest point
            best = np.rint(integers[..., place] - slope[..., place] / (own * scales))
            moved = np.clip(best, down[..., place], up[..., place]) - integers[..., place]
            if moved.any():
                changed = True
                integers[..., place] += moved
                slope += (moved * scales)[..., None] * second[:, None, place, :]
        if not changed:
            break
    return np.asarray(integers * step)
