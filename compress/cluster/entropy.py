"""Weights of few values, mostly zero, chosen so that their coded bits meet a budget.

Wiedemann et al., "DeepCABAC: a universal compression algorithm for deep neural networks", IEEE JSTSP 2020
(arXiv:1907.11900): a weight w takes the value q that minimises h (w - q)^2 + lambda bits(q), where h is the diagonal of
the Fisher information. Here lambda is not guessed: a kept weight lowers the error by about h w^2 and costs bits over a
zero, so weights are kept by their gain per bit until the budget is spent (`keep_within`). The budget falls on the
schedule of Zhu and Gupta while the net is trained; h is Adam's mean of squared gradients; a weight at zero goes on
learning behind its mask and may come back (Guo et al., "Dynamic network surgery", NIPS 2016). Then kept weights share
the values of a codebook (`codebook`) while the gradient goes straight through. All along the model learns from its
labels and from itself as it was (Hinton et al., 2015, at temperature 1).
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compress.checkpoint import read, write
from compress.cluster.coded_bits import (
    LLOYD_ROUNDS,
    budget_bits,
    codebook,
    coded_bits,
    entropy_bits,
    keep_within,
    nearest,
    short_floats,
)
from compress.prune.pruner import prunable
from compress.training import (
    Batch,
    FineTune,
    FitSummary,
    Loss,
    Progress,
    TransformSummary,
    check_model,
    exactly,
    loss_function,
    output_kind,
    require_finite,
    seed_layers,
)
from edge.errors import BadData, CheckFailed
from edge.report import Skipped

NAME = "cluster.entropy"
# Adam's mean of squared gradients starts at zero: no weight is worth nothing before it was seen.
LEAST_CURVATURE = 1e-20


@dataclass(frozen=True)
class EntropyConstraint:
    """How small the kernels become, and when.

    Attributes:
        ratio: float32 bytes of the kernels over their coded bytes.
        clusters: values that the kept weights of a kernel share.
        prune_end: fraction of all steps at which the budget has fallen to its end.
        share_from: fraction of all steps from which on weights share values; the learning rate starts again there.
        share_rate: the learning rate there as a fraction of the first.
        distill: share of the loss that is the distance to the model as it was; the rest is that to the labels.
        frequency_steps: optimizer steps between two changes of masks and codebooks.

    """

    ratio: float = 40.0
    clusters: int = 8
    prune_end: float = 0.5
    share_from: float = 0.7
    share_rate: float = 0.3
    distill: float = 0.7
    frequency_steps: int = 50

    def __post_init__(self) -> None:
        if not self.ratio > 1:
            raise ValueError(f"ratio must be above 1, not {self.ratio}")
        if not 2 <= self.clusters <= 255:
            raise ValueError(f"clusters must be in 2 … 255, not {self.clusters}")
        if not 0 < self.prune_end <= self.share_from < 1:
            raise ValueError(f"0 < prune_end <= share_from < 1 must hold, not {self.prune_end} and {self.share_from}")
        if not 0 <= self.distill <= 1 or not 0 < self.share_rate <= 1:
            raise ValueError(f"distill ({self.distill}) and share_rate ({self.share_rate}) must be in 0 … 1")
        if self.frequency_steps < 1:
            raise ValueError(f"frequency_steps must be at least 1, not {self.frequency_steps}")


def fit_to_budget(
    model: Any,
    train: Callable[[int], Iterator[Batch]],
    steps_per_epoch: int,
    loss: Loss,
    constraint: EntropyConstraint,
    settings: FineTune,
    progress: Progress,
    checkpoint: Path | None = None,
) -> FitSummary:
    """Train a Keras 3 model in place until its kernels fit the budget. Arguments as those of `training.fine_tune`.

    The account has the coded bits of a weight in each kernel, by path, as this file's own model of the coder counts.

    Raises:
        BadModel: not a Keras 3 model with one output and something to train.
        BadData: the batches end early.
        CheckFailed: nothing to treat, a kernel vanished, or the loss or a weight became NaN or infinite.

    """
    check_model(model)
    before = model.get_weights()
    try:
        return _Fit(model, loss, constraint, settings, steps_per_epoch).run(train, progress, checkpoint)
    except BaseException:
        model.set_weights(before)
        raise


class _Fit:
    """Latent weights that learn, and the model whose kernels are made of them at every step."""

    def __init__(
        self, model: Any, loss: Loss, constraint: EntropyConstraint, settings: FineTune, steps_per_epoch: int
    ) -> None:
        import keras
        import tensorflow as tf

        found, skipped = prunable(model, NAME)
        learning = {id(variable) for variable in model.trainable_variables}
        self.kernels = [kernel for kernel in found if id(kernel) in learning]
        frozen = tuple(Skipped(f"{NAME}: {k.path}", "its layer is frozen") for k in found if id(k) not in learning)
        self.skipped = (*skipped, *frozen)
        if not self.kernels:
            reasons = "; ".join(sorted({entry.reason for entry in self.skipped})) or "it has no weights"
            raise CheckFailed(f"{NAME} has nothing to treat in model {model.name!r}: {reasons}", "leave the pass out")
        self.model, self.constraint, self.settings = model, constraint, settings
        self.steps_per_epoch, self.total = steps_per_epoch, settings.epochs * steps_per_epoch
        if self.total < 2:
            raise CheckFailed(
                f"{NAME} needs 2 optimizer steps, not {self.total}", "more epochs or a smaller batch_size"
            )
        self.share_step = min(math.ceil(constraint.share_from * self.total), self.total - 1)
        seed_layers(model, settings.seed)
        self.latents = [keras.Variable(kernel.numpy()) for kernel in self.kernels]
        self.masks = [tf.Variable(tf.ones(kernel.shape, tf.bool)) for kernel in self.kernels]
        self.centres = [tf.Variable(tf.zeros(constraint.clusters)) for _ in self.kernels]
        self.shared = tf.Variable(False)
        chosen = {id(kernel) for kernel in self.kernels}
        self.others = [variable for variable in model.trainable_variables if id(variable) not in chosen]
        self.optimizer = keras.optimizers.Adam(settings.learning_rate)
        self.optimizer.build([*self.latents, *self.others])
        self.kept = [np.ones(kernel.shape, np.bool_) for kernel in self.kernels]
        teacher = keras.models.clone_model(model)
        teacher.set_weights(model.get_weights())
        self._step = _step(self, teacher, loss)

    def run(self, train: Callable[[int], Iterator[Batch]], progress: Progress, checkpoint: Path | None) -> FitSummary:
        """Train, and shape the kernels every `frequency_steps`."""
        import keras

        started, losses = time.monotonic(), list[float]()
        names = [tensor.name for tensor in keras.tree.flatten(self.model.input)]
        fit = {"settings": repr((self.settings, self.constraint)), "steps_per_epoch": self.steps_per_epoch}
        variables = [*self.latents, *self.model.variables, *self.optimizer.variables]
        variables += [*self.masks, *self.centres, self.shared]
        found = None if checkpoint is None else read(checkpoint, fit)
        if found is not None:
            losses = found.epoch_losses
            for variable, kept in zip(variables, found.variables, strict=True):
                variable.assign(kept)
            self.kept = [mask.numpy() for mask in self.masks]
        done = len(losses) * self.steps_per_epoch
        for epoch in range(len(losses), self.settings.epochs):
            total_loss = 0.0
            for batch in exactly(train(epoch), self.steps_per_epoch, epoch):
                if done % self.constraint.frequency_steps == 0 or done == self.share_step:
                    self._shape(done)
                self.optimizer.learning_rate.assign(self._rate(done))
                value = float(self._step(_arrays(batch, names), batch[1]))
                if not math.isfinite(value):
                    raise CheckFailed(
                        f"the loss became {value} at step {done + 1} of {self.total}",
                        f"lower the learning rate ({self.settings.learning_rate:g}); the model before is kept",
                    )
                done, total_loss = done + 1, total_loss + value
                progress(done, self.total, value)
            losses.append(total_loss / self.steps_per_epoch)
            if checkpoint is not None:
                write(checkpoint, fit, losses, [variable.numpy() for variable in variables], ())
        return FitSummary(done, tuple(losses), time.monotonic() - started, (self._finish(),))

    def _rate(self, step: int) -> float:
        """Half a cosine from `learning_rate` to 0, and another one for shared values."""
        middle = self.share_step
        if step < middle:
            return self.settings.learning_rate * (1 + math.cos(math.pi * step / middle)) / 2
        done = (step - middle) / (self.total - middle)
        return self.settings.learning_rate * self.constraint.share_rate * (1 + math.cos(math.pi * done)) / 2

    def _shape(self, step: int) -> None:
        """New masks while the budget falls, new codebooks once values are shared."""
        if step <= self.share_step:
            self._choose(step)
        if step < self.share_step:
            return
        first = step == self.share_step
        for latent, kept, centres in zip(self.latents, self.kept, self.centres, strict=True):
            start, rounds = (None, LLOYD_ROUNDS) if first else (centres.numpy(), 1)
            found = codebook(latent.numpy()[kept], self.constraint.clusters, start, rounds)
            centres.assign(short_floats(found.astype(np.float32)))
        self.shared.assign(True)

    def _choose(self, step: int) -> None:
        self._require_finite(self.kernels, step)
        latents = [latent.numpy().astype(np.float64) for latent in self.latents]
        curvatures = [self.optimizer._velocities[place].numpy() for place in range(len(latents))]  # noqa: SLF001 - Keras has no public name for Adam's second moments
        gains = [
            (curvature.astype(np.float64) + LEAST_CURVATURE) * np.square(latent)
            for curvature, latent in zip(curvatures, latents, strict=True)
        ]
        weights = sum(gain.size for gain in gains)
        start = 1 + math.log2(self.constraint.clusters)
        bits = budget_bits(step, self.constraint.prune_end * self.total, self.constraint.ratio, weights, start)
        self.kept = keep_within(gains, self.kept, math.log2(self.constraint.clusters), bits)
        for kernel, variable, kept in zip(self.kernels, self.masks, self.kept, strict=True):
            if not kept.any():
                raise CheckFailed(
                    f"{NAME} left nothing of {kernel.path} at a ratio of {self.constraint.ratio:g}", "lower the ratio"
                )
            variable.assign(kept)

    def _require_finite(self, variables: Sequence[Any], step: int) -> None:
        require_finite({variable.path: variable for variable in variables}, step, self.settings.learning_rate)

    def _finish(self) -> TransformSummary:
        """Kernels as they stay, everything else in short floats; the bits of each."""
        figures = {}
        for kernel, latent, kept, centres in zip(self.kernels, self.latents, self.kept, self.centres, strict=True):
            values = np.where(kept, nearest(latent.numpy(), centres.numpy()), np.float32(0))
            kernel.assign(values)
            bits = coded_bits(kept, entropy_bits(values[kept].view(np.int32)))
            figures[kernel.path] = bits / kept.size
        self._require_finite(self.model.trainable_variables, self.total)
        for variable in self.others:
            variable.assign(short_floats(variable.numpy()))
        return TransformSummary(NAME, figures, self.skipped)


def _step(fit: _Fit, teacher: Any, loss: Loss) -> Callable[[list[Any], Any], Any]:
    """One optimizer step on one batch, compiled: the gradient at the made kernels moves the latent ones."""
    import keras
    import tensorflow as tf

    model, distill = fit.model, fit.constraint.distill
    kind = output_kind(model)
    loss_of, distance = loss_function(loss, kind), _distance(loss, kind)
    parts = list(zip(fit.kernels, fit.latents, fit.masks, fit.centres, strict=True))

    def made(latent: Any, mask: Any, centres: Any) -> Any:
        edges = (centres[1:] + centres[:-1]) / 2
        flat = tf.reshape(latent, [-1])
        value = tf.cond(fit.shared, lambda: tf.gather(centres, tf.searchsorted(edges, flat)), lambda: flat)
        return tf.where(mask, tf.reshape(value, latent.shape), 0.0)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]  # tensorflow is untyped
    def step(inputs: list[Any], labels: Any) -> Any:
        for kernel, latent, mask, centres in parts:
            kernel.assign(made(latent.value, mask, centres))
        structured = keras.tree.pack_sequence_as(model.input, inputs)
        soft = teacher(structured, training=False)
        with tf.GradientTape() as tape:
            outputs = model(structured, training=True)
            value = (1 - distill) * tf.reduce_mean(loss_of(labels, outputs))
            value += distill * tf.reduce_mean(distance(soft, outputs)) + sum(model.losses)
        gradients = tape.gradient(value, [*fit.kernels, *fit.others])
        fit.optimizer.apply(gradients, [*fit.latents, *fit.others])
        return value

    def run(arrays: list[Any], labels: Any) -> Any:
        return step([tf.convert_to_tensor(array) for array in arrays], tf.convert_to_tensor(labels))

    return run


def _arrays(batch: Batch, names: Sequence[str]) -> list[Any]:
    """The inputs of a batch in the model's order; a single one may have any name."""
    inputs, _ = batch
    if len(inputs) == len(names) == 1:
        return list(inputs.values())
    missing = [name for name in names if name not in inputs]
    if missing:
        raise BadData(f"the data has no input {missing[0]!r}; it has {', '.join(sorted(inputs))}")
    return [inputs[name] for name in names]


def _distance(loss: Loss, kind: str) -> Callable[[Any, Any], Any]:
    """(what the model said before, what it says now) -> distance of each example or element."""
    import keras

    def distance(soft: Any, outputs: Any) -> Any:
        if loss == "mse":
            return keras.ops.square(soft - outputs)
        if kind == "sigmoid":
            return keras.losses.binary_crossentropy(soft, outputs)
        if outputs.shape[-1] == 1:
            return keras.losses.binary_crossentropy(keras.ops.sigmoid(soft), outputs, from_logits=True)
        logits = kind == "logits"
        return keras.losses.categorical_crossentropy(
            keras.ops.softmax(soft) if logits else soft, outputs, from_logits=logits
        )

    return distance
