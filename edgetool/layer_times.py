"""How long each layer of a .tflite takes at each precision: an estimate, since LiteRT's Python has no profiler.

Every operation is timed alone (`edgetool.bench.litert_ops`) and the parts are scaled so that they add up to the
measured time of the whole model.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from compress.quantize.mixable import Layer, Mixable, Precision
from edge.errors import CheckFailed
from edge.runtime_process import RuntimeProcess
from edgetool.bench.litert_ops import time_alone

SECONDS = 0.5


def whole_ms(model: bytes) -> float:
    """The median time of a .tflite on one thread, in a process of its own, in ms."""
    with tempfile.TemporaryDirectory(prefix="edgetool-") as folder, RuntimeProcess() as process:
        path = Path(folder) / "model.tflite"
        path.write_bytes(model)
        process.load(path, "tflite")
        return float(np.median(process.time(seconds=SECONDS, min_calls=20, lead_in=10))) * 1e3


def layer_ms(source: Mixable, precisions: tuple[Precision, ...]) -> Callable[[Layer, Precision], float]:
    """The estimated time of a layer at a precision, in ms, from models with all layers at that precision.

    Raises:
        CheckFailed: the operations of a model cannot be told apart.

    """
    found: dict[tuple[str, Precision], float] = {}
    kinds = {layer.kind for layer in source.layers}
    for precision in precisions:
        model = source.build({layer.name: precision for layer in source.layers}).model
        with tempfile.TemporaryDirectory(prefix="edgetool-") as folder:
            path = Path(folder) / "model.tflite"
            path.write_bytes(model)
            profile = time_alone(path, 1, Path(folder))
        timed = [op for op in profile.ops if op.op in kinds]
        if [op.op for op in timed] != [layer.kind for layer in source.layers]:
            raise CheckFailed(
                "the time of the layers cannot be estimated: not each of them could be timed alone",
                "leave out max_time, and let the race of edgetool compress judge the time",
            )
        scale = whole_ms(model) / (profile.total_us / 1e3)
        for layer, op in zip(source.layers, timed, strict=True):
            found[layer.name, precision] = op.us / 1e3 * scale
    return lambda layer, precision: found[layer.name, precision]
