"""What may run a model: CPU, GPU, NPU and microcontroller delegates, in one literal table.

A name in this table says nothing about this machine: `edge.proof` loads a model on the delegate, in a process of its
own, and says what really came of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge.errors import CheckFailed, UnknownName
from edge.litert_settings import GPUSettings, MicroSettings, NPUSettings
from edge.onnxruntime_settings import (
    CPUSettings,
    CUDASettings,
    OpenVINOSettings,
    QNNSettings,
    TensorRTSettings,
    WebGPUSettings,
)
from edge.report import Placement
from edge.settings import NoSettings
from edge.tensors import Array

CORAL = "libedgetpu.so.1"
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
    toolkit can only look for the device, or compile for it. `library` is the shared library that LiteRT loads, for its
    external delegates.
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
    library: str | None = None


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
            settings=CPUSettings,
        ),
        # ONNX Runtime's delegates against its CPU on the three models of benchmarks/trained_models.py: float32 differs
        # by at most 1.4e-4 of the range (an autoencoder's; 8e-7 on the two classifiers), int8 by one step
        Delegate(
            "openvino", "onnxruntime", "onnx", "cpu",
            "OpenVINO's CPU (or its GPU or NPU) by ONNX Runtime's plugin; Intel processors only",
            "onnxruntime-ep-openvino", "pip install onnxruntime-ep-openvino",
            settings=OpenVINOSettings,
        ),
        Delegate(
            "webgpu", "onnxruntime", "onnx", "gpu",
            "any GPU with Vulkan, by ONNX Runtime's WebGPU plugin",
            "onnxruntime-ep-webgpu", "pip install onnxruntime-ep-webgpu",
            settings=WebGPUSettings,
        ),
        Delegate(
            "cuda", "onnxruntime", "onnx", "gpu",
            "an NVIDIA GPU by CUDA",
            "onnxruntime-gpu", "pip install onnxruntime-gpu, and CUDA with cuDNN",
            settings=CUDASettings,
        ),
        Delegate(
            "tensorrt", "onnxruntime", "onnx", "gpu",
            "an NVIDIA GPU, or a Jetson's DLA, by TensorRT",
            "onnxruntime-gpu", "pip install onnxruntime-gpu, and TensorRT",
            settings=TensorRTSettings,
        ),
        Delegate(
            "qnn", "onnxruntime", "onnx", "npu",
            "Qualcomm's Hexagon NPU (HTP) by ONNX Runtime's QNN plugin; its simulator on x86",
            "onnxruntime-qnn", "pip install onnxruntime-qnn",
            # the HTP rounds each layer differently: single outputs of int8 models were up to 33 of 255 steps off (0.5
            # to 1.2 steps on average); its mean distance from the float model is that of the CPU's int8
            tolerance_lsb=48,
            settings=QNNSettings,
        ),
        # LiteRT's accelerators against XNNPACK on the same models: float32 differs by at most 8e-5 of the range (the
        # autoencoder's; 7e-7 on the two classifiers), int8 by at most 1 step; the defaults are ten times the former
        Delegate(
            "litert-gpu", "litert-compiled", "tflite", "gpu",
            "LiteRT's GPU accelerator: WebGPU on a Vulkan driver",
            "ai-edge-litert", "pip install 'edgetool[litert]'",
            settings=GPUSettings,
        ),
        Delegate(
            "litert-npu", "litert-compiled", "tflite", "npu",
            "LiteRT's NPU accelerator with Intel's OpenVINO plugin",
            "ai-edge-litert-sdk-intel", "pip install 'edgetool[litert-npu]'",
            settings=NPUSettings,
        ),
        Delegate(
            "coral", "litert", "tflite", "npu",
            "Coral's Edge TPU, for models that edgetpu_compiler made",
            CORAL, "Coral's package repository has it: apt-get install libedgetpu1-std",
            library=CORAL,
        ),
        Delegate(
            "micro", "tflite-micro", "tflite", "mcu",
            "TFLite Micro's kernels, as a microcontroller has them",
            "tflite-micro", "pip install 'edgetool[micro]'",
            # its integer kernels are LiteRT's own (within 1 step of those on the trained models); XNNPACK is up to 22
            # steps from these, 0.3 on average, where one step of a logit moves a softmax by many
            tolerance_lsb=32,
            settings=MicroSettings,
        ),
        Delegate(
            "ethos-u", "vela", "tflite", "npu",
            "Arm's Ethos-U: compiled by Vela, which estimates cycles and memory",
            "ethos-u-vela", "pip install 'edgetool[ethos-u]', then edgetool convert --to ethos-u",
            runs=False,
        ),
        Delegate(
            "hailo", "hailort", "onnx", "npu",
            "Hailo's NPUs: looked for only, since their compiler is behind a registration",
            "hailort", "Hailo's developer zone has HailoRT and the compiler; on a Raspberry Pi apt install hailo-all",
            runs=False,
        ),
        Delegate(
            "rockchip", "rknn", "onnx", "npu",
            "Rockchip's NPU: compiled and simulated by edgetool convert --to rknn",
            "rknn-toolkit2", "docs/delegates/npu.md tells how to install rknn-toolkit2 in an environment of its own",
            runs=False,
        ),
    )
}  # fmt: skip


def find_delegate(name: str, model_format: str) -> Delegate:
    """The delegate `name` for models of a format; "cpu" is the default one of every format.

    For .tflite models the path of a shared library (it has a "/") is one too: an external delegate of LiteRT.

    Raises:
        UnknownName: there is none of that name for the format; the hint lists the nearest.

    """
    if model_format == "tflite" and "/" in name:
        return _external(name)
    known = {one.name: one for one in DELEGATES.values() if one.format == model_format}
    chosen = DEFAULTS.get(model_format, name) if name == DEFAULT else name
    if chosen not in known:
        raise UnknownName(f"delegate for .{model_format} models", name, {DEFAULT, *known})
    return known[chosen]


def _external(path: str) -> Delegate:
    return Delegate(
        path, "litert", "tflite", "npu", "what this library does", path, "check the path and what it needs (ldd)",
        library=path,
    )  # fmt: skip


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
