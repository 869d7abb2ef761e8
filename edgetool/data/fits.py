"""Does the data fit the model? Shapes, dtypes and label ranges against tensor specs, each misfit in one line."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edge.audio import AudioInput
from edge.engines.feeds import readable
from edge.errors import BadData, UnknownName
from edge.image import ImageInput
from edge.preprocess import ArrayInput, finite
from edge.tensors import TensorSpec

Array = npt.NDArray[Any]
TargetForm = Literal["classes", "tokens", "values"]
SPEECH_RATE_HZ = 16_000  # what speech models take, and no model file says its own


def only_input(inputs: Sequence[TensorSpec], what: str) -> TensorSpec:
    """The one input of a model. Raises BadData where there are several, which `what` cannot feed."""
    if len(inputs) != 1:
        names = ", ".join(spec.name for spec in inputs)
        raise BadData(f"{what} feeds one input, the model has {len(inputs)}: {names}", "use an .npz or a task.py")
    return inputs[0]


# What a model may expect of a pixel: the scale and offset that make it of a byte.
PIXELS = {"0..1": (1 / 255, 0.0), "-1..1": (1 / 127.5, -1.0), "0..255": (1.0, 0.0)}


def image_input(spec: TensorSpec, pixels: str | None = None) -> ImageInput:
    """The step that makes pictures of any size the input `spec`: [H, W, C], [C, H, W] or [H, W].

    Inputs of uint8 take raw bytes, others the range `pixels` (by default 0..1).

    Raises:
        BadData: `spec` takes no pictures of one fixed size.
        UnknownName: a range that is none of `PIXELS`.

    """
    if pixels is not None and pixels not in PIXELS:
        raise UnknownName("range of pixels", pixels, PIXELS)
    scale, offset = PIXELS[pixels or "0..1"]
    shape = spec.example_shape
    sizes = tuple(length for length in shape if length is not None)
    if len(sizes) == len(shape) and (spec.dtype == "uint8" or _takes_reals(spec)):
        dtype: Any = "uint8" if spec.dtype == "uint8" else "float32"
        if len(sizes) == 3 and sizes[2] in {1, 3}:
            return ImageInput(sizes[0], sizes[1], sizes[2], scale, offset, dtype=dtype)  # type: ignore[arg-type]  # just tested
        if len(sizes) == 3 and sizes[0] in {1, 3}:
            return ImageInput(sizes[1], sizes[2], sizes[0], scale, offset, "CHW", dtype)  # type: ignore[arg-type]  # just tested
        if len(sizes) == 2:
            return ImageInput(sizes[0], sizes[1], 1, scale, offset, "HW", dtype)
    raise BadData(
        f"pictures do not fit input {spec.name!r}, which takes {spec.dtype} {readable(shape)}",
        "a picture input is [H, W, 1 or 3], [1 or 3, H, W] or [H, W], of fixed size; else use a task.py",
    )


def audio_input(spec: TensorSpec) -> AudioInput:
    """The step that makes wav files the input `spec`: [samples], [samples, 1] or [1, samples], at 16 kHz.

    Raises:
        BadData: `spec` takes no raw sound of one fixed length.

    """
    shape = spec.example_shape
    samples = [length for length in shape if length != 1]
    if _takes_reals(spec) and len(shape) in {1, 2} and len(samples) == 1 and samples[0] is not None:
        layout: Any = "T" if len(shape) == 1 else "TC" if shape[1] == 1 else "CT"
        return AudioInput(SPEECH_RATE_HZ, samples[0], layout=layout)
    raise BadData(
        f"wav files do not fit input {spec.name!r}, which takes {spec.dtype} {readable(shape)}",
        "a sound input is [samples], [samples, 1] or [1, samples]; compute other features in a task.py",
    )


def array_input(array: Array, spec: TensorSpec, where: str) -> ArrayInput:
    """The step for an array [n, ...] that holds the input `spec` as the model takes it.

    Raises:
        BadData: another shape or kind of number, a value out of range, NaN or infinity; `where` is named.

    """
    check_shape(array.shape[1:], spec, where)
    finite(array, where)
    wanted = np.dtype(spec.dtype)
    if array.dtype == wanted:
        return ArrayInput(dtype=spec.dtype)
    if array.dtype.kind == "f" and _takes_reals(spec):
        # a quantized input is fed real values, which the engine quantizes
        return ArrayInput(dtype=spec.dtype if spec.quantization is None else "float32")
    if array.dtype.kind in "iu" and wanted.kind in "iu" and spec.quantization is None:
        limits = np.iinfo(wanted)
        low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
        if limits.min <= low and high <= limits.max:
            return ArrayInput(dtype=spec.dtype)
        raise BadData(f"{where} has values from {low} to {high}; input {spec.name!r} takes {spec.dtype}")
    raise BadData(
        f"{where} is {array.dtype}, but input {spec.name!r} takes {spec.dtype}",
        "store it as the model takes it, scaled as in training",
    )


def check_shape(shape: tuple[int, ...], spec: TensorSpec, where: str) -> None:
    """Compare the shape of one example with the input `spec`. Raises BadData naming both."""
    wanted = spec.example_shape
    if len(shape) != len(wanted) or any(w not in {None, s} for s, w in zip(shape, wanted, strict=True)):
        raise BadData(
            f"{where} has examples of shape {readable(shape)}, but input {spec.name!r} takes {readable(wanted)}",
            "store each example as the model takes it",
        )


def class_count(output: TensorSpec) -> int | None:
    """How many classes the output tells apart: its last axis, 2 for a single probability, None if unknown."""
    last = output.example_shape[-1] if output.example_shape else 1
    return 2 if last == 1 else last


def targets(values: Array, output: TensorSpec, where: str, form: TargetForm | None) -> Array:
    """Check the targets [n, ...] of the first output: int64 class labels or tokens, or float32 values.

    `form` is what the metric needs; None decides by the kind of number. Class labels are [n], and one-hot rows
    become class labels; tokens are [n, ...], padded with -1. Values have the shape of the output, or [n] where
    it gives one number; uint8 pictures stay uint8.

    Raises:
        BadData: NaN, another shape, a label out of range, or numbers that the metric cannot use.

    """
    finite(values, where)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if form in {None, "classes"} and _is_one_hot(values, output):
        values = values.argmax(axis=-1)
    if form is None:
        form = "classes" if values.dtype.kind in "biu" else "values"
    if form == "values":
        return _values(values, output, where)
    if values.dtype.kind == "f" and (values != np.rint(values)).any():
        raise BadData(f"{where} holds {values.dtype} values, but the metric needs {form}", "use mae or rmse")
    return (_labels if form == "classes" else _tokens)(values.astype(np.int64), output, where)


def check_names(names: Sequence[str], output: TensorSpec, where: str) -> None:
    """Compare the names of the classes with the model. Raises BadData where their number differs."""
    n = class_count(output)
    if n is not None and len(names) != n:
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise BadData(
            f"{where} has {len(names)} classes ({shown}), but output {output.name!r} tells {n} apart",
            "the model must have been trained on exactly these classes, sorted by name",
        )


def _takes_reals(spec: TensorSpec) -> bool:
    return spec.quantization is not None or np.dtype(spec.dtype).kind == "f"


def _is_one_hot(values: Array, output: TensorSpec) -> bool:
    n = output.example_shape[-1] if output.example_shape else 1
    if values.ndim != len(output.shape) or n in {None, 1} or values.shape[-1] != n:
        return False
    return bool(((values == 0) | (values == 1)).all() and (values.sum(axis=-1) == 1).all())


def _tokens(values: Array, output: TensorSpec, where: str) -> Array:
    if values.ndim < 2 or values.min() < -1:
        raise BadData(f"{where} is {readable(values.shape)} from {values.min()}", "tokens are [n, ...], padded with -1")
    return values


def _labels(values: Array, output: TensorSpec, where: str) -> Array:
    if values.ndim != 1:
        raise BadData(f"{where} has labels of shape {readable(values.shape)}", "one class number for each example")
    n = class_count(output)
    wrong = np.argwhere((values < 0) | (values >= (n if n is not None else np.iinfo(np.int64).max)))
    if len(wrong):
        index = int(wrong[0, 0])
        raise BadData(
            f"{where}: label {values[index]} of example {index} is out of range: "
            f"output {output.name!r} tells {n or 'its'} classes apart, 0 to {n - 1 if n else '?'}",
            "for a regression, store the targets as floats or choose the metric mae or rmse",
        )
    return values


def _values(values: Array, output: TensorSpec, where: str) -> Array:
    wanted = output.example_shape
    one_number = values.ndim == 1 and all(length == 1 for length in wanted)
    same = values.ndim == 1 + len(wanted) and all(w in {None, s} for s, w in zip(values.shape[1:], wanted, strict=True))
    if not one_number and not same:
        raise BadData(
            f"{where} has targets of shape {readable(values.shape[1:])}, but output {output.name!r} gives "
            f"{readable(wanted)}",
            "class labels are integers; a regression has one value for each value of the output",
        )
    return values if values.dtype == np.uint8 else values.astype(np.float32)
