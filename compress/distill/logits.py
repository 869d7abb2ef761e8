"""Distillation from outputs: the student learns the teacher's probabilities, softened by a temperature.

Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015 (arXiv:1503.02531), section 2: with
p = softmax(z / T) of the teacher and q of the student, the loss is T^2 KL(p || q); T^2 keeps its gradient as large as
that of the labels' loss. Several teachers are one: the mean of their probabilities. One output is a class against its
absence; where the model predicts numbers, the loss is the squared error to the teacher's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from compress.training import Loss, OutputKind

Floats = npt.NDArray[np.floating[Any]]
Form = Literal["classes", "binary", "values"]

TARGET = "distill.logits"  # the entry of a batch
SMALLEST = 1e-7  # of float32 probabilities: below it a sum of ten classes no longer sees them
SUMS_TO_ONE = 1e-2  # int8 probabilities are multiples of 1/256, so that ten of them miss 1 by less


def form_of(loss: Loss, kind: OutputKind, columns: int) -> Form:
    """What the outputs of a model mean: [n, columns] of kind `kind`, trained with `loss`."""
    if loss == "mse":
        return "values"
    return "binary" if kind == "sigmoid" or columns == 1 else "classes"


def logits_of(outputs: Floats, form: Form) -> Floats:
    """The logits of a model's outputs [n, ..., classes], which may be probabilities: then their log (odds).

    A logit is only known up to a constant from its softmax; the next softmax drops it. Probabilities are told from
    logits by their range and sum.
    """
    outputs = np.asarray(outputs, np.float32)
    if form == "values" or outputs.min() < 0 or outputs.max() > 1 + SUMS_TO_ONE:
        return outputs
    clipped = np.clip(outputs, SMALLEST, 1 - SMALLEST)
    if form == "binary":
        return np.asarray(np.log(clipped) - np.log1p(-clipped))
    sums = outputs.sum(axis=-1)
    return np.log(clipped) if np.abs(sums - 1).max() < SUMS_TO_ONE else outputs


def soft_labels(teachers: Sequence[Floats], form: Form, temperature: float) -> Floats:
    """What the student is to say: the mean over teachers of softmax(z / T), of sigmoid(z / T), or of the values."""
    if form == "values":
        return np.asarray(np.mean(teachers, axis=0))
    return np.asarray(np.mean([_probabilities(logits / temperature, form) for logits in teachers], axis=0))


def _probabilities(logits: Floats, form: Form) -> Floats:
    if form == "binary":
        return np.asarray(0.5 * (1 + np.tanh(logits / 2)))  # the sigmoid, without overflow
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


@dataclass
class LogitsObjective:
    """The distance of a model's outputs to soft labels (an `Objective`); one object for one fit."""

    form: Form
    temperature: float = 4.0
    weight: float = 1.0
    target: str = TARGET
    layer: None = None

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, not {self.temperature}")
        self._kind: OutputKind = "logits"

    def begin(self, shape: tuple[int | None, ...], kind: OutputKind) -> Sequence[Any]:
        """It has no variables."""
        del shape
        self._kind = kind
        return ()

    def value(self, output: Any, target: Any) -> Any:
        """T^2 KL(target || softmax(z / T)), the same for two outcomes, or the squared error: mean over the batch."""
        from keras import ops

        if self.form == "values":
            return ops.mean(ops.square(output - ops.reshape(target, ops.shape(output))))
        target = ops.clip(ops.reshape(target, ops.shape(output)), SMALLEST, 1 - SMALLEST)
        softened = self._logits(output) / self.temperature
        if self.form == "binary":
            said = target * ops.log_sigmoid(softened) + (1 - target) * ops.log_sigmoid(-softened)
            known = target * ops.log(target) + (1 - target) * ops.log(1 - target)
            divergence = known - said
        else:
            divergence = ops.sum(target * (ops.log(target) - ops.log_softmax(softened, axis=-1)), axis=-1)
        return self.temperature**2 * ops.mean(divergence)

    def _logits(self, output: Any) -> Any:
        from keras import ops

        if self._kind == "logits":
            return output
        # Keras hangs the argument of a softmax or sigmoid on what it gives: exact where a probability is 0 or 1
        exact = getattr(output, "_keras_logits", None)
        if exact is not None:
            return exact
        clipped = ops.clip(output, SMALLEST, 1 - SMALLEST)
        return ops.log(clipped) if self.form == "classes" else ops.log(clipped) - ops.log(1 - clipped)
