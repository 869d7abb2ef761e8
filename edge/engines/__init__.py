"""Engines: one runtime each behind one small Protocol. `open_engine` picks the one for a format."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edge.delegates import Delegate, find_delegate
from edge.errors import BadData, BadModel, BadRecipe, DelegateFailed, UnknownName
from edge.report import Placement
from edge.settings import parse_settings
from edge.tensors import TensorSpec, dequantize, quantize

Feeds = Mapping[str, npt.NDArray[Any]]

MAX_THREADS = 256  # a typing error must not take the machine down
FORMATS = ("fake", "onnx", "tflite")


class Engine(Protocol):
    """A model loaded into a runtime, ready to run one batch at a time."""

    @property
    def name(self) -> str:
        """The runtime: "litert", "onnxruntime" or "fake"."""
        ...

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    def run(self, feeds: Feeds) -> dict[str, npt.NDArray[Any]]:
        """Inputs by name, with batch axis and in the dtype of their spec, to outputs by name (owned by the caller)."""
        ...

    def views(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays to write inputs into, by name. Fed to `run` they are not copied where the runtime can do without.

        They are the engine's own: every call gives the same arrays, and they end with the engine.
        """
        ...

    def reset(self) -> None:
        """Forget what the model kept from earlier runs: a streaming model starts anew."""
        ...

    def placement(self) -> Placement:
        """Where the operations really ran, from the runtime's own record."""
        ...

    def close(self) -> None: ...


def open_engine(
    model: Path | bytes,
    format: str,  # noqa: A002  # the word that Artifact and the reports use
    *,
    threads: int = 1,
    delegate: str = "cpu",
    settings: Mapping[str, str] | None = None,
    signature: str | None = None,
) -> Engine:
    """Load a model file, or a model's bytes, into the runtime for its format ("tflite", "onnx", "fake").

    `delegate` is a name of `edge.delegates.DELEGATES`, `settings` what it is told (`edge.settings`).
    `signature` names one of several that a .tflite model has; by default it is the main graph's. A dynamic batch
    dimension becomes 1. Inputs and outputs carry the names of the model's signature where it has one,
    else its tensors' names.

    Raises:
        BadModel: the file is missing, or the runtime or the delegate does not take it (the reason in one line).
        RuntimeMissing: the runtime for this format, or the delegate's package, is not installed.
        DelegateFailed: the delegate cannot be used on this machine.
        UnknownName: no such format, delegate, setting or signature.
        BadRecipe: threads out of range, or a setting that cannot be honoured.

    """
    if not 1 <= threads <= MAX_THREADS:
        raise BadRecipe(f"threads is {threads}: a runtime takes 1 to {MAX_THREADS}")
    if isinstance(model, Path) and not model.is_file():
        raise BadModel(f"no model file at {model}")
    if format not in FORMATS:
        raise UnknownName("model format", format, FORMATS)
    if format == "fake":
        from edge.engines.fake import FakeEngine

        return FakeEngine(model, delegate)
    chosen = find_delegate(delegate, format)
    if not chosen.runs:
        raise DelegateFailed(f"this toolkit does not run models on {chosen.name}", chosen.install)
    if signature is not None and chosen.engine != "litert":
        raise BadRecipe(f"signature {signature!r}: {chosen.name} opens a model's main graph only")
    if chosen.engine == "litert":
        from edge.engines.litert import LiteRTEngine

        if chosen.library is None:
            parse_settings(chosen.settings, settings or {}, chosen.name)
        return LiteRTEngine(model, threads, chosen, settings, signature)  # a library knows its settings, not we
    return _opened(model, threads, chosen, parse_settings(chosen.settings, settings or {}, chosen.name))


def _opened(model: Path | bytes, threads: int, delegate: Delegate, settings: Any) -> Engine:
    if delegate.engine == "litert-compiled":
        from edge.engines.litert_compiled import CompiledEngine

        return CompiledEngine(model, delegate, settings)
    if delegate.engine == "tflite-micro":
        from edge.engines.tflite_micro import TFLiteMicroEngine

        return TFLiteMicroEngine(model, delegate, settings)
    from edge.engines.onnx import ONNXRuntimeEngine

    return ONNXRuntimeEngine(model, threads, delegate, settings)


def import_runtime(format: str) -> None:  # noqa: A002  # as above
    """Import the runtime for a format, so that the time to load a model does not count the import.

    Raises:
        RuntimeMissing: it is not installed.
        UnknownName: no such format.

    """
    if format == "tflite":
        from edge.engines.litert import interpreter_class

        interpreter_class()
    elif format == "onnx":
        from edge.engines.onnx import runtime

        runtime()
    elif format != "fake":
        raise UnknownName("model format", format, FORMATS)


def predict(engine: Engine, feeds: Feeds) -> dict[str, npt.NDArray[Any]]:
    """Real inputs to real outputs: floats are quantized as the inputs ask, quantized outputs become float32.

    Arrays that already have the input's dtype pass unchanged, as do outputs without quantization.

    Raises:
        BadData: the feeds do not fit the model, or hold NaN where the input is quantized.

    """
    native = dict(feeds)
    for spec in engine.inputs:
        values = native.get(spec.name)
        if values is None or values.dtype.kind != "f":
            continue
        if spec.quantization is not None and np.isnan(values).any():
            raise BadData(f"input {spec.name!r} contains NaN, which no {spec.dtype} value stands for")
        if spec.quantization is not None or np.dtype(spec.dtype).kind == "f":
            native[spec.name] = quantize(values, spec)
    outputs = engine.run(native)
    return {spec.name: dequantize(outputs[spec.name], spec) for spec in engine.outputs}
