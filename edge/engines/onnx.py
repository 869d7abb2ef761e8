"""ONNX Runtime: .onnx models on the CPU and on the other execution providers."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.delegates import Delegate
from edge.engines.feeds import check
from edge.engines.onnx_file import check_external_data
from edge.engines.onnx_session import SessionMaker
from edge.engines.reason import one_line
from edge.errors import BadModel, RuntimeMissing
from edge.report import Placement
from edge.tensors import TensorSpec

DTYPES = {
    "tensor(bool)": "bool",
    "tensor(double)": "float64",
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


class ONNXRuntimeEngine:
    """One .onnx model in an inference session."""

    name = "onnxruntime"

    def __init__(
        self,
        model: Path | bytes,
        threads: int,
        delegate: Delegate,
        settings: Any,
        profile_to: Path | None = None,
    ) -> None:
        ort = runtime()
        self._title = model.name if isinstance(model, Path) else "the model"
        content = _content(model)
        check_external_data(content, model.parent if isinstance(model, Path) else None)
        self._profiled = profile_to is not None
        opened = SessionMaker(ort, model, content, delegate, settings, threads, profile_to).open()
        self._session, self._run = opened.session, opened.session.run
        self._placement, self._count_copies = opened.placement, opened.count_copies
        symbols = {arg.shape[0] for arg in self._session.get_inputs() if arg.shape and isinstance(arg.shape[0], str)}
        self.inputs = tuple(self._spec(arg, symbols, is_input=True) for arg in self._session.get_inputs())
        self.outputs = tuple(self._spec(arg, symbols, is_input=False) for arg in self._session.get_outputs())
        self._views: dict[str, npt.NDArray[Any]] = {}
        # run() is what latency is measured on: everything it needs is looked up once, here
        self._names = [spec.name for spec in self.outputs]
        self._fed = [(spec.name, np.dtype(spec.dtype), spec.shape) for spec in self.inputs]

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Inputs by name to outputs by name; arrays as the specs say, outputs are owned by the caller.

        Raises:
            BadData: a feed does not fit its input.
            BadModel: the runtime failed while it ran the model.

        """
        if len(feeds) != len(self._fed):
            check(self.inputs, feeds)
        try:
            for name, dtype, shape in self._fed:
                array = feeds[name]
                if array.shape != shape or array.dtype != dtype:
                    check(self.inputs, feeds)
                    # other lengths of dynamic dimensions: the next call with these is fast again
                    self._fed = [(n, d, feeds[n].shape) for n, d, _ in self._fed]
                    break
        except (AttributeError, KeyError):
            check(self.inputs, feeds)
            raise
        try:
            outputs = self._run(self._names, feeds)
        except Exception as error:  # noqa: BLE001  # the runtime's errors share no class but this
            raise BadModel(f"ONNX Runtime failed while running {self._title}: {one_line(error)}") from None
        if len(outputs) == 1:
            return {self._names[0]: outputs[0]}
        return dict(zip(self._names, outputs))  # noqa: B905  # strict costs as much again; they were asked for by name

    def views(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays that the session reads where they lie: on the CPU it never copies what it is fed."""
        if not self._views:
            self._views = {
                name: np.zeros([n if n is not None else 1 for n in shape], dtype) for name, dtype, shape in self._fed
            }
        return self._views

    def reset(self) -> None:
        """Nothing to forget: an ONNX model keeps no state; `edge.streaming` carries it from outputs to inputs."""

    def placement(self) -> Placement:
        """Where the session put every node of the graph, from the runtime's record."""
        if self._count_copies is not None:
            self._placement = replace(self._placement, copies=self._count_copies())
            self._count_copies = None
        return self._placement

    def close(self) -> None:
        """Free the model. The engine cannot run afterwards."""
        if self._profiled:
            self._session.end_profiling()
        del self._session, self._run

    def _spec(self, arg: Any, symbols: set[str], *, is_input: bool) -> TensorSpec:
        if arg.type not in DTYPES:
            raise BadModel(f"{self._title}: {arg.name!r} has type {arg.type}, which no engine feeds")
        shape = [1 if n in symbols else n if isinstance(n, int) else None for n in arg.shape]
        if is_input and shape and shape[0] is None:
            shape[0] = 1
        return TensorSpec(arg.name, tuple(shape), DTYPES[arg.type])


def runtime() -> Any:
    """The onnxruntime module, imported with its telemetry off: it would write a device id to the home folder."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime
    except ImportError:
        raise RuntimeMissing("ONNX Runtime is not installed", "pip install 'edgetool[onnx]'") from None
    return onnxruntime


def _content(model: Path | bytes) -> memoryview:
    """The bytes of the model, mapped rather than read: a file may be far larger than this machine's memory."""
    if isinstance(model, bytes):
        return memoryview(model)
    if model.stat().st_size == 0:
        raise BadModel(f"not an ONNX file: {model.name} is empty")
    return np.memmap(model, np.uint8, "r").data
