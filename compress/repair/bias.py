"""Bias correction: rounding weights moves the mean of every output, and the bias takes that back.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019 (arXiv:1906.04721),
section 4.2, equation 17: E[y~] = E[y] + dW E[x]. E[x] is measured on examples (section 4.2.2, appendix D).
"""

import numpy as np

from compress.quantize import Samples
from compress.repair import Repaired
from compress.repair.grid import Doubles, nearest, put_on_grid
from compress.repair.moments import Moments

NAME = "repair.bias"


def correct_bias(model: bytes, calibration: Samples, *, per_channel: bool = True) -> Repaired:
    """Round weights to the nearest of the int8 grid that the next quantization will use, and correct the biases.

    `per_channel` must be what the quantization does. The figures are the largest change of a layer's mean output,
    over the root mean square of what it reads.

    Raises:
        BadModel: damaged or quantized already.
        BadData: the samples do not fit the inputs, or there are none.
        CheckFailed: there is no layer to treat.

    """
    return put_on_grid(model, calibration, _rounding, NAME, per_channel=per_channel)


def _rounding(kernel: Doubles, scales: Doubles, seen: Moments, _: bool) -> tuple[Doubles, float]:
    chosen = nearest(kernel, scales)
    moved = np.abs(np.einsum("gok,gk->go", chosen - kernel, seen.mean)).max()
    size = np.sqrt(np.trace(seen.second, axis1=1, axis2=2).sum() / seen.n)
    return chosen, float(moved / size) if size > 0 else 0.0
