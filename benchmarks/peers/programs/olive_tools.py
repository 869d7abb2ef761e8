"""Olive's ONNX passes: METHOD MODEL.onnx DATA.npz OUT.onnx. Runs in the peer's environment."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(method: str, model: Path, data: Path, out: Path) -> None:
    """Write `out`."""
    import onnx
    from olive.data.registry import Registry  # type: ignore[import-not-found]  # in the peer's environment only
    from olive.workflows import run  # type: ignore[import-not-found]  # in the peer's environment only

    name = onnx.load(str(model)).graph.input[0].name
    with np.load(data) as archive:
        rows = archive["calibration"]

    class Rows:
        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, index: int) -> tuple[dict[str, Any], int]:
            if index >= len(rows):
                raise IndexError(index)
            return {name: rows[index]}, 0  # Olive's data loader makes the batch

    Registry.register_dataset("edgetool_rows")(lambda **_: Rows())  # it calls what is registered with paths
    passes: dict[str, dict[str, Any]] = {
        "static": {"type": "OnnxStaticQuantization", "data_config": "calibration"},
        "dynamic": {"type": "OnnxDynamicQuantization"},
    }
    work = out.with_suffix(".olive")
    shutil.rmtree(work, ignore_errors=True)
    run(
        {
            "input_model": {"type": "ONNXModel", "model_path": str(model)},
            "data_configs": [
                {
                    "name": "calibration",
                    "type": "DataContainer",
                    "load_dataset_config": {"type": "edgetool_rows"},
                    "dataloader_config": {"type": "default_dataloader", "batch_size": 1},
                }
            ],
            "passes": {"quantize": passes[method]},
            "output_dir": str(work),
            "cache_dir": str(work / "cache"),
            "log_severity_level": 2,
        }
    )
    found = [path for path in sorted(work.rglob("*.onnx")) if "cache" not in path.relative_to(work).parts]
    if len(found) != 1:
        sys.exit(f"Olive wrote {json.dumps([str(path) for path in found])}")
    shutil.copyfile(found[0], out)
    shutil.rmtree(work)


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:5]))
