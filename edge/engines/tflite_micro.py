"""TFLite Micro on this processor: what a microcontroller computes from a .tflite model, and the memory it needs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.delegates import Delegate
from edge.engines.feeds import check, readable
from edge.engines.micro_arena import least_arena_bytes
from edge.engines.native_log import native_log
from edge.engines.reason import one_line
from edge.errors import BadModel, RuntimeMissing
from edge.litert_settings import MicroSettings
from edge.report import Placement
from edge.tensors import Quantization, TensorSpec

EMULATED_BY = "TFLite Micro on this processor: its time is not a microcontroller's"
VARIABLES = frozenset({129, 142})  # CALL_ONCE, VAR_HANDLE of BuiltinOperator in the schema


class TFLiteMicroEngine:
    """One .tflite model in TFLite Micro's interpreter, with the smallest arena that it runs in.

    `arena_bytes` is that arena: the tensors and what the interpreter keeps of its own. Structures hold pointers of
    8 bytes here and of 4 on a microcontroller, which therefore needs somewhat less.
    """

    name = "tflite-micro"

    def __init__(self, model: Path | bytes, delegate: Delegate, settings: MicroSettings) -> None:
        self._runtime = runtime()
        self._title = model.name if isinstance(model, Path) else "the model"
        self._delegate = delegate.name
        self._content = model if isinstance(model, bytes) else model.read_bytes()
        # what damage makes the generated reader raise is open-ended
        try:
            graph = self._runtime.convert_bytearray_to_object(self._content)
            names = _names(graph)
        except Exception as error:  # noqa: BLE001
            raise BadModel(f"TFLite Micro cannot read {self._title}: {one_line(error)}") from None
        self.arena_bytes = least_arena_bytes(self._content, self._title)
        if settings.arena_bytes:
            if settings.arena_bytes < self.arena_bytes:
                raise BadModel(
                    f"{self._title} needs an arena of {self.arena_bytes} bytes, arena_bytes is {settings.arena_bytes}",
                    "quantize it to int8, or make its largest layers narrower",
                )
            self.arena_bytes = settings.arena_bytes
        codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in graph.operatorCodes]
        self._variables = not VARIABLES.isdisjoint(codes)
        self._open()
        main = graph.subgraphs[0]
        details = self._interpreter.get_input_details, self._interpreter.get_output_details
        self.inputs, self.outputs = (
            tuple(
                self._spec(name, main.tensors[tensor], detail(position))
                for position, (name, tensor) in enumerate(zip(named, tensors, strict=True))
            )
            for named, tensors, detail in zip(names, (main.inputs, main.outputs), details, strict=True)
        )
        self._operations = len(main.operators)
        self._fed = [(s.name, np.dtype(s.dtype), tuple(n or 1 for n in s.shape)) for s in self.inputs]
        self._read = [(spec.name, position) for position, spec in enumerate(self.outputs)]
        self._views: dict[str, npt.NDArray[Any]] = {}

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Inputs by name to outputs by name; arrays as the specs say, outputs are copies.

        Raises:
            BadData: a feed does not fit its input.
            BadModel: the runtime failed while it ran the model.

        """
        if len(feeds) != len(self._fed):
            check(self.inputs, feeds)
        for position, (name, dtype, shape) in enumerate(self._fed):
            array = feeds.get(name)
            if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
                check(self.inputs, feeds)
            self._interpreter.set_input(array, position)
        try:
            self._interpreter.invoke()
        except RuntimeError as error:
            raise BadModel(f"TFLite Micro failed while running {self._title}: {one_line(error)}") from None
        return {name: self._interpreter.get_output(position) for name, position in self._read}

    def views(self) -> dict[str, npt.NDArray[Any]]:
        """Plain arrays: the interpreter copies what it is fed into its arena."""
        if not self._views:
            self._views = {name: np.zeros(shape, dtype) for name, dtype, shape in self._fed}
        return self._views

    def reset(self) -> None:
        """Forget what earlier runs left in variables.

        The runtime's own reset sets them to 0 and does not run CALL_ONCE again, which would give them their first
        values: a model that has these is loaded anew.
        """
        if self._variables:
            self._open()
        else:
            self._interpreter.reset()

    def placement(self) -> Placement:
        """All operations: the interpreter knows them all or does not load the model."""
        return Placement(
            requested=self._delegate,
            actual=self._delegate,
            ops_offloaded=self._operations,
            ops_total=self._operations,
            emulated_by=EMULATED_BY,
            device=f"an arena of {self.arena_bytes} bytes",
        )

    def close(self) -> None:
        """Free the model. The engine cannot run afterwards."""
        del self._interpreter

    def _open(self) -> None:
        try:
            with native_log():
                self._interpreter = self._runtime.Interpreter.from_bytes(self._content, arena_size=self.arena_bytes)
        except (RuntimeError, ValueError) as error:
            raise BadModel(f"TFLite Micro cannot load {self._title}: {one_line(error)}") from None

    def _spec(self, name: str, tensor: Any, detail: dict[str, Any]) -> TensorSpec:
        shape = tuple(int(n) for n in detail["shape"])
        declared = tensor.shapeSignature if tensor.shapeSignature is not None else shape
        if any(int(n) == -1 for n in declared[1:]):
            told = readable([None if int(n) == -1 else int(n) for n in declared])
            raise BadModel(
                f"{self._title}: {name!r} has the dynamic shape {told}: TFLite Micro plans fixed shapes only"
            )
        dtype = np.dtype(detail["dtype"])
        scales = detail["quantization_parameters"]["scales"]
        zero_points = detail["quantization_parameters"]["zero_points"]
        quantized = dtype.kind in "iu" and len(scales) == 1 and scales[0] > 0
        affine = Quantization(float(scales[0]), int(zero_points[0])) if quantized else None
        return TensorSpec(name, shape, dtype.name, affine)


def runtime() -> Any:
    """TFLite Micro's Python runtime.

    Raises RuntimeMissing: it is not installed.
    """
    try:
        from tflite_micro import runtime as micro
    except ImportError:
        raise RuntimeMissing("TFLite Micro is not installed", "pip install 'edgetool[micro]'") from None
    return micro


def _names(model: Any) -> tuple[list[str], list[str]]:
    """The names of inputs and outputs of the main graph: the signature's, else the tensors'."""
    graph = model.subgraphs[0]
    by_index: dict[str, dict[int, str]] = {"inputs": {}, "outputs": {}}
    for signature in [one for one in model.signatureDefs or () if one.subgraphIndex == 0][:1]:
        for kind, names in by_index.items():
            names.update({entry.tensorIndex: entry.name.decode() for entry in getattr(signature, kind) or ()})
    inputs, outputs = (
        [named.get(int(i)) or graph.tensors[int(i)].name.decode() for i in indices]
        for named, indices in zip(by_index.values(), (graph.inputs, graph.outputs), strict=True)
    )
    return inputs, outputs
