"""How much each layer's precision changes a model: every layer quantized alone, everything else left float.

The error of the outputs is counted as noise: error power over signal power, 10^(-SQNR/10). Noise of independent layers
adds up: Lin, Talathi and Annapureddy, "Fixed Point Quantization of Deep Convolutional Networks", ICML 2016
(arXiv:1511.06393).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.quantize.mixable import Layer, Mixable, Precision
from edge.errors import BadModel, CheckFailed
from edge.report import Skipped

Outputs = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Effect:
    """What one precision of one layer does to the model: the noise of its outputs, and the task's metric."""

    precision: Precision
    noise: float
    score: float

    @property
    def sqnr_db(self) -> float | None:
        """10 log10(signal power / error power); None where no output changes."""
        return None if self.noise == 0 else -10 * math.log10(self.noise)


@dataclass(frozen=True)
class LayerEffects:
    """A layer with the effect of each precision that it can have besides float32, the narrowest first."""

    layer: Layer
    effects: tuple[Effect, ...]


@dataclass(frozen=True)
class Sensitivity:
    """All layers that can be treated, in the order they run. `score` is the metric of the float model."""

    score: float
    layers: tuple[LayerEffects, ...]
    skipped: tuple[Skipped, ...] = ()


def noise(wanted: Outputs, got: Outputs) -> float:
    """Error power over signal power, the larger over several outputs [n, ...]; infinite where `got` is not finite."""
    found = 0.0
    for name, reference in wanted.items():
        signal, error = reference.astype(np.float64), got[name].astype(np.float64) - reference
        if not np.isfinite(error).all():
            return math.inf
        power = float(np.square(signal).sum())
        lost = float(np.square(error).sum())
        found = max(found, lost / power if power else (math.inf if lost else 0.0))
    return found


def measure(
    source: Mixable,
    run: Callable[[bytes], Outputs],
    score: Callable[[Outputs], float],
    progress: Callable[[float, str], None],
) -> Sensitivity:
    """Quantize each layer alone, to each precision, and run what comes out.

    `run` gives the outputs of a model on the same examples each time, `score` the metric of outputs.

    Raises:
        CheckFailed: no layer can be treated.

    """
    wanted = run(source.model)
    everywhere: dict[str, Precision] = {layer.name: "float32" for layer in source.layers}
    precisions = [precision for precision in source.precisions if precision != "float32"]
    found, skipped = [], list(source.skipped)
    for number, layer in enumerate(source.layers):
        effects = []
        for precision in precisions:
            progress(number / len(source.layers), f"layer {number + 1} of {len(source.layers)}: {precision}")
            try:
                got = run(source.build({**everywhere, layer.name: precision}).model)
            except BadModel as error:
                skipped.append(Skipped(layer.name, f"{precision}: {error.message}"))
                continue
            if not math.isfinite(change := noise(wanted, got)):
                skipped.append(Skipped(layer.name, f"{precision}: the outputs are not finite"))
                continue
            effects.append(Effect(precision, change, score(got)))
        if effects:
            found.append(LayerEffects(layer, tuple(effects)))
    if not found:
        why = "; ".join(f"{entry.what}: {entry.reason}" for entry in skipped) or "no operation has constant weights"
        raise CheckFailed(f"there is no layer to give a precision to: {why}", "leave the pass out")
    return Sensitivity(score(wanted), tuple(found), tuple(skipped))
