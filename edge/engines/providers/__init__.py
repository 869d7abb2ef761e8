"""ONNX Runtime's execution providers: what a session is told so that a model runs on one, and nowhere else unseen.

A provider listed by `get_available_providers` proves nothing: the CUDA wheel lists CUDA on a machine without a GPU and
then runs on the CPU. What counts is where the runtime's own record puts the nodes (`edge.engines.onnx`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.engines.compiled_cache import Entry
from edge.errors import UnknownName

CPU = "CPUExecutionProvider"


@dataclass(frozen=True)
class Attached:
    """An execution provider that was given to session options.

    `session` is what `InferenceSession` is told besides (nothing for a plugin), `source` a compiled model to load in
    place of the file. `device` is the device's own name, `emulated_by` the software that stands for it.
    """

    name: str
    session: tuple[Any, ...] = ()
    source: Path | None = None
    device: str | None = None
    emulated_by: str | None = None


@dataclass(frozen=True)
class Provider:
    """How one delegate is attached to ONNX Runtime.

    `attach(ort, options, settings, threads, entry)` prepares session options; `entry` is where a compiled model is
    kept, None where nothing is. `why_absent(ort)` looks for the reason when nothing ran on it. `identity(ort)` names
    what a compiled model depends on besides its settings: versions and the device. `own_memory` says that tensors are
    copied between the device's memory and the CPU's, `compiles` that it takes pieces of the graph, not node by node.
    """

    attach: Callable[[Any, Any, Any, int, Entry | None], Attached]
    why_absent: Callable[[Any], str | None]
    identity: Callable[[Any], dict[str, str]]
    own_memory: bool = False
    compiles: bool = True


def find_provider(delegate: str) -> Provider:
    """The provider of a delegate whose engine is "onnxruntime".

    Raises:
        UnknownName: there is none.

    """
    if delegate == "cpu":
        return Provider(_attach_cpu, lambda _: None, lambda _: {})
    if delegate == "openvino":
        from edge.engines.providers import openvino

        return Provider(openvino.attach, lambda _: None, openvino.identity)
    if delegate == "webgpu":
        from edge.engines.providers import webgpu

        return Provider(webgpu.attach, lambda _: None, lambda _: {}, own_memory=True, compiles=False)
    if delegate == "qnn":
        from edge.engines.providers import qnn

        return Provider(qnn.attach, lambda _: None, qnn.identity)
    if delegate == "cuda":
        from edge.engines.providers import nvidia

        return Provider(nvidia.attach_cuda, nvidia.why_no_cuda, nvidia.identity, own_memory=True, compiles=False)
    if delegate == "tensorrt":
        from edge.engines.providers import nvidia

        return Provider(nvidia.attach_tensorrt, nvidia.why_no_tensorrt, nvidia.identity, own_memory=True)
    raise UnknownName("execution provider", delegate, ("cpu", "openvino", "webgpu", "qnn", "cuda", "tensorrt"))


def _attach_cpu(_ort: Any, options: Any, settings: Any, _threads: int, _entry: Entry | None) -> Attached:
    options.enable_mem_pattern = settings.memory_pattern
    return Attached(CPU, (CPU,))
