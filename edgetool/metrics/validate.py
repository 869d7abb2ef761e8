"""Checks of outputs and labels that several metrics share. Each failure is one `BadData` line."""

import numpy as np
import numpy.typing as npt

from edge.errors import BadData
from edgetool.metrics.metric import Array, Floats

# A quantized sigmoid or softmax may overshoot its range by one step of rounding.
PROBABILITY_SLACK = 1e-2


def same_length(name: str, outputs: Array, labels: Array) -> None:
    """There is at least one example, and one label for each."""
    if outputs.ndim == 0 or labels.ndim == 0 or len(outputs) != len(labels):
        raise BadData(f"{name}: outputs have shape {outputs.shape} and labels {labels.shape}: not one label an output")
    if len(labels) == 0:
        raise BadData(f"{name}: there are no examples", "give a test split with at least one example")


def real(name: str, what: str, values: Array) -> npt.NDArray[np.float64]:
    """Values as float64, refused where they are no numbers, NaN or infinite."""
    if values.dtype.kind not in "buif":
        raise BadData(f"{name}: {what} have dtype {values.dtype}, not a number")
    floats = values.astype(np.float64)
    bad = ~np.isfinite(floats)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise BadData(f"{name}: {int(bad.sum())} of the {what} are NaN or infinite, the first at {where}")
    return floats


def whole(name: str, what: str, values: Array) -> npt.NDArray[np.int64]:
    """Values as int64, refused where they are not whole numbers."""
    floats = real(name, what, values)
    if (floats != np.rint(floats)).any():
        odd = floats[floats != np.rint(floats)].flat[0]
        raise BadData(f"{name}: {what} must be whole numbers, one is {odd:g}")
    return floats.astype(np.int64)


def class_labels(name: str, labels: Array, classes: int) -> npt.NDArray[np.int64]:
    """Class numbers [n] (or [n, 1]) in 0 … classes - 1."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise BadData(
            f"{name}: labels have shape {labels.shape}, expected ({len(labels)},)",
            "give class numbers, not one-hot rows",
        )
    numbers = whole(name, "labels", labels)
    low, high = int(numbers.min()), int(numbers.max())
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        raise BadData(
            f"{name}: label {wrong} is outside 0 … {classes - 1}", f"the model's output has {classes} classes"
        )
    return numbers


def class_scores(name: str, outputs: Array) -> Floats:
    """Scores as [n, classes], or as [n] where the model has one (sigmoid) output."""
    scores = real(name, "outputs", outputs)
    if scores.ndim == 2 and scores.shape[1] == 1:
        return scores[:, 0]
    if scores.ndim not in (1, 2):
        raise BadData(f"{name}: outputs have shape {outputs.shape}, expected (n,), (n, 1) or (n, classes)")
    return scores


def predicted_classes(name: str, outputs: Array) -> tuple[npt.NDArray[np.int64], int]:
    """The class predicted for each example [n], and how many classes there are.

    The largest of [n, classes]; for one sigmoid output, class 1 above 0.5.
    """
    scores = class_scores(name, outputs)
    if scores.ndim == 2:
        return scores.argmax(axis=1), scores.shape[1]
    low, high = float(scores.min()), float(scores.max())
    if low < -PROBABILITY_SLACK or high > 1 + PROBABILITY_SLACK:
        raise BadData(
            f"{name}: a single output per example must be a probability, it runs from {low:.3g} to {high:.3g}",
            "end the model with a sigmoid",
        )
    return (scores > 0.5).astype(np.int64), 2


def same_shape(name: str, outputs: Array, labels: Array) -> tuple[Floats, Floats]:
    """Outputs and targets as [n, values], where their shapes agree ([n] goes with [n, 1])."""
    same_length(name, outputs, labels)
    n = len(labels)
    flat_outputs, flat_labels = outputs.reshape(n, -1), labels.reshape(n, -1)
    trimmed = [tuple(size for size in array.shape[1:] if size != 1) for array in (outputs, labels)]
    if trimmed[0] != trimmed[1]:
        raise BadData(f"{name}: outputs have shape {outputs.shape} and labels {labels.shape}")
    return real(name, "outputs", flat_outputs), real(name, "labels", flat_labels)
