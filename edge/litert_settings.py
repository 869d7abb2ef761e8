"""What LiteRT's accelerators and TFLite Micro can be told."""

from dataclasses import dataclass

OPENVINO_DEVICES = ("auto", "cpu", "gpu", "npu")


@dataclass(frozen=True)
class GPUSettings:
    """`enforce_f32` computes in float32 throughout, as the CPU does; without it the GPU may use float16.

    `cpu_fallback` leaves operations that the GPU does not take to the CPU, and reports them; without it a model that
    has one is refused.
    """

    enforce_f32: bool = True
    cpu_fallback: bool = False


@dataclass(frozen=True)
class NPUSettings:
    """`device` is where OpenVINO computes: "npu", "gpu", "cpu", or "auto" for the NPU where the kernel has one.

    `enforce_f32` keeps OpenVINO's CPU from computing float models in bfloat16, where the processor has that.
    """

    device: str = "auto"
    enforce_f32: bool = True

    def __post_init__(self) -> None:
        if self.device not in OPENVINO_DEVICES:
            raise ValueError(f"device is {self.device!r}, not one of {', '.join(OPENVINO_DEVICES)}")


@dataclass(frozen=True)
class MicroSettings:
    """`arena_bytes` is the memory that the model may use; 0 finds the least that works, and reports it."""

    arena_bytes: int = 0

    def __post_init__(self) -> None:
        if self.arena_bytes < 0:
            raise ValueError(f"arena_bytes is {self.arena_bytes}, below 0")
