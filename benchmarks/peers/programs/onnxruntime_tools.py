"""ONNX Runtime's own quantizers: METHOD MODEL.onnx DATA.npz OUT.onnx. Runs in the peer's environment.

`static` is quantize_static as it comes; `static_x86` has what its documentation advises for x86-64 (unsigned
activations, a scale per channel, reduced range off); `static_entropy` calibrates by entropy; `dynamic` needs no data.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(method: str, model: Path, data: Path, out: Path) -> None:
    """Write `out`."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = out.with_suffix(".prepared.onnx")
    quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
    if method == "dynamic":
        quantize_dynamic(str(prepared), str(out))
        return
    import onnxruntime

    name = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"]).get_inputs()[0].name
    with np.load(data) as archive:
        rows = archive["calibration"]

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # untyped
        def __init__(self) -> None:
            self._rows = iter(rows)

        def get_next(self) -> dict[str, Any] | None:
            row = next(self._rows, None)
            return None if row is None else {name: row[None]}

    settings: dict[str, dict[str, Any]] = {
        "static": {},
        "static_x86": {"per_channel": True, "activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8},
        "static_entropy": {
            "per_channel": True,
            "activation_type": QuantType.QUInt8,
            "weight_type": QuantType.QInt8,
            "calibrate_method": CalibrationMethod.Entropy,
        },
    }
    quantize_static(str(prepared), str(out), Reader(), **settings[method])


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:5]))
