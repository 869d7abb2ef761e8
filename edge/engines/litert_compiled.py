"""LiteRT's CompiledModel on one accelerator alone: the GPU (WebGPU on Vulkan), or an NPU through its vendor's plugin.

Alone, because the runtime then refuses a model of which anything would be left to the CPU. Its `is_fully_accelerated`
is no evidence (it says yes where all ran on XNNPACK); what it writes to its log is.
"""

import dataclasses
import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge import vulkan
from edge.delegates import DELEGATES, Delegate
from edge.engines.feeds import check, readable
from edge.engines.litert import LiteRTEngine
from edge.engines.native_log import NativeLog, native_log
from edge.engines.reason import one_line
from edge.errors import BadModel, DelegateFailed, EdgetoolError, RuntimeMissing
from edge.litert_settings import GPUSettings, NPUSettings
from edge.report import FallbackOp, Placement
from edge.tensors import TensorSpec

# With a cold shader cache the first run fails now and then ("Failed to lock custom tensor buffer"); the next finds
# the shaders of the one before, so a third attempt was never needed in trials.
ATTEMPTS = 3
WITHOUT_BF16 = "AVX512_CORE_VNNI"  # the last of oneDNN's instruction sets before bfloat16
LEFT_OVER = "Some ops are not accelerated"
# What a TensorBuffer of the runtime's Python interface can hold
DTYPES = frozenset({"float32", "float16", "int32", "int8", "uint8", "bool"})

_ADAPTER = re.compile(r"Selected adapter: (.+?), arch=.*adapterType=(.+)$")
_ON_GPU = re.compile(r"^(\d+) operations will run on the GPU, and the remaining (\d+) operations will run on the CPU")
_REFUSED = re.compile(r"^([A-Z][A-Z0-9_]+): (.+)$")
_SELECTED = re.compile(r"subgraph<0>, selected (\d+) ops, from a total of (\d+) ops\. resulted in (\d+) partitions")
_OP_TYPE = re.compile(r"op type (\d+) is not supported")
_DEVICE = re.compile(r"Dispatch: using device '(\w+)'")


class CompiledEngine:
    """One .tflite model compiled for the GPU or the NPU.

    The model runs once on zeros here: that compiles the shaders, so what a cold cache costs is part of the load.
    """

    name = "litert"

    def __init__(self, model: Path | bytes, delegate: Delegate, settings: GPUSettings | NPUSettings) -> None:
        self._title = model.name if isinstance(model, Path) else "the model"
        self._delegate, self._settings = delegate, settings
        # names, quantization and the number of operations are the same, and only the interpreter tells them
        cpu = LiteRTEngine(model, 1, DELEGATES["xnnpack"])
        self.inputs, self.outputs, self._total = cpu.inputs, cpu.outputs, cpu.placement().ops_total
        cpu.close()
        for spec in (*self.inputs, *self.outputs):
            self._require_fixed(spec)
        self._emulated_by = self._require_device()
        self._views: dict[str, npt.NDArray[Any]] = {}
        self._in: list[Any] = []
        self._out: list[Any] = []
        self._fed = [(s.name, np.dtype(s.dtype), tuple(n or 1 for n in s.shape)) for s in self.inputs]
        failed: list[str] = []
        for attempt in range(1, ATTEMPTS + 1):
            self._placement = self._compile(model)
            try:
                with native_log():
                    self.run({name: np.zeros(shape, dtype) for name, dtype, shape in self._fed})
                break
            except BadModel as error:
                self._release()
                if attempt == ATTEMPTS:
                    raise DelegateFailed(
                        f"{self._delegate.name}: {attempt} first runs failed: {error.message}", "the CPU runs it"
                    ) from None
                failed.append(error.message)
        if failed:
            told = f"loaded anew after {len(failed)} first runs that failed: {failed[-1]}"
            self._placement = dataclasses.replace(self._placement, compiled=told)

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Inputs by name to outputs by name; arrays as the specs say, outputs are copies.

        Raises:
            BadData: a feed does not fit its input.
            BadModel: the runtime failed while it ran the model.

        """
        if len(feeds) != len(self._fed):
            check(self.inputs, feeds)
        for (name, dtype, shape), buffer in zip(self._fed, self._in, strict=True):
            array = feeds.get(name)
            if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
                check(self.inputs, feeds)
            buffer.write(array)
        try:
            self._model.run_by_index(self._index, self._in, self._out)
            return {
                name: buffer.read(size, dtype).reshape(shape)
                for (name, dtype, shape, size), buffer in zip(self._read, self._out, strict=True)
            }
        except (RuntimeError, ValueError) as error:
            raise BadModel(f"LiteRT failed while running {self._title}: {_last(error)}") from None

    def views(self) -> dict[str, npt.NDArray[Any]]:
        """Plain arrays: the accelerator has memory of its own, which the runtime copies them to."""
        if not self._views:
            self._views = {name: np.zeros(shape, dtype) for name, dtype, shape in self._fed}
        return self._views

    def reset(self) -> None:
        """Nothing is kept from run to run: no accelerator takes operations with variables."""

    def placement(self) -> Placement:
        """What the runtime's log said when the model was compiled."""
        return self._placement

    def close(self) -> None:
        """Free the model and its buffers. The engine cannot run afterwards."""
        self._release()

    def _release(self) -> None:
        for buffer in (*self._in, *self._out):
            buffer.destroy()
        self._in, self._out = [], []
        self._model.close()

    def _require_fixed(self, spec: TensorSpec) -> None:
        if None in spec.shape:
            raise BadModel(
                f"{self._title}: {spec.name!r} has the dynamic shape {readable(spec.shape)}: {self._delegate.name} "
                "compiles for fixed shapes only",
                "export the model with every dimension but the batch fixed",
            )
        if spec.dtype not in DTYPES:
            raise BadModel(
                f"{self._title}: {spec.name!r} has type {spec.dtype}, which {self._delegate.name} cannot hand over"
            )

    def _require_device(self) -> str | None:
        """What stands for the hardware; None for hardware."""
        if isinstance(self._settings, GPUSettings):
            return vulkan.emulated_by()
        if importlib.util.find_spec("ai_edge_litert_sdk_intel") is None or importlib.util.find_spec("openvino") is None:
            raise RuntimeMissing("the OpenVINO plugin of LiteRT's NPU path is not installed", self._delegate.install)
        return "OpenVINO's CPU backend" if self._openvino_device() == "cpu" else None

    def _openvino_device(self) -> str:
        device = str(getattr(self._settings, "device", "auto"))
        if device != "auto":
            return device
        return "npu" if any(Path("/dev/accel").glob("accel*")) else "cpu"

    def _compile(self, model: Path | bytes) -> Placement:
        """Load the model on the accelerator alone; where that is refused, say what it does not take."""
        fallback = isinstance(self._settings, GPUSettings) and self._settings.cpu_fallback
        error, log = self._load(model, alone=True)
        if error is None:
            return self._record(log)
        if LEFT_OVER not in str(error):
            raise self._failure(error, log)
        refused = _not_taken(log)
        if not refused:
            raise self._failure(error, log)
        if fallback:
            error, log = self._load(model, alone=False)
            if error is not None:
                raise self._failure(error, log)
            return self._record(log)
        raise BadModel(
            f"{self._delegate.name} does not take {', '.join(sorted(refused))} of {self._title}: "
            f"{_taken(log) or 0} of {self._total} operations would run on it",
            "the setting cpu_fallback=true leaves the rest to the CPU"
            if isinstance(self._settings, GPUSettings)
            else "the CPU runs the whole model: --delegate cpu",
        )

    def _load(self, model: Path | bytes, *, alone: bool) -> tuple[RuntimeError | None, NativeLog]:
        from ai_edge_litert.compiled_model import CompiledModel

        options = self._options(alone)
        with native_log() as log:
            try:
                if isinstance(model, Path):
                    self._model = CompiledModel.from_file(str(model), options=options)
                else:
                    self._model = CompiledModel.from_buffer(model, options=options)
                self._buffers()
            except RuntimeError as error:
                return error, log
        return None, log

    def _options(self, alone: bool) -> Any:
        from ai_edge_litert.hardware_accelerator import HardwareAccelerator
        from ai_edge_litert.options import Options

        options = Options.create()
        if isinstance(self._settings, GPUSettings):
            options.hardware_accelerators = HardwareAccelerator.GPU
            options.gpu_options.enforce_f32 = self._settings.enforce_f32
        else:
            from ai_edge_litert.intel_openvino_options import IntelOpenVinoGraphBackend

            options.hardware_accelerators = HardwareAccelerator.NPU
            backend = IntelOpenVinoGraphBackend[self._openvino_device().upper()]
            options.intel_openvino_options.graph_backend = backend
            if self._settings.enforce_f32 and self._openvino_device() == "cpu":
                # INFERENCE_PRECISION_HINT reaches the compiler plugin only, not the dispatch that loads its result
                os.environ.setdefault("ONEDNN_MAX_CPU_ISA", WITHOUT_BF16)
        if not alone:
            options.hardware_accelerators |= HardwareAccelerator.CPU
        return options

    def _buffers(self) -> None:
        """Buffers for every input and output, in the runtime's order of the signature that has their names."""
        by_name = {spec.name: spec for spec in (*self.inputs, *self.outputs)}
        wanted = {spec.name for spec in self.inputs}
        known = list(self._model.get_signature_list().values())
        fitting = [index for index, signature in enumerate(known) if set(signature["inputs"]) == wanted]
        if not fitting:
            raise BadModel(f"{self._title}: LiteRT lists no signature with the inputs {', '.join(sorted(wanted))}")
        self._index = fitting[0]
        signature = known[self._index]
        self.inputs = tuple(by_name[name] for name in signature["inputs"])
        self.outputs = tuple(by_name[name] for name in signature["outputs"])
        self._fed = [(s.name, np.dtype(s.dtype), tuple(n or 1 for n in s.shape)) for s in self.inputs]
        self._read = [
            (s.name, np.dtype(s.dtype), tuple(n or 1 for n in s.shape), int(np.prod([n or 1 for n in s.shape])))
            for s in self.outputs
        ]
        self._in = self._model.create_input_buffers(self._index)
        self._out = self._model.create_output_buffers(self._index)

    def _record(self, log: NativeLog) -> Placement:
        emulated_by, partitions, name = self._emulated_by, None, None
        for line in _lines(log):
            if adapter := _ADAPTER.search(line):
                name = adapter[1]
                emulated_by = f"software Vulkan: {name}" if "CPU" in adapter[2] else None
            if device := _DEVICE.search(line):
                name = f"OpenVINO {device[1]}"
                emulated_by = "OpenVINO's CPU backend" if device[1] == "CPU" else None
            if selected := _SELECTED.search(line):
                partitions = int(selected[3])
        if isinstance(self._settings, GPUSettings):
            # the log counts only where something is left over; alone, the runtime refuses that
            refused = _not_taken(log)
            taken = _taken(log) if refused else self._total
        else:
            refused, taken = {}, _taken(log)
            if taken is None:
                raise DelegateFailed(f"{self._delegate.name}: no plugin compiled {self._title}", _why(log))
        return Placement(
            requested=self._delegate.name,
            actual=self._delegate.name,
            ops_offloaded=taken or 0,
            ops_total=self._total,
            fallback_ops=tuple(FallbackOp(op, f"{reason}; runs on the CPU") for op, reason in refused.items()),
            partitions=partitions,
            emulated_by=emulated_by,
            device=name,
        )

    def _failure(self, error: RuntimeError, log: NativeLog) -> EdgetoolError:
        return DelegateFailed(f"{self._delegate.name} cannot load {self._title}: {_why(log) or _last(error)}", None)


def _lines(log: NativeLog) -> list[str]:
    return [line.strip() for line in log.text.splitlines() if line.strip()]


def _taken(log: NativeLog) -> int | None:
    """How many operations of the main graph the accelerator takes; the first to be counted is the main graph."""
    for line in _lines(log):
        if counted := _ON_GPU.search(line) or _SELECTED.search(line):
            return int(counted[1])
    return None


def _not_taken(log: NativeLog) -> dict[str, str]:
    """The operations of the main graph that the accelerator does not take, with the log's reason."""
    refused: dict[str, str] = {}
    listing = False
    for line in _lines(log):
        if "Following operations are not supported" in line:
            listing = True
        elif listing and (found := _REFUSED.search(line)):
            refused[found[1]] = found[2].rstrip(".")
        elif number := _OP_TYPE.search(line):
            refused[_builtin(int(number[1]))] = "the plugin does not support it"
        elif _ON_GPU.search(line) or _SELECTED.search(line):
            break
    return refused


def _builtin(number: int) -> str:
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    names: dict[int, str] = {n: name for name, n in vars(BuiltinOperator).items() if isinstance(n, int)}
    return names.get(number, f"operation {number}")


def _why(log: NativeLog) -> str | None:
    """The line of the log that says most: what a library that could not be opened, a driver or a device said."""
    lines = _lines(log)
    for marker in ("cannot open shared object", "Cannot load library", "Found no drivers", "No adapters found"):
        for line in lines:
            if marker in line:
                return one_line(RuntimeError(line.split("ERROR: ")[-1]))
    told = [line for line in lines if line.startswith(("ERROR", "E0"))]
    return one_line(RuntimeError(told[-1])) if told else None


def _last(error: Exception) -> str:
    """The last line of a message that is a trace of source locations."""
    lines = [line.strip(" └") for line in str(error).splitlines() if line.strip()]
    return one_line(RuntimeError(lines[-1] if lines else type(error).__name__))
