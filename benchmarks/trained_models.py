"""Three trained models, float32 and int8, as .tflite and .onnx, with real inputs: what delegates are judged on.

A network with random weights proves nothing: two kernels of one processor disagree on its answers. These are the
reference CNN of this repository, and MLPerf Tiny's keyword spotting (depthwise convolutions) and anomaly detection
(dense layers) where the shared data is at hand.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.quiet import quiet

Floats = npt.NDArray[np.float32]

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("EDGETOOL_DATA") or REPOSITORY.parent / "shared" / "data")
FOLDER = REPOSITORY / "out" / "trained_models"
EXAMPLES = 64


@dataclass(frozen=True)
class Trained:
    """One model with its inputs [n, ...]; `file` is where a precision ("float32", "int8") of a format lies."""

    name: str
    inputs: Floats

    def file(self, model_format: str, precision: str) -> Path:
        """The path of one of the four files."""
        return FOLDER / f"{self.name}-{precision}.{model_format}"


@dataclass(frozen=True)
class _Source:
    """A Keras model and its real inputs: one part to calibrate on, another to compare with."""

    model: Path
    inputs: Callable[[], tuple[Floats, Floats]]


def prepare() -> tuple[list[Trained], list[str]]:
    """The models, made where they are not there yet, and a sentence for each that cannot be made here."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    found, missing = [], []
    for name, source in SOURCES.items():
        kept = FOLDER / f"{name}.npy"
        if not source.model.exists():
            missing.append(f"{name}: {source.model.name} is in the shared data, which is not here")
            continue
        if not kept.is_file():
            _make(name, source, kept)
        found.append(Trained(name, np.load(kept)))
    return found, missing


def _make(name: str, source: _Source, kept: Path) -> None:
    from compress.quantize.litert_compact import compact
    from compress.quantize.onnx_static import quantize_static
    from convert.load import keras_specs, load_keras
    from convert.to_litert import to_litert
    from convert.to_onnx import to_onnx

    print(f"making the four files of {name}", flush=True)
    calibration, inputs = source.inputs()
    with quiet():
        model = load_keras(source.model)
        (spec,), _ = keras_specs(model)

        def samples() -> Iterator[dict[str, Any]]:
            return ({spec.name: row[None]} for row in calibration)

        plain = to_onnx(model)
        files = {
            "float32.tflite": compact(to_litert(model, "float32", None)),
            "int8.tflite": compact(to_litert(model, "int8", samples, io="int8")),
            "float32.onnx": plain,
            "int8.onnx": quantize_static(plain, samples).model,
        }
    for suffix, content in files.items():
        (FOLDER / f"{name}-{suffix}").write_bytes(content)
    np.save(kept, inputs[:EXAMPLES])  # written last: it says that the files are whole


def _pictures() -> tuple[Floats, Floats]:
    from edgetool.data.fashion_mnist import load_arrays

    train, _, test, _ = load_arrays()
    calibration, inputs = (np.asarray(x[..., None], np.float32) / 255 for x in (train[:200], test[:EXAMPLES]))
    return calibration, inputs


def _keywords() -> tuple[Floats, Floats]:
    from benchmarks.mlperf_tiny import keyword_inputs

    inputs, _, _ = keyword_inputs(SHARED)
    every = np.linspace(0, len(inputs.evaluation) - 1, EXAMPLES).astype(int)
    return inputs.calibration, inputs.evaluation[every]


def _machine_sounds() -> tuple[Floats, Floats]:
    from benchmarks.mlperf_tiny import MODELS, inputs_of

    inputs = inputs_of(next(model for model in MODELS if model.name == "ad"), SHARED, (640,))
    return inputs.calibration, inputs.evaluation


_MLPERF = SHARED / "models" / "mlperf_tiny"
SOURCES = {
    "fashion_mnist": _Source(REPOSITORY / "recipes" / "models" / "fashion_mnist.keras", _pictures),
    "keywords": _Source(_MLPERF / "keyword_spotting" / "kws_ref_model", _keywords),
    "machine_sounds": _Source(_MLPERF / "anomaly_detection" / "ad01.h5", _machine_sounds),
}
