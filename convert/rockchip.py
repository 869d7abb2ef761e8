"""An .onnx model compiled to int8 for a Rockchip NPU (.rknn), and run in Rockchip's simulator.

The toolkit pins versions that nothing else can live with, so it stands in an environment of its own (5.4 GB), whose
interpreter EDGETOOL_RKNN_PYTHON names. The simulator computes what any of these NPUs computes; it knows no times.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from edge.delegates import difference
from edge.engines import open_engine, predict
from edge.errors import BadData, BadModel, EnvironmentFailed, RuntimeMissing, UnknownName
from edge.tensors import Array

PYTHON = "EDGETOOL_RKNN_PYTHON"
INSTALL = (
    "python3.11 -m venv rknn && rknn/bin/pip install rknn-toolkit2==2.5.0 'setuptools<81' (5.4 GB), "
    f"then {PYTHON}=$PWD/rknn/bin/python"
)
SOCS = ("rk3562", "rk3566", "rk3568", "rk3576", "rk3588", "rv1103", "rv1106", "rv1126b")
TOOL = Path(__file__).parent / "rknn_tool.py"
LIMIT_S = 900.0


@dataclass(frozen=True)
class RockchipCheck:
    """How far the compiled model's outputs are from the float model's on `n` examples, in the simulator.

    `worst` and `mean` are differences as fractions of the range of the float outputs; `agreement` is the share of
    examples whose largest output is the same one.
    """

    soc: str
    n: int
    worst: float
    mean: float
    agreement: float
    status: Literal["emulated"] = "emulated"

    def as_text(self) -> str:
        """One sentence."""
        return (
            f"{self.soc}, int8, in Rockchip's simulator (emulated): the largest output is the same for "
            f"{self.agreement:.1%} of {self.n} examples; "
            f"outputs differ by {self.mean:.2g} of their range on average, {self.worst:.2g} at most"
        )


def toolkit() -> Path:
    """The interpreter of the toolkit's environment.

    Raises:
        RuntimeMissing: the setting is not there, or names no interpreter that has the toolkit.

    """
    named = os.environ.get(PYTHON)
    if not named:
        raise RuntimeMissing(f"Rockchip's compiler has no environment here: {PYTHON} is not set", INSTALL)
    found = shutil.which(named)
    if found is None:
        raise RuntimeMissing(f"{PYTHON} names {named}, which cannot be run", INSTALL)
    look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('rknn') is None)"
    if subprocess.run([found, "-c", look], capture_output=True, check=False).returncode != 0:
        raise RuntimeMissing(f"{PYTHON} names {named}, which has no rknn-toolkit2", INSTALL)
    return Path(found)


def compile_for_rockchip(
    model: Path,
    soc: str,
    calibration: Mapping[str, Array],
    golden: Mapping[str, Array],
    *,
    limit_s: float = LIMIT_S,
) -> tuple[bytes, RockchipCheck]:
    """The .rknn, and how its outputs compare with ONNX Runtime's; inputs are [N, ...] by name, float32.

    Raises:
        UnknownName: no such system on a chip.
        RuntimeMissing: there is no environment with the toolkit.
        BadData: nothing to calibrate on or to compare with.
        BadModel: the toolkit does not take the model.
        EnvironmentFailed: it did not end within the limit.

    """
    if soc not in SOCS:
        raise UnknownName("Rockchip SoC", soc, SOCS)
    python = toolkit()
    engine = open_engine(model, "onnx")
    try:
        specs = engine.inputs
        for spec in specs:
            if (
                spec.name not in calibration
                or spec.name not in golden
                or not min(len(calibration[spec.name]), len(golden[spec.name]))
            ):
                raise BadData(f"there are no examples of input {spec.name!r} to calibrate on and to compare with")
            if None in spec.shape:
                raise BadModel(f"{model}: input {spec.name!r} has a dynamic shape: a .rknn has fixed ones only")
        n = len(golden[specs[0].name])
        expected = [predict(engine, {s.name: np.asarray(golden[s.name][i : i + 1]) for s in specs}) for i in range(n)]
        names = [spec.name for spec in engine.outputs]
    finally:
        engine.close()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shutil.copyfile(model, folder / "model.onnx")
        for i, spec in enumerate(specs):
            for number, row in enumerate(calibration[spec.name]):
                np.save(folder / f"calibration-{i}-{number}.npy", np.asarray(row, np.float32)[None])
            np.save(folder / f"golden-{i}.npy", np.asarray(golden[spec.name], np.float32)[:, None])
        request = {
            "soc": soc,
            "names": [spec.name for spec in specs],
            "shapes": [[1, *spec.shape[1:]] for spec in specs],
            "calibration": len(calibration[specs[0].name]),
        }
        (folder / "request.json").write_text(json.dumps(request))
        _run(python, folder, model.name, limit_s)
        compiled = (folder / "model.rknn").read_bytes()
        got = [np.load(folder / f"output-{i}.npy") for i in range(len(names))]
    truth = [np.concatenate([row[name] for row in expected]) for name in names]
    return compiled, _check(soc, [values.reshape(true.shape) for values, true in zip(got, truth, strict=True)], truth)


def _run(python: Path, folder: Path, title: str, limit_s: float) -> None:
    try:
        done = subprocess.run(
            [str(python), str(TOOL), str(folder)],
            capture_output=True, text=True, errors="replace", cwd=folder, timeout=limit_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise EnvironmentFailed(f"rknn-toolkit2 did not end within {limit_s:g} s while compiling {title}") from None
    if done.returncode != 0:
        told = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.startswith("E ")]
        last = [line.strip() for line in done.stderr.splitlines() if line.strip()] or [f"code {done.returncode}"]
        raise BadModel(f"{title} cannot be compiled: {last[-1][:200]}{'; ' + told[0][:200] if told else ''}")


def _check(soc: str, got: list[Array], truth: list[Array]) -> RockchipCheck:
    spans = [float(np.ptp(values)) or 1.0 for values in truth]
    mean = max(float(np.abs(np.subtract(a, b)).mean()) / span for a, b, span in zip(got, truth, spans, strict=True))
    n = len(truth[0])
    same = got[0].reshape(n, -1).argmax(1) == truth[0].reshape(n, -1).argmax(1)
    worst = max(difference(a, b) for a, b in zip(got, truth, strict=True))
    return RockchipCheck(soc, n, worst, mean, float(same.mean()))
