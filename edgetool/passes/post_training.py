"""Post-training quantization: Keras through the LiteRT converter, the others on their own format."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from edge.artifact import Artifact, Format
from edge.errors import BadRecipe, CheckFailed
from edge.report import Skipped
from edgetool.passes.step import (
    EVERY,
    KERAS,
    PassResult,
    calibration_samples,
    label,
    needed,
    one_of,
    positive,
    write_model,
)
from edgetool.progress import At
from edgetool.task import Batch, Task, batches

if TYPE_CHECKING:
    from compress.quantize import Quantized

Samples = Callable[[], Iterator[Batch]]
Precision = Literal["float16", "dynamic", "int8", "int16x8"]
Method = Literal["minmax", "entropy", "percentile"]
METHODS: tuple[Method, ...] = ("minmax", "entropy", "percentile")


@dataclass(frozen=True)
class _PostTraining:
    """What the post-training quantizations share: Keras goes through the LiteRT converter, a .tflite through
    the LiteRT quantizer on the flatbuffer, an .onnx through ONNX Runtime.
    """

    accepts: ClassVar[frozenset[Format]] = EVERY

    def produces(self, source: Format) -> Format:
        return "onnx" if source == "onnx" else "tflite"


@dataclass(frozen=True)
class _WeightsOnly(_PostTraining):
    """The quantizations that need no data."""

    name: ClassVar[str]
    precision: ClassVar[Precision]

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        progress(0.0, f"quantizing weights: {self.precision}")
        return _post_training(self.precision, None, self.name, artifact, workdir, trust)


@dataclass(frozen=True)
class Float16(_WeightsOnly):
    """Weights stored as float16: half the bytes, computed in float32 on a CPU."""

    name: ClassVar[str] = "quantize.float16"
    precision: ClassVar[Precision] = "float16"


@dataclass(frozen=True)
class Dynamic(_WeightsOnly):
    """int8 weights; activations are quantized at run time, so no calibration is needed.

    `convolutions` (ONNX only) stores their weights as int8, too; a .tflite has them so always. With fewer `bits` they
    are as many bytes that pack smaller.
    """

    name: ClassVar[str] = "quantize.dynamic"
    precision: ClassVar[Precision] = "dynamic"
    convolutions: bool = False
    bits: int = 8

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8 or (self.bits < 8 and not self.convolutions):
            raise BadRecipe(f"{self.name}: bits are 2 to 8, of convolutions only, not {self.bits}")

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        if not self.convolutions:
            return super().__call__(artifact, task, workdir, seed=seed, trust=trust, progress=progress)
        from compress.quantize.onnx_dynamic import quantize_dynamic

        if artifact.format != "onnx":
            raise BadRecipe(f"{self.name}: convolutions is for an .onnx; elsewhere they are treated", "leave it out")
        progress(0.0, f"quantizing weights: {self.precision}")
        made = quantize_dynamic(_onnx_bytes(artifact.path), convolutions=True, bits=self.bits)
        return PassResult(write_model(made.model, artifact, workdir, "onnx", label(self)), made.skipped)


@dataclass(frozen=True)
class _Calibrated(_PostTraining):
    """The quantizations that see training examples first."""

    name: ClassVar[str]
    samples: int = 512

    def __post_init__(self) -> None:
        positive(self.name, "samples", self.samples)

    def _calibration(self, task: Task | None, seed: int, progress: At) -> tuple[Task, Samples]:
        task = needed(task, self.name)
        progress(0.0, f"calibrating on {min(self.samples, task.train.n)} training examples")
        return task, calibration_samples(task, self.samples, seed)


@dataclass(frozen=True)
class Int8(_Calibrated):
    """Static int8: per-channel weights, activations calibrated on `samples` training examples.

    `io` is the type of the model's inputs and outputs. `dense_per_channel = false` gives a dense layer one scale:
    smaller where dense layers are most of the model, at some accuracy; `per_channel = false` (.tflite and .onnx) gives
    every layer one, as some accelerators need: a smaller file. The others concern ONNX only. `calibration`: `auto`
    makes one model by each of MinMax, Entropy and Percentile and keeps the one that is best on `val`. `weight_range`:
    `auto` tries seven bits of eight, too, without which old x86 processors saturate, and keeps what is better on `val`.
    """

    name: ClassVar[str] = "quantize.int8"
    io: Literal["float32", "int8"] = "float32"
    dense_per_channel: bool = True
    per_channel: bool = True
    calibration: Literal["auto", "minmax", "entropy", "percentile"] = "auto"
    weight_range: Literal["auto", "full", "reduced"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.name, "io", self.io, ("float32", "int8"))
        one_of(self.name, "calibration", self.calibration, ("auto", "minmax", "entropy", "percentile"))
        one_of(self.name, "weight_range", self.weight_range, ("auto", "full", "reduced"))

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        task, samples = self._calibration(task, seed, progress)
        if artifact.format == "onnx":
            return self._onnx(artifact, task, workdir, samples, progress)
        if not self.per_channel:
            return self._per_tensor(artifact, workdir, samples)
        dense = self.dense_per_channel
        return _post_training("int8", samples, label(self), artifact, workdir, trust, io=self.io, dense=dense)

    def _per_tensor(self, artifact: Artifact, workdir: Path, samples: Samples) -> PassResult:
        from compress.quantize.litert_static import quantize_static

        if artifact.format != "tflite":
            raise BadRecipe(
                f"{self.name}: per_channel = false is for a .tflite or .onnx", "put convert.litert in front of it"
            )
        kept: Literal["float32", "integer"] = "float32" if self.io == "float32" else "integer"
        made = quantize_static(artifact.path.read_bytes(), samples, io=kept, per_channel=False)
        return PassResult(write_model(made.model, artifact, workdir, "tflite", label(self)), made.skipped)

    def _onnx(self, artifact: Artifact, task: Task, workdir: Path, samples: Samples, progress: At) -> PassResult:
        from compress.quantize.onnx_static import observe

        if self.io != "float32" or not self.dense_per_channel:
            changed = "io" if self.io != "float32" else "dense_per_channel"
            raise BadRecipe(f"{self.name} of an ONNX model has no setting {changed}", f"leave out {changed}")
        methods: tuple[Method, ...] = METHODS if self.calibration == "auto" else (self.calibration,)
        seen = observe(_onnx_bytes(artifact.path), samples, with_histogram=methods != ("minmax",))

        def made(method: Method, *, reduced: bool) -> "Quantized":
            return seen.quantized(method, per_channel=self.per_channel, reduce_range=reduced)

        tried = [(method, self.weight_range == "reduced") for method in methods]
        models = {one: made(one[0], reduced=one[1]) for one in tried}
        best = tried[0]
        if len(tried) > 1 or self.weight_range == "auto":
            progress(0.5, "choosing calibration and weights on val")
            values = {one: _goodness(models[one].model, task) for one in tried}
            best = max(tried, key=lambda one: values[one])
            if self.weight_range == "auto":
                narrow = (best[0], True)
                models[narrow] = made(best[0], reduced=True)
                best = narrow if _goodness(models[narrow].model, task) > values[best] else best
        step = replace(self, calibration=best[0], weight_range="reduced" if best[1] else "full")
        written = write_model(models[best].model, artifact, workdir, "onnx", label(step))
        return PassResult(written, models[best].skipped)


@dataclass(frozen=True)
class Int16x8(_Calibrated):
    """int16 activations, int8 weights: for models that int8 activations hurt."""

    name: ClassVar[str] = "quantize.int16x8"

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        _, samples = self._calibration(task, seed, progress)
        return _post_training("int16x8", samples, label(self), artifact, workdir, trust)


def _goodness(model: bytes, task: Task, examples: int = 2000) -> float:
    """The metric of an ONNX model on the first examples of `val`, larger is better."""
    from edge.engines import open_engine, predict

    engine = open_engine(model, "onnx")
    name = engine.outputs[0].name
    outputs: list[npt.NDArray[Any]] = []
    labels: list[npt.NDArray[Any]] = []
    for inputs, truth in batches(task.val, 1, np.arange(min(examples, task.val.n))):
        outputs.append(predict(engine, inputs)[name])
        labels.append(truth)
    engine.close()
    value = task.metric.value(np.concatenate(outputs), np.concatenate(labels))
    return float(value if task.metric.direction == "higher" else -value)


def _post_training(
    precision: Precision,
    samples: Samples | None,
    name: str,
    artifact: Artifact,
    workdir: Path,
    trust: bool,
    *,
    io: str = "float32",
    dense: bool = True,
) -> PassResult:
    if artifact.format in KERAS:
        from convert.load import load_keras
        from convert.to_litert import to_litert

        model = to_litert(load_keras(artifact.path, trust=trust), precision, samples, io=io, dense_per_channel=dense)
        skipped = () if precision == "float16" else _left_by_converter(model, name)
        return PassResult(write_model(model, artifact, workdir, "tflite", name), skipped)
    if artifact.format == "tflite":
        result = _quantized_litert(artifact.path.read_bytes(), precision, samples, io, dense)
    else:
        result = _quantized_onnx(artifact.path, precision, samples)
    return PassResult(write_model(result.model, artifact, workdir, artifact.format, name), result.skipped)


def _left_by_converter(model: bytes, name: str) -> tuple[Skipped, ...]:
    """What the LiteRT converter left float without a word. Raises CheckFailed where that is everything."""
    from compress.quantize.litert_model import count_ops, stayed_float

    if count_ops(model).quantized == 0:
        raise CheckFailed(
            f"{name}: the LiteRT converter quantized no operation of this model",
            "weights of fewer than 1,024 values stay float32 there; try quantize.int8",
        )
    return stayed_float(model, "the LiteRT converter left it float")


def _quantized_litert(model: bytes, precision: str, samples: Samples | None, io: str, dense: bool) -> Any:
    from compress.quantize.litert_dynamic import quantize_dynamic
    from compress.quantize.litert_float16 import quantize_float16
    from compress.quantize.litert_static import quantize_static

    if precision == "float16":
        return quantize_float16(model)
    if precision == "dynamic":
        return quantize_dynamic(model)
    assert samples is not None, "the static passes always calibrate"
    kept: Literal["float32", "integer"] = "float32" if io == "float32" else "integer"
    return quantize_static(
        model, samples, "int8" if precision == "int8" else "int16x8", io=kept, dense_per_channel=dense
    )


def _quantized_onnx(path: Path, precision: str, samples: Samples | None) -> Any:
    from compress.quantize.onnx_dynamic import quantize_dynamic
    from compress.quantize.onnx_float16 import quantize_float16
    from compress.quantize.onnx_static import quantize_static

    if precision == "float16":
        return quantize_float16(_onnx_bytes(path))
    if precision == "dynamic":
        return quantize_dynamic(_onnx_bytes(path))
    assert samples is not None, "the static passes always calibrate"
    return quantize_static(_onnx_bytes(path), samples, "minmax", "int16x8")


def _onnx_bytes(path: Path) -> bytes:
    """The model in one piece, whether its weights lie in files of their own or not."""
    from convert.load import read_onnx

    content: bytes = read_onnx(path).SerializeToString()
    return content
