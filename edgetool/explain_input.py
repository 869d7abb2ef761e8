"""The input of an explanation: which of its axes are cut into patches, and what a patch is replaced by."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edge.audio import AudioInput
from edge.errors import BadData, BadRecipe, UnknownName
from edge.image import SUFFIXES, ImageInput
from edge.occlusion import averaged, blurred
from edge.preprocess import ArrayInput, Preprocess, read_examples
from edge.table import TableInput
from edge.tensors import TensorSpec
from edgetool.data.fits import audio_input, check_shape, image_input

Array = npt.NDArray[Any]
Kind = Literal["image", "sound", "features", "table"]
KINDS: tuple[Kind, ...] = ("image", "sound", "features", "table")
# The baselines of each kind, the usual one first
BASELINES: dict[Kind, tuple[str, ...]] = {
    "image": ("blur", "mean", "zero"),
    "sound": ("zero", "mean"),
    "features": ("mean", "zero"),
    "table": ("mean", "zero"),
}
MOST_COLUMNS = 512  # a longer row of plain numbers is taken for a signal


@dataclass(frozen=True, eq=False)
class Subject:
    """One input of a model, [...] without the batch axis, and how it is occluded.

    `axes` are (rows, columns) of a picture, (time,) of a sound, (time, frequency) of features, (columns,) of a
    table; `names` are the table's columns, `unit_s` the seconds of a sample of sound.
    """

    kind: Kind
    example: Array
    baseline: Array
    baseline_words: str
    axes: tuple[int, ...]
    names: tuple[str, ...] = ()
    unit_s: float | None = None

    @property
    def parts(self) -> tuple[int, ...] | None:
        """The patches along an axis, level by level: columns are looked at one by one; None leaves it to `occlude`."""
        return (self.example.shape[self.axes[0]],) if self.kind == "table" else None

    def place(self, start: tuple[int, ...], stop: tuple[int, ...]) -> str:
        """A patch in words: `rows 4-7, columns 20-23`, `0.25-0.31 s`, or the names of columns."""
        if self.kind == "table":
            return ", ".join(self.names[start[0] : stop[0]])
        if self.unit_s is not None:
            return f"{start[0] * self.unit_s:.3f}-{stop[0] * self.unit_s:.3f} s"
        titles = {"image": ("rows", "columns"), "features": ("frames", "bins"), "sound": ("samples",)}[self.kind]
        spans = zip(titles, start, stop, strict=True)
        return ", ".join(f"{title} {a}" if b == a + 1 else f"{title} {a}-{b - 1}" for title, a, b in spans)


def steps_for_file(path: Path, specs: tuple[TensorSpec, ...], pixels: str | None) -> dict[str, Preprocess]:
    """What makes the file an input of a model that comes without a bundle and without data.

    An array is taken as the model's input itself, a wav file at 16 kHz, a picture by what `pixels` says.

    Raises:
        BadData: the file alone does not say how it becomes an input.

    """
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        (spec,) = _only(specs, path)
        if pixels is None and spec.dtype != "uint8":
            raise BadData(
                f"the model does not say what range its input {spec.name!r} expects of pixels",
                "add --pixels 0..1, -1..1 or 0..255, or --data with the task, or explain the bundle",
            )
        return {spec.name: image_input(spec, pixels)}
    if pixels is not None:
        raise BadRecipe(f"{path} is no picture, so no --pixels {pixels}", "only pictures have them")
    if suffix == ".wav":
        (spec,) = _only(specs, path)
        return {spec.name: audio_input(spec)}
    if suffix == ".csv":
        raise BadData(
            f"the model does not say how the columns of {path} are scaled",
            "add --data with the table it was trained on, or explain the bundle",
        )
    return {spec.name: ArrayInput(dtype="float32" if _takes_reals(spec) else spec.dtype) for spec in specs}


def read_example(path: Path, steps: Mapping[str, Preprocess], number: int) -> tuple[str, dict[str, Array]]:
    """The name of example `number` of a file, and the model's inputs that it becomes.

    Raises:
        BadData: the file cannot be read, or has fewer examples.

    """
    found = -1
    for found, (name, raw) in enumerate(read_examples(path, steps)):
        if found == number:
            return name, {key: steps[key](values) for key, values in raw.items()}
    raise BadData(f"{path} has {found + 1} examples, so no --example {number}", "examples are counted from 0")


def subject_of(
    spec: TensorSpec,
    step: Preprocess,
    example: Array,
    *,
    kind: str | None,
    baseline: str | None,
    mean: Array | None,
    mean_of: str,
) -> Subject:
    """How an input is occluded. `mean` is the mean example of `mean_of`, which a table's columns are set to.

    Raises:
        UnknownName: a kind or baseline that does not exist, or not for this kind.
        BadData: the input is none of the kinds, or nothing says what its mean is.

    """
    check_shape(example.shape, spec, f"input {spec.name!r}")
    if kind is not None and kind not in KINDS:
        raise UnknownName("kind of input", kind, KINDS)
    chosen: Kind = kind if kind is not None else _kind(step, example)
    if baseline is not None and baseline not in BASELINES[chosen]:
        raise UnknownName(f"baseline for {chosen}", baseline, BASELINES[chosen])
    name = baseline or BASELINES[chosen][0]
    whole = example.dtype.kind in "iu" and spec.quantization is None
    if whole and chosen != "image" and name != "zero":
        raise BadData(
            f"input {spec.name!r} takes whole numbers ({spec.dtype}), such as tokens: they have no mean",
            "--baseline zero replaces them by 0, if that stands for nothing in your model",
        )
    axes = _axes(step, example, chosen, spec)
    values, words = _baseline(name, chosen, step, example, axes, mean, mean_of)
    names = _names(step, example.shape[axes[0]]) if chosen == "table" else ()
    unit_s = 1 / step.sample_rate_hz if isinstance(step, AudioInput) and chosen == "sound" else None
    return Subject(chosen, example, values, words, axes, names, unit_s)


def _only(specs: tuple[TensorSpec, ...], path: Path) -> tuple[TensorSpec]:
    if len(specs) != 1:
        raise BadData(f"{path}: the model has {len(specs)} inputs", "give an .npz with an array [n, ...] for each")
    return (specs[0],)


def _takes_reals(spec: TensorSpec) -> bool:
    return spec.quantization is not None or np.dtype(spec.dtype).kind == "f"


def _kind(step: Preprocess, example: Array) -> Kind:
    known: dict[type, Kind] = {ImageInput: "image", AudioInput: "sound", TableInput: "table"}
    if type(step) in known:
        return known[type(step)]
    long = [length for length in example.shape if length != 1]
    if len(long) <= 1:
        return "table" if math.prod(example.shape) <= MOST_COLUMNS else "sound"
    if example.ndim == 3 and (example.shape[2] in {1, 3} or example.shape[0] in {1, 3}):
        return "image"
    if len(long) == 2:
        return "features"
    raise BadData(
        f"an input of shape {list(example.shape)} is neither picture, sound, features nor table",
        "a picture is [H, W, 1 or 3] or [1 or 3, H, W], features are [time, frequency]; --kind says which it is",
    )


def _axes(step: Preprocess, example: Array, kind: Kind, spec: TensorSpec) -> tuple[int, ...]:
    long = [axis for axis, length in enumerate(example.shape) if length != 1] or [0]
    if kind in {"sound", "table"}:
        if len(long) == 1:
            return (long[0],)
        raise BadData(f"input {spec.name!r} of shape {list(example.shape)} is no {kind}", "it has more than one axis")
    if isinstance(step, ImageInput):
        return (1, 2) if step.layout == "CHW" else (0, 1)
    if example.ndim == 2:
        return (0, 1)
    if example.ndim == 3 and example.shape[2] in {1, 3}:
        return (0, 1)
    if example.ndim == 3 and example.shape[0] in {1, 3}:
        return (1, 2)
    if len(long) == 2:
        return (long[0], long[1])
    raise BadData(f"input {spec.name!r} of shape {list(example.shape)} has no two axes, which {kind} need")


def _baseline(
    name: str, kind: Kind, step: Preprocess, example: Array, axes: tuple[int, ...], mean: Array | None, mean_of: str
) -> tuple[Array, str]:
    if name == "blur":
        return blurred(example, axes), "the blurred picture"
    if name == "zero":
        return np.zeros_like(example), "silence" if kind == "sound" else "zero"
    if kind != "table":
        over = axes[:1] if kind == "features" else axes
        words = {"image": "the picture's mean colour", "features": "each bin's mean over the time"}
        return averaged(example, over), words.get(kind, "the sound's mean")
    if mean is not None:
        return mean.astype(example.dtype), f"the column's mean over {mean_of}"
    if isinstance(step, TableInput):
        return np.zeros_like(example), "the column's mean in the preprocessing"
    raise BadData("nothing says what the mean of a column is", "add --data, or --baseline zero, or explain the bundle")


def _names(step: Preprocess, count: int) -> tuple[str, ...]:
    return step.columns if isinstance(step, TableInput) else tuple(f"column {i}" for i in range(count))
