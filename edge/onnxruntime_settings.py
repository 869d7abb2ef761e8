"""What ONNX Runtime's execution providers can be told, one frozen dataclass each; every one checks itself.

Option names in comments are the runtime's own. A provider plugin ignores an option that it does not know without a
word, so only options that were seen to have an effect are here (docs/delegates/onnxruntime.md says how).
"""

from dataclasses import dataclass

# Qualcomm's ids of its systems on chip (QNN_SOC_MODEL_* in the SDK's QnnTypes.h). onnxruntime-qnn 2.7 writes the same
# id into a context binary when it is given the name, but for the SM7325, which it takes by number only.
SOCS = {
    "SM7325": 35,  # QCS6490 and QCM6490 boards; Hexagon v68, which has no float at all: quantize first
    "SM8350": 30,
    "SM8450": 36,
    "SM8475": 42,
    "SM8550": 43,
    "SM8650": 57,
    "SC8380XP": 60,  # Snapdragon X Elite
    "SM8750": 69,
    "SM8850": 87,
    "SC8480XP": 88,  # Snapdragon X2 Elite
}
HTP_ARCHITECTURES = (68, 69, 73, 75, 79, 81)
PERFORMANCE_MODES = (
    "default",
    "burst",
    "balanced",
    "high_performance",
    "sustained_high_performance",
    "high_power_saver",
    "low_balanced",
    "low_power_saver",
    "power_saver",
    "extreme_power_saver",
)
OPENVINO_PRECISIONS = ("f32", "bf16", "f16", "dynamic")


@dataclass(frozen=True)
class Compiled:
    """What every delegate that compiles models shares: whether the result is kept, and where.

    Off by default: nothing is written that was not asked for, and a load time is that of a first load. `cache_folder`
    is the user's cache folder where it is empty; a fresh one measures a cold load with what keeping costs.
    """

    cache: bool = False
    cache_folder: str = ""

    def __post_init__(self) -> None:
        if self.cache_folder and not self.cache:
            raise ValueError("cache_folder says where to keep compiled models, but cache is false")


@dataclass(frozen=True)
class CPUSettings:
    """ONNX Runtime's own CPU kernels. Without `memory_pattern` a session plans no second block for all of a model's
    intermediate results beside those that its first run took: three small networks need 13 to 18 MB less so.
    """

    memory_pattern: bool = True


@dataclass(frozen=True)
class OpenVINOSettings(Compiled):
    """OpenVINO's CPU, GPU or NPU. `precision` is what float models are computed in (INFERENCE_PRECISION_HINT).

    "f32" is the default here: left alone ("dynamic"), the CPU plugin computes in bfloat16 where the processor has it,
    which moved the outputs of trained models by up to 4 % of their range.
    """

    device: str = "CPU"
    precision: str = "f32"

    def __post_init__(self) -> None:
        super().__post_init__()
        _one_of("device", self.device, ("CPU", "GPU", "NPU"))
        _one_of("precision", self.precision, OPENVINO_PRECISIONS)


@dataclass(frozen=True)
class WebGPUSettings:
    """The GPU through Dawn (Vulkan on Linux). `require_gpu` refuses a software adapter instead of labelling it."""

    require_gpu: bool = False


@dataclass(frozen=True)
class QNNSettings(Compiled):
    """Qualcomm's HTP. `soc_model` is a name of `SOCS` or its number; empty is the SoC that this runs on.

    `htp_arch` is only heard where no SoC is named (0: not told). `performance_mode` is the clock and voltage vote
    (htp_performance_mode); `vtcm_mb` the on-chip memory a graph may take (0: the default).
    """

    soc_model: str = ""
    htp_arch: int = 0
    performance_mode: str = "default"
    vtcm_mb: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.soc_model and self.soc_id not in SOCS.values():
            known = ", ".join(f"{name} ({number})" for name, number in SOCS.items())
            raise ValueError(f"soc_model is {self.soc_model!r}; known are {known}")
        if self.htp_arch and self.htp_arch not in HTP_ARCHITECTURES:
            raise ValueError(f"htp_arch is {self.htp_arch}; there are {', '.join(map(str, HTP_ARCHITECTURES))}")
        _one_of("performance_mode", self.performance_mode, PERFORMANCE_MODES)
        if not 0 <= self.vtcm_mb <= 64:
            raise ValueError(f"vtcm_mb is {self.vtcm_mb}; 0 to 64, where 0 is the default")

    @property
    def soc_id(self) -> int:
        """Qualcomm's number of the SoC, 0 where none is named."""
        text = self.soc_model.upper()
        return int(text) if text.isdecimal() else SOCS.get(text, -1 if text else 0)


@dataclass(frozen=True)
class CUDASettings:
    """An NVIDIA GPU by CUDA. `memory_limit_bytes` bounds the arena (gpu_mem_limit; 0: no bound), which on a Jetson is
    taken from the memory that the CPU uses too. `tf32` lets Ampere and later round float32 products to 10 bits.
    """

    device_id: int = 0
    memory_limit_bytes: int = 0
    tf32: bool = False

    def __post_init__(self) -> None:
        _at_least("device_id", self.device_id, 0)
        _at_least("memory_limit_bytes", self.memory_limit_bytes, 0)


@dataclass(frozen=True)
class TensorRTSettings:
    """An NVIDIA GPU, or a Jetson's DLA, by TensorRT. What TensorRT does not take goes to CUDA, and is reported.

    `cache` is on: an engine takes minutes to build on a Jetson. It is kept under a name that covers the model, the
    TensorRT version and the GPU. `dla_core` -1 is the GPU; a DLA computes in fp16 or int8 only. `int8` needs a model
    with QuantizeLinear, or a `calibration_table` of TensorRT. Workspace 0 leaves TensorRT all the memory it finds.
    `builder_optimization_level` is 0 (fast to build) to 5.
    """

    device_id: int = 0
    fp16: bool = False
    int8: bool = False
    calibration_table: str = ""
    dla_core: int = -1
    max_workspace_bytes: int = 0
    min_subgraph_size: int = 1
    max_partition_iterations: int = 1000
    builder_optimization_level: int = 3
    sequential_build: bool = False
    timing_cache: bool = True
    cache: bool = True
    cache_folder: str = ""

    def __post_init__(self) -> None:
        _at_least("device_id", self.device_id, 0)
        _at_least("max_workspace_bytes", self.max_workspace_bytes, 0)
        _at_least("min_subgraph_size", self.min_subgraph_size, 1)
        _at_least("max_partition_iterations", self.max_partition_iterations, 1)
        if not 0 <= self.builder_optimization_level <= 5:
            raise ValueError(f"builder_optimization_level is {self.builder_optimization_level}; 0 to 5")
        if not -1 <= self.dla_core <= 1:
            raise ValueError(f"dla_core is {self.dla_core}; -1 for the GPU, 0 or 1 for a DLA")
        if self.dla_core >= 0 and not (self.fp16 or self.int8):
            raise ValueError(f"dla_core is {self.dla_core}, but a DLA computes in fp16 or int8: set one of them")
        if self.calibration_table and not self.int8:
            raise ValueError("calibration_table is given, but int8 is false")
        if self.cache_folder and not self.cache:
            raise ValueError("cache_folder says where to keep engines, but cache is false")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} is {value!r}; known are {', '.join(known)}")


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} is {value}; at least {least}")
