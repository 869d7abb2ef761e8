"""Rockchip's compiler and simulator, run by the interpreter of their own environment: `python rknn_tool.py FOLDER`.

FOLDER holds request.json, model.onnx, calibration-I-N.npy and golden-I.npy, one array [1, ...] or [n, 1, ...] per
input; it gets model.rknn and output-I.npy [n, ...]. Standard library, numpy and the toolkit only: that environment
has nothing of this project.
"""

import json
import sys
from pathlib import Path

import numpy as np


def main(folder: Path) -> None:
    """Compile the model of the folder, run it in the simulator, and leave both results there."""
    from rknn.api import RKNN  # type: ignore[import-not-found]  # in that environment alone

    request = json.loads((folder / "request.json").read_text())
    names, shapes = request["names"], request["shapes"]
    tool = RKNN(verbose=False)
    _done(tool.config(target_platform=request["soc"]), f"does not know {request['soc']}")
    loaded = tool.load_onnx(model=str(folder / "model.onnx"), inputs=names, input_size_list=shapes)
    _done(loaded, "cannot load the model")
    rows = [
        " ".join(str(folder / f"calibration-{i}-{n}.npy") for i in range(len(names)))
        for n in range(request["calibration"])
    ]
    (folder / "dataset.txt").write_text("\n".join(rows))
    _done(tool.build(do_quantization=True, dataset=str(folder / "dataset.txt")), "cannot build the model")
    _done(tool.export_rknn(str(folder / "model.rknn")), "cannot write the model")
    # a target here would start an adb daemon; without one the simulator runs
    _done(tool.init_runtime(target=None), "cannot start its simulator")
    golden = [np.load(folder / f"golden-{i}.npy") for i in range(len(names))]
    runs = [
        tool.inference(inputs=[rows[n] for rows in golden], data_format=["nchw"] * len(names))
        for n in range(len(golden[0]))
    ]
    for i, outputs in enumerate(zip(*runs, strict=True)):
        np.save(folder / f"output-{i}.npy", np.stack([np.asarray(values, np.float32) for values in outputs]))


def _done(code: int, failed: str) -> None:
    if code != 0:
        sys.exit(f"rknn-toolkit2 {failed} (code {code})")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
