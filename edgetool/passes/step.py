"""What a pass is, and what all of them share."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from edge.artifact import Artifact, Format
from edge.errors import BadRecipe, UnknownName
from edge.report import Skipped
from edgetool.progress import At
from edgetool.task import Batch, Task, batches

KERAS: frozenset[Format] = frozenset({"keras", "h5", "savedmodel"})
TRAINABLE: frozenset[Format] = frozenset({"keras"})
EVERY: frozenset[Format] = KERAS | {"onnx", "tflite"}

# Where a pass leaves an interrupted training, in the folder that it is given
KEPT = "interrupted"


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


def label(step: Pass) -> str:
    """The pass with the settings that are not its defaults: `quantize.int8(samples=64)`."""
    defaults = {field.name: field.default for field in _fields(step)}
    changed = [f"{name}={value}" for name, value in settings(step).items() if value != defaults[name]]
    return f"{step.name}({', '.join(changed)})" if changed else step.name


def settings(step: Pass) -> dict[str, Any]:
    """The settings of a pass by name, as plain values."""
    return {field.name: getattr(step, field.name) for field in _fields(step)}


def _fields(step: Pass) -> tuple["dataclasses.Field[Any]", ...]:
    return dataclasses.fields(step)  # type: ignore[arg-type]  # every pass is a dataclass, which a Protocol cannot say


def positive(name: str, key: str, value: float) -> None:
    """Raise BadRecipe where a setting is not above 0."""
    if value <= 0:
        raise BadRecipe(f"{name}: {key} must be above 0, not {value}")


def all_positive(step: Any, *keys: str) -> None:
    """Raise BadRecipe for the first of these settings of a pass that is not above 0."""
    for key in keys:
        positive(step.name, key, getattr(step, key))


def one_of(name: str, key: str, value: str, known: tuple[str, ...]) -> None:
    """Raise UnknownName with the nearest where a setting is none of the known words."""
    if value not in known:
        raise UnknownName(f"{key} of {name}", value, known)


def write_model(model: bytes, source: Artifact, workdir: Path, suffix: Format, step: str) -> Artifact:
    """Write a converted model below `workdir` and describe it; `step` is what made it of `source`.

    A .tflite is written with equal vectors stored once, the float32 baseline like the rest.
    """
    from compress.quantize.litert_compact import compact
    from convert.load import describe

    if suffix == "tflite":
        model = compact(model)
    path = workdir / f"model.{suffix}"
    path.write_bytes(model)
    return replace(describe(path), steps=(*source.steps, step))


def write_keras(model: Any, source: Artifact, workdir: Path, step: str, *, trust: bool) -> Artifact:
    """Save a Keras model below `workdir` and describe it; `step` is what made it of `source`."""
    from convert.load import describe

    path = workdir / "model.keras"
    model.save(path)
    return replace(describe(path, trust=trust), steps=(*source.steps, step))


def needed(task: Task | None, name: str) -> Task:
    """The task, or BadRecipe where a pass that needs data was given none."""
    if task is None:
        raise BadRecipe(f"{name} needs data", "add --data FOLDER, .npz, .csv, task.py or a built-in task")
    return task


def calibration_samples(task: Task, samples: int, seed: int) -> Callable[[], Iterator[Batch]]:
    """Training examples one at a time, [1, ...] by input name; the same ones at every call."""
    drawn = np.random.default_rng(seed).permutation(task.train.n)[:samples]

    def stream() -> Iterator[Batch]:
        for inputs, _ in batches(task.train, 32, drawn):
            for row in range(len(next(iter(inputs.values())))):
                yield {name: values[row : row + 1] for name, values in inputs.items()}

    return stream
