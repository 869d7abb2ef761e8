"""NNCF's post-training quantization on ONNX: METHOD MODEL.onnx DATA.npz OUT.onnx. Runs in the peer's environment.

`default` is nncf.quantize as it comes; `accurate` corrects biases layer by layer and has the mixed preset.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(method: str, model: Path, data: Path, out: Path) -> None:
    """Write `out`."""
    import nncf  # type: ignore[import-not-found]  # in the peer's environment only
    import onnx

    loaded = onnx.load(str(model))
    with np.load(data) as archive:
        rows = archive["calibration"]
    samples = nncf.Dataset([{loaded.graph.input[0].name: row[None]} for row in rows])
    settings: dict[str, dict[str, Any]] = {
        "default": {},
        "accurate": {"preset": nncf.QuantizationPreset.MIXED, "fast_bias_correction": False},
    }
    onnx.save(nncf.quantize(loaded, samples, subset_size=len(rows), **settings[method]), str(out))


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:5]))
