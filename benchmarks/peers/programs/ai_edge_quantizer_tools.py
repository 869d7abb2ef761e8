"""AI Edge Quantizer, the quantizer of LiteRT: METHOD MODEL.tflite DATA.npz OUT.tflite, METHOD a recipe of its own.

Runs in the peer's environment.
"""

import sys
from pathlib import Path

import numpy as np


def main(method: str, model: Path, data: Path, out: Path) -> None:
    """Write `out`."""
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe  # type: ignore[import-not-found]  # in the peer's environment only

    work = quantizer.Quantizer(str(model), getattr(recipe, method)())
    result = None
    if work.need_calibration:
        ((signature, names),) = Interpreter(str(model)).get_signature_list().items()
        with np.load(data) as archive:
            rows = archive["calibration"]
        result = work.calibrate({signature: [{names["inputs"][0]: row[None]} for row in rows]})
    work.quantize(result).export_model(str(out), overwrite=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:5]))
