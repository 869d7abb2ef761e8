"""CUDA and TensorRT, built into the onnxruntime-gpu wheel, and what is missing where they do not come up."""

import ctypes
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edge.engines.compiled_cache import Entry
from edge.engines.providers import CPU, Attached
from edge.errors import RuntimeMissing
from edge.jetson import gpu_name, power_mode
from edge.onnxruntime_settings import CUDASettings, TensorRTSettings

CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
DRIVER, TITLE = "libcuda.so.1", " (NVIDIA's driver)"
DYNAMIC, NEEDED = 6, 1  # SHT_DYNAMIC, DT_NEEDED


def attach_cuda(ort: Any, options: Any, settings: CUDASettings, threads: int, entry: Entry | None) -> Attached:
    """CUDA before the CPU.

    Raises:
        RuntimeMissing: this wheel of ONNX Runtime has no CUDA.

    """
    _require(ort, CUDA, "CUDA")
    return Attached(CUDA, (_cuda(settings), CPU), device=_device())


def attach_tensorrt(ort: Any, options: Any, settings: TensorRTSettings, threads: int, entry: Entry | None) -> Attached:
    """TensorRT before CUDA before the CPU; what TensorRT leaves to the others is a fallback, and named.

    Raises:
        RuntimeMissing: this wheel of ONNX Runtime has no TensorRT.

    """
    _require(ort, TENSORRT, "TensorRT")
    told = tensorrt_options(settings, None if entry is None else entry.folder)
    behind = (_cuda(CUDASettings(settings.device_id)), CPU)
    return Attached(TENSORRT, ((TENSORRT, told), *behind), device=_device())


def tensorrt_options(settings: TensorRTSettings, folder: Path | None) -> dict[str, str]:
    """The settings as the provider reads them; engines and timings are kept in `folder` where there is one."""
    on = {False: "0", True: "1"}
    options = {
        "device_id": str(settings.device_id),
        "trt_fp16_enable": on[settings.fp16],
        "trt_int8_enable": on[settings.int8],
        "trt_dla_enable": on[settings.dla_core >= 0],
        "trt_min_subgraph_size": str(settings.min_subgraph_size),
        "trt_max_partition_iterations": str(settings.max_partition_iterations),
        "trt_builder_optimization_level": str(settings.builder_optimization_level),
        "trt_force_sequential_engine_build": on[settings.sequential_build],
        "trt_engine_cache_enable": on[folder is not None],
        "trt_timing_cache_enable": on[folder is not None and settings.timing_cache],
    }
    if settings.dla_core >= 0:
        options["trt_dla_core"] = str(settings.dla_core)
    if settings.max_workspace_bytes:
        options["trt_max_workspace_size"] = str(settings.max_workspace_bytes)
    if settings.calibration_table:
        options["trt_int8_calibration_table_name"] = settings.calibration_table
        options["trt_int8_use_native_calibration_table"] = "1"
    if folder is not None:
        options["trt_engine_cache_path"] = options["trt_timing_cache_path"] = str(folder)
    return options


def why_no_cuda(ort: Any) -> str | None:
    """The libraries that CUDA lacks here; None where none is missing."""
    return _lacks(ort, "cuda")


def why_no_tensorrt(ort: Any) -> str | None:
    """The libraries that TensorRT lacks here; None where none is missing."""
    return _lacks(ort, "tensorrt")


def identity(ort: Any) -> dict[str, str]:
    """What an engine depends on: it holds kernels of one TensorRT version for one GPU."""
    return {"tensorrt": tensorrt_version() or "none", "gpu": gpu_name() or "none"}


def tensorrt_version() -> str | None:
    """The version of the installed TensorRT library, None where there is none."""
    for name in ("libnvinfer.so", *(f"libnvinfer.so.{major}" for major in range(12, 7, -1))):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.getInferLibVersion.restype = ctypes.c_int
        number = library.getInferLibVersion()  # NV_TENSORRT_VERSION: 10_03_00 since version 10, 8_6_1 before
        major, rest = divmod(number, 10_000) if number >= 10_000 else divmod(number, 1000)
        return f"{major}.{rest // 100}.{rest % 100}"
    return None


def missing_libraries(names: Iterable[str]) -> list[str]:
    """Those of the shared libraries that the loader does not find."""
    missing = []
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError:
            missing.append(name)
    return missing


def needed(library: Path) -> list[str]:
    """The shared libraries that an ELF file asks for (DT_NEEDED; System V ABI, chapter "Dynamic Linking")."""
    with library.open("rb") as file:
        header = file.read(64)
        if header[:5] != b"\x7fELF\x02":
            return []
        (start,) = struct.unpack_from("<Q", header, 40)
        size, count = struct.unpack_from("<HH", header, 58)
        file.seek(start)
        table = file.read(size * count)
        sections = [struct.unpack_from("<IIQQQQII", table, i * size) for i in range(count)]
        for _, kind, _, _, offset, length, link, _ in sections:
            if kind != DYNAMIC:
                continue
            file.seek(offset)
            entries = struct.iter_unpack("<QQ", file.read(length - length % 16))
            file.seek(sections[link][4])
            names = file.read(sections[link][5])
            return [names[at : names.index(b"\0", at)].decode() for tag, at in entries if tag == NEEDED]
    return []


def _require(ort: Any, provider: str, title: str) -> None:
    if provider not in ort.get_available_providers():
        raise RuntimeMissing(
            f"this wheel of ONNX Runtime {ort.__version__} has no {title}",
            "pip uninstall onnxruntime; pip install onnxruntime-gpu (on a Jetson: the wheel of its JetPack)",
        )


def _device() -> str | None:
    name, mode = gpu_name(), power_mode()
    return f"{name}, power mode {mode}" if name and mode else name


def _cuda(settings: CUDASettings) -> tuple[str, dict[str, str]]:
    told = {"device_id": str(settings.device_id), "use_tf32": "1" if settings.tf32 else "0"}
    if settings.memory_limit_bytes:
        told["gpu_mem_limit"] = str(settings.memory_limit_bytes)
    return CUDA, told


def _lacks(ort: Any, stem: str) -> str | None:
    libraries = Path(ort.__file__).parent / "capi"
    wanted = [DRIVER]
    for file in libraries.glob(f"libonnxruntime_providers_{stem}.so"):
        wanted += needed(file)
    missing = missing_libraries(dict.fromkeys(wanted))
    if not missing:
        return None
    return f"missing are {', '.join(missing).replace(DRIVER, DRIVER + TITLE)}"
