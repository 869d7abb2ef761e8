"""What may run a model: CPU, GPU, NPU and microcontroller delegates, in one literal table.

A name in this table says nothing about this machine: `edge.proof` loads a model on the delegate, in a process of its
own, and says what really came of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge.errors import CheckFailed, UnknownName
from edge.report import Placement
from edge.settings import NoSettings
from edge.tensors import Array

Unit = Literal["cpu", "gpu", "npu", "mcu"]

# The delegate that every format's engine has, under its old name too
DEFAULT = "cpu"
DEFAULTS = {"tflite": "xnnpack", "onnx": "cpu", "fake": "cpu"}


@dataclass(frozen=True)
class Delegate:
    """One way to run models of one format.

    `tolerance` is the largest difference from the CPU that a float model may show, as a fraction of the range of the
    CPU's outputs; `tolerance_lsb` the same for a model with quantized outputs, in steps of the output. `needs` is the
    distribution or library that brings it, `install` what to do where that is missing. `runs` is False where this
    toolkit can only look for the device, or compile for it.
    """

    name: str
    engine: str
    format: str
    unit: Unit
    does: str
    needs: str
    install: str
    tolerance: float = 1e-3
    tolerance_lsb: int = 1
    runs: bool = True
    settings: type = NoSettings


DELEGATES: dict[str, Delegate] = {
    delegate.name: delegate
    for delegate in (
        Delegate(
            "xnnpack", "litert", "tflite", "cpu",
            "LiteRT's CPU: XNNPACK where it takes an operation, else the built-in kernel",
            "ai-edge-litert", "pip install 'edgetool[litert]'",
        ),
        Delegate(
            "cpu", "onnxruntime", "onnx", "cpu",
            "ONNX Runtime's CPU execution provider",
            "onnxruntime", "pip install 'edgetool[onnx]'",
        ),
    )
}  # fmt: skip


def find_delegate(name: str, model_format: str) -> Delegate:
    """The delegate `name` for models of a format; "cpu" is the default one of every format.

    Raises:
        UnknownName: there is none of that name for the format; the hint lists the nearest.

    """
    known = {one.name: one for one in DELEGATES.values() if one.format == model_format}
    chosen = DEFAULTS.get(model_format, name) if name == DEFAULT else name
    if chosen not in known:
        raise UnknownName(f"delegate for .{model_format} models", name, {DEFAULT, *known})
    return known[chosen]


def difference(got: Array, expected: Array) -> float:
    """The largest difference as a fraction of the range of what is expected; infinite where shapes do not fit.

    Where all that is expected is one value, the difference itself; NaN where something that was got is NaN.
    """
    if got.shape != expected.shape:
        return float("inf")
    truth = np.asarray(expected, np.float64)
    span = float(np.ptp(truth)) if truth.size else 0.0
    return float(np.abs(np.asarray(got, np.float64) - truth).max(initial=0.0)) / (span or 1.0)


def require_placement(placement: Placement, allowed: Iterable[str] = ()) -> None:
    """Nothing that was asked of the delegate may have run elsewhere, but the operations in `allowed`.

    Raises:
        CheckFailed: an operation fell back; each is named with its reason.

    """
    permitted = set(allowed)
    fallen = [one for one in placement.fallback_ops if one.op not in permitted]
    if not fallen:
        return
    named = sorted({one.op for one in fallen})
    reasons = "; ".join(dict.fromkeys(f"{one.op}: {one.reason}" for one in fallen))
    raise CheckFailed(
        f"{placement.ops_total - placement.ops_offloaded} of {placement.ops_total} operations did not run on "
        f"{placement.requested} ({reasons})",
        f"--allow-fallback {','.join(named)} accepts it",
    )
