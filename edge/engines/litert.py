"""LiteRT: .tflite models on the CPU, on XNNPACK where it takes an operation, else on the built-in kernels."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.delegates import Delegate
from edge.engines.feeds import check
from edge.engines.reason import one_line
from edge.errors import BadModel, RuntimeMissing
from edge.report import FallbackOp, Placement
from edge.settings import NoSettings
from edge.tensors import Quantization, TensorSpec

OUTSIDE = "not taken by XNNPACK; runs on the built-in kernel"
CONTROL_FLOW = frozenset({"CALL_ONCE", "IF", "WHILE"})


class LiteRTEngine:
    """One .tflite model in an interpreter, on XNNPACK: it is LiteRT's CPU."""

    name = "litert"

    def __init__(self, model: Path | bytes, threads: int, delegate: Delegate, settings: NoSettings) -> None:
        interpreter = interpreter_class()
        source = {"model_path": str(model)} if isinstance(model, Path) else {"model_content": model}
        self._title = model.name if isinstance(model, Path) else "the model"
        try:
            self._interpreter = interpreter(num_threads=threads, **source)
            for detail in self._interpreter.get_input_details():
                batch, *example = detail["shape_signature"] if len(detail["shape_signature"]) else (1,)
                if batch == -1 and detail["shape"][0] != 1:
                    self._interpreter.resize_tensor_input(detail["index"], [1, *np.abs(example)])
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError, TypeError) as error:
            raise BadModel(f"LiteRT cannot load {self._title}: {one_line(error)}") from None
        inputs, outputs = self._names()
        self.inputs = tuple(self._spec(name, detail) for name, detail in inputs.items())
        self.outputs = tuple(self._spec(name, detail) for name, detail in outputs.items())
        # run() is what latency is measured on: everything it needs is looked up once, here
        self._set, self._get = self._interpreter.set_tensor, self._interpreter.get_tensor
        self._invoke = self._interpreter.invoke
        self._fed = [
            (name, detail["index"], np.dtype(detail["dtype"]), tuple(int(n) for n in detail["shape"]))
            for name, detail in inputs.items()
        ]
        self._views: dict[str, npt.NDArray[Any]] = {}
        self._read = [(name, detail["index"]) for name, detail in outputs.items()]

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Inputs by name to outputs by name; arrays as the specs say, outputs are copies.

        Raises:
            BadData: a feed does not fit its input.
            BadModel: the runtime failed while it ran the model.

        """
        if len(feeds) != len(self._fed):
            check(self.inputs, feeds)
        set_tensor = self._set
        try:
            for name, index, dtype, shape in self._fed:
                array = feeds[name]
                if array.shape != shape or array.dtype != dtype:
                    self._resize(feeds)
                    return self.run(feeds)
                set_tensor(index, array)
        except (AttributeError, KeyError):
            check(self.inputs, feeds)
            raise
        try:
            self._invoke()
        except (RuntimeError, ValueError) as error:
            raise BadModel(f"LiteRT failed while running {self._title}: {one_line(error)}") from None
        get_tensor = self._get
        return {name: get_tensor(index) for name, index in self._read}

    def views(self) -> dict[str, npt.NDArray[Any]]:
        """Plain arrays, for now: the interpreter copies what it is fed."""
        if not self._views:
            self._views = {name: np.zeros(shape, dtype) for name, _, dtype, shape in self._fed}
        return self._views

    def reset(self) -> None:
        """Forget the model's variables (VAR_HANDLE operations and variable tensors)."""
        self._interpreter.reset_all_variables()

    def placement(self) -> Placement:
        """Which operations XNNPACK took.

        The interpreter keeps the replaced operations in its list and appends one DELEGATE node per
        partition. A partition holds exactly what is met on the way back from its outputs to its inputs.
        Bodies of control flow are not in the interpreter's list; their caller counts as one operation.
        """
        records = self._interpreter._get_ops_details()  # noqa: SLF001  # the runtime's only record
        ops = [record for record in records if record["op_name"] != "DELEGATE"]
        taken: set[int] = set()
        for record in records:
            if record["op_name"] == "DELEGATE":
                taken |= partition(ops, record)
        outside = [op["op_name"] for op in ops if op["index"] not in taken]
        return Placement(
            requested="xnnpack",
            actual="xnnpack" if taken else "builtin",
            ops_offloaded=len(taken),
            ops_total=len(ops),
            fallback_ops=tuple(FallbackOp(op, _reason(op)) for op in outside),
        )

    def close(self) -> None:
        """Free the model. The engine cannot run afterwards."""
        del self._interpreter, self._set, self._get, self._invoke

    def _names(self) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
        """Inputs and outputs by the names of the signature, or by tensor names where there is none."""
        inputs = {int(d["index"]): d for d in self._interpreter.get_input_details()}
        outputs = {int(d["index"]): d for d in self._interpreter.get_output_details()}
        for signature in self._interpreter._get_full_signature_list().values():  # noqa: SLF001  # holds the indices
            fed, given = signature["inputs"], signature["outputs"]
            # a signature may belong to another subgraph, whose tensor indices mean nothing in the first
            if set(fed.values()) == set(inputs) and set(given.values()) == set(outputs):
                return {n: inputs[i] for n, i in fed.items()}, {n: outputs[i] for n, i in given.items()}
        return self._by_tensor(inputs.values(), "input"), self._by_tensor(outputs.values(), "output")

    def _by_tensor(self, details: Iterable[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
        named: dict[str, dict[str, Any]] = {}
        for detail in details:
            if detail["name"] in named:
                raise BadModel(f"{self._title} has two {kind}s named {detail['name']!r} and no signature")
            named[detail["name"]] = detail
        return named

    def _spec(self, name: str, detail: dict[str, Any]) -> TensorSpec:
        dtype = np.dtype(detail["dtype"])
        if dtype.kind not in "biuf":
            raise BadModel(f"{self._title}: {name!r} has type {dtype.name}, which no engine feeds")
        scale, zero_point = detail["quantization"]
        signature = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
        batch = [int(n) for n in detail["shape"][:1]]
        example = [None if int(n) == -1 else int(n) for n in signature[1:]]
        quantized = dtype.kind in "iu" and scale > 0
        return TensorSpec(
            name,
            (*batch, *example),
            dtype.name,
            Quantization(float(scale), int(zero_point)) if quantized else None,
        )

    def _resize(self, feeds: Mapping[str, npt.NDArray[Any]]) -> None:
        """Fit the interpreter to other lengths of dynamic dimensions, or say why the feeds do not fit."""
        check(self.inputs, feeds)
        try:
            for name, index, _, _ in self._fed:
                self._interpreter.resize_tensor_input(index, feeds[name].shape, strict=True)
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise BadModel(f"LiteRT cannot resize {self._title}: {one_line(error)}") from None
        self._fed = [(name, index, dtype, feeds[name].shape) for name, index, dtype, _ in self._fed]


def interpreter_class() -> Any:
    """The interpreter of ai-edge-litert, or of tflite-runtime where only that is installed."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        try:
            from tflite_runtime.interpreter import (  # type: ignore[import-not-found]  # legacy, not installed here
                Interpreter,
            )
        except ImportError:
            raise RuntimeMissing("LiteRT is not installed", "pip install 'edgetool[litert]'") from None
    return Interpreter


def partition(ops: list[dict[str, Any]], delegate: dict[str, Any]) -> set[int]:
    """The indices of the operations that one DELEGATE node stands for."""
    producer = {int(tensor): op for op in ops for tensor in op["outputs"]}
    fed = {int(tensor) for tensor in delegate["inputs"]}
    found: set[int] = set()
    pending = [int(tensor) for tensor in delegate["outputs"]]
    while pending:
        op = producer.get(pending.pop())
        if op is not None and op["index"] not in found:
            found.add(op["index"])
            pending += [int(tensor) for tensor in op["inputs"] if int(tensor) not in fed]
    return found


def _reason(op: str) -> str:
    return f"{OUTSIDE}; the operations in its body are not in the runtime's record" if op in CONTROL_FLOW else OUTSIDE
