"""LiteRT: .tflite models on the CPU (XNNPACK where it takes an operation, else the built-in kernels), and on what an
external delegate's library makes of them.
"""

import ctypes
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.delegates import Delegate
from edge.engines.feeds import check, readable
from edge.engines.litert_signature import main_subgraph
from edge.engines.reason import one_line
from edge.errors import BadData, BadModel, DelegateFailed, RuntimeMissing, UnknownName
from edge.npu import LOOK, seen
from edge.report import FallbackOp, Placement
from edge.tensors import Quantization, TensorSpec

OUTSIDE = "not taken by XNNPACK; runs on the built-in kernel"
CONTROL_FLOW = frozenset({"CALL_ONCE", "IF", "WHILE"})
# Custom operations that a compiler leaves in a file: it runs on that processor only
COMPILED_FOR = {
    "ethos-u": ("an Arm Ethos-U", "use the .tflite that it was compiled from"),
    "edgetpu-custom-op": ("a Coral Edge TPU", "run it with --delegate coral, or the .tflite that it was compiled from"),
}
NO_VIEW = object()  # is no array that anyone feeds


class LiteRTEngine:
    """One signature of a .tflite model in an interpreter.

    `library` of the delegate is a shared library with LiteRT's external delegate interface; where it is None XNNPACK
    is the delegate, which is LiteRT's CPU. `settings` is what the library is told.
    """

    name = "litert"

    def __init__(
        self,
        model: Path | bytes,
        threads: int,
        delegate: Delegate,
        settings: Mapping[str, str] | None = None,
        signature: str | None = None,
    ) -> None:
        self._source, self._threads = model, threads
        self._delegate, self._settings = delegate, dict(settings or {})
        self._title = model.name if isinstance(model, Path) else "the model"
        self._signature: dict[str, dict[str, int]] | None = None
        self._open()
        known = self._interpreter._get_full_signature_list()  # noqa: SLF001  # holds the indices
        self.signatures = tuple(known)
        if signature is not None:
            self._choose(signature, known)
        inputs, outputs = self._names()
        self.inputs = tuple(self._spec(name, detail) for name, detail in inputs.items())
        self.outputs = tuple(self._spec(name, detail) for name, detail in outputs.items())
        # run() is what latency is measured on: everything it needs is looked up once, here
        self._fed: list[tuple[str, int, np.dtype[Any], tuple[int, ...], Any]] = [
            (name, detail["index"], np.dtype(detail["dtype"]), tuple(int(n) for n in detail["shape"]), NO_VIEW)
            for name, detail in inputs.items()
        ]
        self._read = [(name, detail["index"]) for name, detail in outputs.items()]
        self._views: dict[str, npt.NDArray[Any]] = {}
        self._variables = any(record["op_name"] in ("CALL_ONCE", "VAR_HANDLE") for record in self._records())
        if self._variables and isinstance(self._source, Path):
            self._source = _content(self._source)  # what reset() opens anew must not have changed meanwhile
        self._fresh = True

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
            for name, index, dtype, shape, view in self._fed:
                array = feeds[name]
                if array is view:
                    continue
                if array.shape != shape or array.dtype != dtype:
                    self._resize(feeds)
                    return self.run(feeds)
                set_tensor(index, array)
        except (AttributeError, KeyError):
            check(self.inputs, feeds)
            raise
        self._fresh = False
        try:
            self._invoke()
        except (RuntimeError, ValueError) as error:
            raise BadModel(f"LiteRT failed while running {self._title}: {one_line(error)}") from None
        get_tensor = self._get
        return {name: get_tensor(index) for name, index in self._read}

    def views(self) -> dict[str, npt.NDArray[Any]]:
        """The interpreter's own input memory, where it stays in place; else plain arrays, which `run` copies.

        It moves where the runtime allocates while it runs (an output whose size depends on the data), and it is
        another one after a `reset` of variables. A view keeps the interpreter alive, so it outlives `close`.
        """
        if not self._views:
            in_place = not self._variables and self._allocates_nothing()
            for position, (name, index, dtype, shape, _) in enumerate(self._fed):
                view = self._tensor(index) if in_place else np.zeros(shape, dtype)
                view[...] = 0
                self._views[name] = view
                self._fed[position] = (name, index, dtype, shape, view if in_place else NO_VIEW)
        return self._views

    def reset(self) -> None:
        """Forget what earlier runs left in the model's variables.

        The runtime's own reset reaches variable tensors only. Variables of VAR_HANDLE operations, and whether
        CALL_ONCE has run, belong to the interpreter: it is made anew.
        """
        if self._fresh:
            return
        if self._variables:
            shapes = [(index, shape) for _, index, _, shape, _ in self._fed]
            self._open(shapes)
        else:
            self._interpreter.reset_all_variables()
        self._fresh = True

    def placement(self) -> Placement:
        """Which operations the delegate took.

        The interpreter keeps the replaced operations in its list and appends one DELEGATE node per
        partition. A partition holds exactly what is met on the way back from its outputs to its inputs.
        Bodies of control flow are not in the interpreter's list; their caller counts as one operation.
        """
        records = self._records() if self._delegate.library is None else self._external
        ops = [record for record in records if record["op_name"] != "DELEGATE"]
        nodes = [record for record in records if record["op_name"] == "DELEGATE"]
        taken: set[int] = set().union(*(partition(ops, node) for node in nodes))
        outside = [op["op_name"] for op in ops if op["index"] not in taken]
        reason = OUTSIDE if self._delegate.library is None else f"not taken by {self._delegate.name}; runs on the CPU"
        return Placement(
            requested=self._delegate.name,
            actual=self._delegate.name if taken else "builtin" if self._delegate.library is None else "xnnpack",
            ops_offloaded=len(taken),
            ops_total=len(ops),
            fallback_ops=tuple(FallbackOp(op, _reason(op, reason)) for op in outside),
            partitions=len(nodes),
        )

    def close(self) -> None:
        """Free the model, unless somebody holds a view. The engine cannot run afterwards."""
        del self._interpreter, self._set, self._get, self._invoke, self._views
        self._fed = []

    def _open(self, shapes: Iterable[tuple[int, tuple[int, ...]]] = ()) -> None:
        """An interpreter with memory for its tensors; a batch that is not fixed becomes 1."""
        interpreter = interpreter_class()
        source = (
            {"model_path": str(self._source)} if isinstance(self._source, Path) else {"model_content": self._source}
        )
        libraries = [self._load_library()] if self._delegate.library is not None else None
        try:
            self._interpreter = interpreter(num_threads=self._threads, experimental_delegates=libraries, **source)
            # what XNNPACK takes of the rest is added when memory is allocated
            self._external = self._records() if libraries else []
            shapes = shapes or [
                (detail["index"], (1, *np.abs(detail["shape_signature"][1:])))
                for detail in self._interpreter.get_input_details()
                if len(detail["shape_signature"]) and detail["shape_signature"][0] == -1 and detail["shape"][0] != 1
            ]
            wrapper = self._interpreter._interpreter  # noqa: SLF001  # the public methods refuse while views exist
            for index, shape in shapes:
                wrapper.ResizeInputTensor(index, np.asarray(shape, np.int32), False)
            wrapper.AllocateTensors()
        except (RuntimeError, ValueError, TypeError) as error:
            raise self._refusal(error) from None
        self._set, self._get, self._invoke = wrapper.SetTensor, wrapper.GetTensor, wrapper.Invoke

    def _load_library(self) -> Any:
        """The delegate of a shared library; each way in which it can be none has its own words."""
        library, install = str(self._delegate.library), self._delegate.install
        try:
            found = ctypes.CDLL(library)
        except OSError as error:
            said = one_line(error).removeprefix(f"{library}: ")
            said += f"; {seen(self._delegate.name)}" if self._delegate.name in LOOK else ""
            raise DelegateFailed(f"{library} cannot be loaded: {said}", install) from None
        for function in ("tflite_plugin_create_delegate", "tflite_plugin_destroy_delegate"):
            if not hasattr(found, function):
                raise DelegateFailed(
                    f"{library} is no LiteRT delegate: it has no function {function}",
                    "name a library that was made for LiteRT (TensorFlow Lite)",
                )
        try:
            return delegate_loader()(library, self._settings)
        except ValueError as error:
            said = " ".join(str(error).partition("\n")[2].split())  # the first line repeats the name
            raise DelegateFailed(f"{library} made no delegate: {said or 'it gives no reason'}", install) from None

    def _refusal(self, error: Exception) -> BadModel | DelegateFailed:
        told = one_line(error)
        for operation, (processor, hint) in COMPILED_FOR.items():
            if f"custom op: {operation}" in told:
                return BadModel(f"{self._title} is compiled for {processor} (operation {operation!r})", hint)
        if self._delegate.library is not None and isinstance(error, RuntimeError):
            return DelegateFailed(
                f"{self._delegate.name} does not take {self._title}: {told}", "the CPU runs it: --delegate cpu"
            )
        return BadModel(f"LiteRT cannot load {self._title}: {told}")

    def _choose(self, signature: str, known: Mapping[str, dict[str, dict[str, int]]]) -> None:
        """Make the subgraph of a signature the main one."""
        if signature not in known:
            raise UnknownName(f"signature of {self._title}", signature, known)
        index = self._interpreter._interpreter.GetSubgraphIndexFromSignature(signature)  # noqa: SLF001  # not public
        self._signature = known[signature]
        if index != 0:
            content = self._source if isinstance(self._source, bytes) else _content(self._source)
            self._source = main_subgraph(content, index)
            self._open()

    def _records(self) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = self._interpreter._get_ops_details()  # noqa: SLF001  # the only record
        return records

    def _tensor(self, index: int) -> npt.NDArray[Any]:
        """The memory of a tensor. Its base is the whole interpreter, with the model's bytes and the delegates."""
        wrapper = self._interpreter._interpreter  # noqa: SLF001  # the public method makes invoke() refuse
        array: npt.NDArray[Any] = wrapper.tensor(self._interpreter, index)
        return array

    def _allocates_nothing(self) -> bool:
        """Whether every tensor that the plan writes has its memory: those of unknown size get it in a run."""
        records = self._records()
        ops = [record for record in records if record["op_name"] != "DELEGATE"]
        nodes = [record for record in records if record["op_name"] == "DELEGATE"]
        inside: set[int] = set().union(*(partition(ops, node) for node in nodes))
        written = [int(t) for record in (*ops, *nodes) if record["index"] not in inside for t in record["outputs"]]
        try:
            for index in written:
                self._tensor(index)
        except ValueError:
            return False
        return True

    def _names(self) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
        """Inputs and outputs by the names of the signature, or by tensor names where there is none."""
        inputs = {int(d["index"]): d for d in self._interpreter.get_input_details()}
        outputs = {int(d["index"]): d for d in self._interpreter.get_output_details()}
        known = [self._signature] if self._signature else self._interpreter._get_full_signature_list().values()  # noqa: SLF001  # holds the indices
        for signature in known:
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
        if self._views:
            shapes = ", ".join(f"{name} {readable(view.shape)}" for name, view in self._views.items())
            raise BadData(
                f"views of the inputs are given out ({shapes}): their lengths are fixed",
                "feed arrays of that shape, or open the model anew",
            )
        wrapper = self._interpreter._interpreter  # noqa: SLF001  # as in _open
        try:
            for name, index, _, _, _ in self._fed:
                wrapper.ResizeInputTensor(index, np.asarray(feeds[name].shape, np.int32), True)
            wrapper.AllocateTensors()
        except (RuntimeError, ValueError) as error:
            raise BadModel(f"LiteRT cannot resize {self._title}: {one_line(error)}") from None
        self._fed = [(name, index, dtype, feeds[name].shape, NO_VIEW) for name, index, dtype, _, _ in self._fed]


def interpreter_class() -> Any:
    """The interpreter of ai-edge-litert, or of tflite-runtime where only that is installed."""
    return _module().Interpreter


def delegate_loader() -> Any:
    """What loads an external delegate's library for that interpreter."""
    return _module().load_delegate


def _module() -> Any:
    try:
        from ai_edge_litert import interpreter
    except ImportError:
        try:
            from tflite_runtime import interpreter  # type: ignore[import-not-found]  # legacy
        except ImportError:
            raise RuntimeMissing("LiteRT is not installed", "pip install 'edgetool[litert]'") from None
    return interpreter


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


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadModel(f"{path} cannot be read: {error.strerror}") from None


def _reason(op: str, reason: str) -> str:
    return f"{reason}; the operations in its body are not in the runtime's record" if op in CONTROL_FLOW else reason
