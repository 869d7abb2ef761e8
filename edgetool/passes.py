"""Every pass, in one literal table. A pass turns one model file into another; conversion is a pass.

The algorithms live in `compress` and `convert`, which know models and batches; here they meet the task.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from edge.artifact import Artifact, Format
from edge.errors import BadRecipe, UnknownName
from edge.report import Skipped
from edgetool.progress import At
from edgetool.task import Batch, Task, batches

KERAS: frozenset[Format] = frozenset({"keras", "h5", "savedmodel"})
TRAINABLE: frozenset[Format] = frozenset({"keras"})
EVERY: frozenset[Format] = KERAS | {"onnx", "tflite"}


@dataclass(frozen=True)
class PassResult:
    """What a pass made, and what it could not do, each with its reason."""

    artifact: Artifact
    skipped: tuple[Skipped, ...] = ()


class Pass(Protocol):
    """One step from a model file to a model file. Its settings are its own fields.

    A pass that needs no data takes `task=None`.
    """

    name: ClassVar[str]
    accepts: ClassVar[frozenset[Format]]

    def produces(self, source: Format) -> Format:
        """The format it makes of a model in format `source`."""
        ...

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        """Run in the conversion worker; writes below `workdir` only."""
        ...


@dataclass(frozen=True)
class ConvertLiteRT:
    """Keras to a float32 .tflite with batch size 1."""

    name: ClassVar[str] = "convert.litert"
    accepts: ClassVar[frozenset[Format]] = KERAS

    def produces(self, source: Format) -> Format:
        return "tflite"

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        from convert.load import load_keras
        from convert.to_litert import to_litert

        progress(0.0, "converting to LiteRT")
        model = to_litert(load_keras(artifact.path, trust=trust), "float32", None)
        return PassResult(_write(model, artifact, workdir, "tflite", label(self)))


@dataclass(frozen=True)
class ConvertONNX:
    """Keras or a .tflite to an .onnx with batch size 1 and the same precision."""

    name: ClassVar[str] = "convert.onnx"
    accepts: ClassVar[frozenset[Format]] = KERAS | {"tflite"}

    def produces(self, source: Format) -> Format:
        return "onnx"

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        from convert.load import load_keras
        from convert.to_onnx import tflite_to_onnx, to_onnx

        progress(0.0, "converting to ONNX")
        if artifact.format == "tflite":
            return PassResult(_write(tflite_to_onnx(artifact.path), artifact, workdir, "onnx", label(self)))
        return PassResult(
            _write(to_onnx(load_keras(artifact.path, trust=trust)), artifact, workdir, "onnx", label(self))
        )


@dataclass(frozen=True)
class _PostTraining:
    """What the post-training quantizations share: Keras goes through the LiteRT converter, a .tflite through
    the LiteRT quantizer on the flatbuffer, an .onnx through ONNX Runtime.
    """

    accepts: ClassVar[frozenset[Format]] = EVERY

    def produces(self, source: Format) -> Format:
        return "onnx" if source == "onnx" else "tflite"


@dataclass(frozen=True)
class Float16(_PostTraining):
    """Weights stored as float16: half the bytes, computed in float32 on a CPU."""

    name: ClassVar[str] = "quantize.float16"

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        progress(0.0, "quantizing weights to float16")
        return _post_training("float16", None, label(self), artifact, workdir, trust)


@dataclass(frozen=True)
class Dynamic(_PostTraining):
    """int8 weights; activations are quantized at run time, so no calibration is needed."""

    name: ClassVar[str] = "quantize.dynamic"

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        progress(0.0, "quantizing weights to int8")
        return _post_training("dynamic", None, label(self), artifact, workdir, trust)


@dataclass(frozen=True)
class Int8(_PostTraining):
    """Static int8: per-channel weights, activations calibrated on `samples` training examples.

    `io` is the type of the model's inputs and outputs. `calibration` concerns ONNX only: `auto` makes one model
    by each of MinMax, Entropy and Percentile and keeps the one that is best on `val`.
    """

    name: ClassVar[str] = "quantize.int8"
    samples: int = 512
    io: Literal["float32", "int8"] = "float32"
    calibration: Literal["auto", "minmax", "entropy", "percentile"] = "auto"

    def __post_init__(self) -> None:
        _positive(self.name, "samples", self.samples)
        _one_of(self.name, "io", self.io, ("float32", "int8"))
        _one_of(self.name, "calibration", self.calibration, ("auto", "minmax", "entropy", "percentile"))

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        task = _needed(task, self.name)
        progress(0.0, f"calibrating on {min(self.samples, task.train.n)} training examples")
        samples = _calibration(task, self.samples, seed)
        if artifact.format != "onnx":
            return _post_training("int8", samples, label(self), artifact, workdir, trust, self.io)
        if self.io != "float32":
            raise BadRecipe("quantize.int8 of an ONNX model keeps float32 inputs and outputs", 'leave out io = "int8"')
        from compress.quantize.onnx_static import quantize_static

        methods = ("minmax", "entropy", "percentile") if self.calibration == "auto" else (self.calibration,)
        made = [quantize_static(artifact.path, samples, method) for method in methods]
        best = 0
        if len(made) > 1:
            progress(0.5, "choosing the calibration on val")
            best = int(np.argmax([_goodness(result.model, task) for result in made]))
        written = _write(made[best].model, artifact, workdir, "onnx", label(replace(self, calibration=methods[best])))
        return PassResult(written, made[best].skipped)


@dataclass(frozen=True)
class Int16x8(_PostTraining):
    """int16 activations, int8 weights: for models that int8 activations hurt."""

    name: ClassVar[str] = "quantize.int16x8"
    samples: int = 512

    def __post_init__(self) -> None:
        _positive(self.name, "samples", self.samples)

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        task = _needed(task, self.name)
        progress(0.0, f"calibrating on {min(self.samples, task.train.n)} training examples")
        samples = _calibration(task, self.samples, seed)
        return _post_training("int16x8", samples, label(self), artifact, workdir, trust)


@dataclass(frozen=True)
class MagnitudePrune:
    """Weights of least magnitude become zero while the model is fine-tuned; buys packed bytes, not time.

    `sparsity` of the prunable weights is reached after the fraction `end` of the fine-tune.
    """

    name: ClassVar[str] = "prune.magnitude"
    accepts: ClassVar[frozenset[Format]] = TRAINABLE
    sparsity: float = 0.75
    end: float = 0.6
    scope: Literal["global", "per_layer"] = "global"
    epochs: int = 3
    learning_rate: float = 1e-3
    batch_size: int = 128

    def __post_init__(self) -> None:
        _one_of(self.name, "scope", self.scope, ("global", "per_layer"))
        for key, value in (("epochs", self.epochs), ("learning_rate", self.learning_rate), ("batch_size", self.batch_size)):
            _positive(self.name, key, value)
        if not 0 <= self.sparsity < 1:
            raise BadRecipe(f"{self.name}: sparsity must be at least 0 and below 1, not {self.sparsity}")
        if not 0 < self.end <= 1:
            raise BadRecipe(f"{self.name}: end must be above 0 and at most 1, not {self.end}")

    def produces(self, source: Format) -> Format:
        return "keras"

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        from compress.prune.magnitude import MagnitudePruner, MagnitudePruning
        from compress.training import FineTune, fine_tune
        from convert.load import describe, load_keras

        task = _needed(task, self.name)
        model = load_keras(artifact.path, trust=trust)
        pruner = MagnitudePruner(MagnitudePruning(sparsity=self.sparsity, end=self.end, scope=self.scope))
        size = min(self.batch_size, task.train.n)
        summary = fine_tune(
            model,
            lambda epoch: batches(task.train, size, np.random.default_rng((seed, epoch)).permutation(task.train.n)),
            task.train.n // size,
            "crossentropy" if np.issubdtype(task.train.labels().dtype, np.integer) else "mse",
            [pruner],
            FineTune(self.epochs, self.learning_rate, self.batch_size, seed),
            lambda done, total, loss: progress(done / total, f"pruning, step {done} of {total}, loss {loss:.3f}"),
        )
        path = workdir / "model.keras"
        model.save(path)
        made = replace(describe(path, trust=trust), steps=(*artifact.steps, label(self)))
        return PassResult(made, summary.transforms[0].skipped)


PASSES: dict[str, type[Any]] = {
    kind.name: kind for kind in (ConvertLiteRT, ConvertONNX, Float16, Dynamic, Int8, Int16x8, MagnitudePrune)
}


def pass_from_settings(name: str, given: dict[str, Any]) -> Pass:
    """The pass called `name` with its settings checked by name and type.

    Raises UnknownName (with the nearest names) or BadRecipe (a value of the wrong type or out of range).
    """
    if name not in PASSES:
        raise UnknownName("pass", name, PASSES)
    fields = {field.name: field for field in dataclasses.fields(PASSES[name])}
    for key, value in given.items():
        if key not in fields:
            raise UnknownName(f"setting of {name}", key, fields)
        default = fields[key].default
        kind = float if isinstance(default, float) else type(default)
        if not isinstance(value, (int, float) if kind is float else kind) or isinstance(value, bool) != (kind is bool):
            raise BadRecipe(f"{name}: {key} must be a {kind.__name__}, not {value!r}")
    made: Pass = PASSES[name](**given)
    return made


def label(step: Pass) -> str:
    """The pass with the settings that are not its defaults: `quantize.int8(samples=64)`."""
    defaults = {field.name: field.default for field in dataclasses.fields(PASSES[step.name])}
    changed = [f"{name}={value}" for name, value in settings(step).items() if value != defaults[name]]
    return f"{step.name}({', '.join(changed)})" if changed else step.name


def settings(step: Pass) -> dict[str, Any]:
    """The settings of a pass by name, as plain values."""
    return {field.name: getattr(step, field.name) for field in dataclasses.fields(PASSES[step.name])}


def default_sequences(source: Format) -> tuple[tuple[Pass, ...], ...]:
    """What is tried when the user names no passes: every post-training treatment the format allows, on each engine."""
    post_training: tuple[Pass, ...] = (Float16(), Dynamic(), Int8(), Int16x8())
    direct = tuple((step,) for step in post_training)
    if source not in KERAS:
        return direct
    return direct + tuple((ConvertONNX(), step) for step in (Dynamic(), Int8()))


def check_sequence(source: Format, sequence: tuple[Pass, ...]) -> Format:
    """The format that comes out of `sequence` for a model in format `source`.

    Raises BadRecipe naming the first pass that does not take what reaches it, and what it does take.
    """
    current = source
    for step in sequence:
        if current not in step.accepts:
            able = ", ".join(sorted(step.accepts))
            raise BadRecipe(f"{step.name} cannot treat a {current} model", f"{step.name} takes: {able}")
        current = step.produces(current)
    return current


def _positive(name: str, key: str, value: float) -> None:
    if value <= 0:
        raise BadRecipe(f"{name}: {key} must be above 0, not {value}")


def _one_of(name: str, key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UnknownName(f"{key} of {name}", value, known)


def _write(model: bytes, source: Artifact, workdir: Path, suffix: Literal["tflite", "onnx"], step: str) -> Artifact:
    from convert.load import describe

    path = workdir / f"model.{suffix}"
    path.write_bytes(model)
    return replace(describe(path), steps=(*source.steps, step))


def _needed(task: Task | None, name: str) -> Task:
    if task is None:
        raise BadRecipe(f"{name} needs data", "add --data FOLDER, .npz, .csv, task.py or a built-in task")
    return task


def _calibration(task: Task, samples: int, seed: int) -> Callable[[], Iterator[Batch]]:
    """Training examples one at a time, [1, ...] by input name; the same ones at every call."""
    drawn = np.random.default_rng(seed).permutation(task.train.n)[:samples]

    def stream() -> Iterator[Batch]:
        for inputs, _ in batches(task.train, 32, drawn):
            for row in range(len(next(iter(inputs.values())))):
                yield {name: values[row : row + 1] for name, values in inputs.items()}

    return stream


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
    return value if task.metric.direction == "higher" else -value


def _post_training(
    precision: Literal["float16", "dynamic", "int8", "int16x8"],
    samples: Callable[[], Iterator[Batch]] | None,
    name: str,
    artifact: Artifact,
    workdir: Path,
    trust: bool,
    io: str = "float32",
) -> PassResult:
    if artifact.format in KERAS:
        from convert.load import load_keras
        from convert.to_litert import to_litert

        model = to_litert(load_keras(artifact.path, trust=trust), precision, samples, io=io)
        return PassResult(_write(model, artifact, workdir, "tflite", name))
    if artifact.format == "tflite":
        result = _quantized_litert(artifact.path.read_bytes(), precision, samples, io)
    else:
        result = _quantized_onnx(artifact.path, precision, samples)
    return PassResult(_write(result.model, artifact, workdir, artifact.format, name), result.skipped)


def _quantized_litert(model: bytes, precision: str, samples: Callable[[], Iterator[Batch]] | None, io: str) -> Any:
    from compress.quantize.litert_dynamic import quantize_dynamic
    from compress.quantize.litert_float16 import quantize_float16
    from compress.quantize.litert_static import quantize_static

    if precision == "float16":
        return quantize_float16(model)
    if precision == "dynamic":
        return quantize_dynamic(model)
    assert samples is not None, "the static passes always calibrate"
    kept: Literal["float32", "integer"] = "float32" if io == "float32" else "integer"
    return quantize_static(model, samples, "int8" if precision == "int8" else "int16x8", io=kept)
