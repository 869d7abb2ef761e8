"""Does a delegate compute what the CPU computes? Outputs on the same inputs, with what makes the figure mean something:
the range of the outputs, steps of a quantized output, and whether the same class wins.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.bench_report import Difference
from edge.delegates import Delegate
from edge.tensors import TensorSpec

Outputs = Mapping[str, npt.NDArray[Any]]
# real outputs are float32, so a step of the output is met up to its rounding
ROUNDING = 1e-3
# JSON has no infinity; what cannot be compared differs by this much
WORST = float(np.finfo(np.float32).max)


def difference(
    reference: Outputs,
    outputs: Outputs,
    specs: tuple[TensorSpec, ...],
    delegate: Delegate,
    *,
    told: str,
    inner_steps: Mapping[str, float],
    name: str,
) -> Difference:
    """The worst over all outputs, each [n, ...]; real values.

    A quantized output, also one that is made real again by the last operation (`inner_steps`), is held to
    `tolerance_lsb` of its steps, any other to `tolerance` of the reference's range.
    """
    n = len(next(iter(reference.values())))
    worst_abs, worst_relative, span, agreement = 0.0, 0.0, 0.0, None
    worst_lsb: float | None = None
    within, allowed = True, ""
    for spec in specs:
        want = np.asarray(reference[spec.name], np.float64)
        have = np.asarray(outputs[spec.name], np.float64)
        here = float(np.ptp(want)) if want.size else 0.0
        largest = _largest(want, have)
        relative = min(largest / (here or 1.0), WORST)
        step = spec.quantization.scale if spec.quantization is not None else inner_steps.get(spec.name)
        if step is not None:
            lsb = largest / step
            worst_lsb = max(worst_lsb or 0.0, min(lsb, WORST))
            ok, limit = lsb <= delegate.tolerance_lsb + ROUNDING, f"{delegate.tolerance_lsb} LSB"
        else:
            ok, limit = relative <= delegate.tolerance, f"{delegate.tolerance:g} of the range"
        within, allowed = within and ok, allowed or limit
        if relative >= worst_relative:
            worst_relative, span = relative, here
            allowed = limit
        worst_abs = max(worst_abs, largest)
        if want.shape == have.shape and want.ndim == 2 and want.shape[1] >= 2:
            same = float(np.mean(want.argmax(1) == have.argmax(1)))
            agreement = same if agreement is None else min(agreement, same)
    return Difference(name, told, n, worst_abs, span, worst_relative, worst_lsb, agreement, allowed, within)


def _largest(want: npt.NDArray[np.float64], have: npt.NDArray[np.float64]) -> float:
    """The largest absolute difference; WORST where shapes differ or only one of them is NaN."""
    if want.shape != have.shape or not np.array_equal(np.isnan(want), np.isnan(have)):
        return WORST
    equal = (want == have) | np.isnan(want)
    with np.errstate(invalid="ignore"):
        apart = np.where(equal, 0.0, np.abs(want - have))
    return min(float(apart.max(initial=0.0)), WORST)
