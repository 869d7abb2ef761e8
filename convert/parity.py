"""Do two models compute the same function? Outputs on the same inputs, compared as numbers.

Two ratios are formed. SQNR, 10 log10(signal power / error power), goes into the report. What decides is the power of
the *variation* of the reference over the examples against the power of the error: a converted model whose weights
are gone answers the same for every input, its error is then at least that variation, so this ratio is at most 0 dB
whatever the outputs look like. Plain SQNR would call near-uniform softmax outputs "equal" to a constant.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.report import Parity

Outputs = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Tolerance:
    """Limits for one precision.

    `max_relative` is the largest error as a fraction of the reference's largest value; `min_variation_db` is
    10 log10 of the variation's power over the error's power. None is no limit.
    """

    max_relative: float | None
    min_variation_db: float | None

    def __post_init__(self) -> None:
        if self.max_relative is not None and not 0 < self.max_relative < 1:
            raise ValueError(f"max_relative must be in (0, 1), not {self.max_relative}")


TOLERANCES: dict[str, Tolerance] = {
    # float32 has a relative precision of 6e-8. Other kernels add in another order: the error grows with the square root
    # of the sum's length (thousands) and with depth (tens), which gives up to 1e-5; 1e-4 leaves room for exp and erf
    # approximations. The variation is held as well, since 1e-4 of the peak may be all there is.
    "float32": Tolerance(1e-4, 30.0),
    # Weights rounded to 11 bits: error 2^-12 on average, about 70 dB per layer; ten layers add 10 dB, float16
    # accumulation on some engines 20 dB. Below 20 dB something other than rounding happened.
    "float16": Tolerance(0.05, 20.0),
    # Eight bits carry at most 50 dB; crest factor and depth leave 20 to 40 dB on trained models, and as little as 6 dB
    # on untrained ones, where all outputs are alike. 3 dB says: at least half of the variation is explained, which a
    # model that lost its weights cannot do. Whether the accuracy suffices is the accuracy gate's to say.
    "dynamic": Tolerance(None, 3.0),
    "int8": Tolerance(None, 3.0),
    # Rounded as int8, and trained in between: what training moves is not told from what rounding does.
    "qat": Tolerance(None, 3.0),
    "lsq": Tolerance(None, 3.0),
    # int8 weights limit it as above; the 16-bit activations add next to nothing.
    "int16x8": Tolerance(None, 3.0),
    # Every layer int8 at worst.
    "mixed": Tolerance(None, 3.0),
    # Four bits: 24 dB at best.
    "int4": Tolerance(None, 0.5),
}


def compare(
    reference: Outputs,
    candidate: Outputs,
    *,
    quantization_scale: float | None,
    tolerance: Tolerance,
    name: str = "source",
) -> Parity:
    """Compare outputs by name, each [n, ...], on the same n examples.

    `quantization_scale` is one step of the candidate's quantized output, which gives `max_lsb`; None where it has
    none. `argmax_agreement` is the least over outputs of shape [n, classes >= 2], None where there is none.
    `sqnr_db` and `max_abs` are the worst over all outputs. An output that is missing, of another shape, or that
    holds NaN or infinity where the reference does not diverges. `name` says what the reference is.
    """
    n = len(next(iter(reference.values()))) if reference else 0
    worst_abs, worst_sqnr, agreement = 0.0, math.inf, None
    first: str | None = None
    for output, wanted in reference.items():
        got = candidate.get(output)
        want = np.asarray(wanted, np.float64)
        if got is None or np.shape(got) != want.shape or not np.isfinite(np.asarray(got, np.float64)).all():
            first = first or output
            worst_abs, worst_sqnr = math.inf, -math.inf
            continue
        have = np.asarray(got, np.float64)
        largest = float(np.max(np.abs(have - want), initial=0.0))
        worst_abs = max(worst_abs, largest)
        worst_sqnr = min(worst_sqnr, _db(np.square(want), np.square(have - want)))
        if want.ndim == 2 and want.shape[1] >= 2 and len(want):
            same = float(np.mean(want.argmax(1) == have.argmax(1)))
            agreement = same if agreement is None else min(agreement, same)
        if first is None and not _within(want, have, tolerance):
            first = output
    # JSON has no infinity: "cannot be compared" is not a number, and is None there; first_divergence says it all.
    return Parity(
        reference=name,
        max_abs=worst_abs if math.isfinite(worst_abs) else float(np.finfo(np.float32).max),
        max_lsb=worst_abs / quantization_scale if quantization_scale and math.isfinite(worst_abs) else None,
        sqnr_db=worst_sqnr if math.isfinite(worst_sqnr) else None,
        argmax_agreement=agreement,
        first_divergence=first,
        n=n,
    )


def _within(want: npt.NDArray[np.float64], have: npt.NDArray[np.float64], tolerance: Tolerance) -> bool:
    error = have - want
    if not np.any(error):
        return True
    if not np.isfinite(want).all():
        return False  # the reference itself is broken: nothing can be said to equal it
    peak = float(np.max(np.abs(want), initial=0.0))
    if tolerance.max_relative is not None and float(np.max(np.abs(error))) > tolerance.max_relative * max(peak, 1e-6):
        return False
    if tolerance.min_variation_db is None:
        return True
    variation = want - want.mean(axis=0, keepdims=True)
    # A reference that answers the same to every input (or to one input only) has no variation to explain.
    signal = variation if float(np.max(np.abs(variation))) > 1e-6 * max(peak, 1e-6) else want
    return _db(np.square(signal), np.square(error)) >= tolerance.min_variation_db


def _db(signal: npt.NDArray[np.float64], error: npt.NDArray[np.float64]) -> float:
    power, noise = float(signal.sum()), float(error.sum())
    if noise == 0.0:
        return math.inf
    return 10 * math.log10(power / noise) if power > 0 else -math.inf
