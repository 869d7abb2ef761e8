"""Gradient-aware pruning: the weights go without which the loss would change least, to first order.

Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019 (arXiv:1906.10771), section 3.1, for
single weights: |w dL/dw|, as a moving mean over batches. Weights that are pruned keep the value they had, and come back
where their importance rises again (Lin et al., "Dynamic Model Pruning with Feedback", ICLR 2020, arXiv:2006.07253).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from compress.checkpoint import State
from compress.prune import magnitude
from compress.prune.pruner import Mask, Pruner, Schedule, Weights
from compress.training import Batch, Loss, loss_function, output_kind

NAME = "prune.taylor"
MEMORY = 0.98  # of the moving mean: some 50 batches


class TaylorPruner(Pruner):
    """A transform for one fit.

    Until pruning is done each step takes the gradient of one more batch: `draw` gives that of step 1, 2, …; the same
    one at every call, so that an interrupted fit ends the same.
    """

    def __init__(
        self, schedule: Schedule, draw: Callable[[int], Batch], loss: Loss, scope: magnitude.Scope = "global"
    ) -> None:
        super().__init__(NAME, schedule, self._largest)
        self._draw, self._loss, self._scope = draw, loss, scope
        self._values: list[Weights] = []
        self._scores: list[Weights] = []
        self._gradients: Any = None

    def begin(self, model: Any) -> None:
        """Find the kernels to prune, and compile their gradient.

        Raises CheckFailed where there is no kernel to prune, UnknownName for an unknown layer.
        """
        import tensorflow as tf

        super().begin(model)
        self._values = [kernel.numpy() for kernel in self._kernels]
        self._scores = [np.zeros_like(values) for values in self._values]
        loss_of = loss_function(self._loss, output_kind(model))
        single = len(model.inputs) == 1

        @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]  # TensorFlow has no types
        def gradients(inputs: dict[str, Any], labels: Any) -> Any:
            given = next(iter(inputs.values())) if single else inputs
            with tf.GradientTape() as tape:
                value = tf.reduce_mean(loss_of(labels, model(given, training=False)))
            return tape.gradient(value, [kernel.value for kernel in self._kernels])

        self._gradients = gradients

    def step(self, step: int, total_steps: int) -> None:
        """Take up what the optimizer did to the weights that are kept, weigh all of them, prune where it is due."""
        import tensorflow as tf

        for place, (kernel, kept) in enumerate(zip(self._kernels, self._masks, strict=True)):
            self._values[place] = np.where(kept, kernel.numpy(), self._values[place])
        if step <= self._schedule.end * total_steps + 1:
            inputs, labels = self._draw(step)
            tensors = {name: tf.convert_to_tensor(values) for name, values in inputs.items()}
            found = self._gradients(tensors, tf.convert_to_tensor(labels))
            for place, gradient in enumerate(found):
                self._scores[place] = self._weighed(self._scores[place], self._values[place], gradient.numpy())
        due = self._schedule.at(step, total_steps)
        if due is not None:
            self._masks = self._choose(self._scores, due)
        for kernel, values, kept in zip(self._kernels, self._values, self._masks, strict=True):
            kernel.assign(np.where(kept, values, 0))

    def state(self) -> State:
        """The masks, the values under them and the scores."""
        places = range(len(self._kernels))
        return {
            **super().state(),
            **{f"values{place}": self._values[place] for place in places},
            **{f"scores{place}": self._scores[place] for place in places},
        }

    def restore(self, state: State) -> None:
        """Take up an interrupted fit."""
        super().restore(state)
        self._values = [state[f"values{place}"] for place in range(len(self._kernels))]
        self._scores = [state[f"scores{place}"] for place in range(len(self._kernels))]

    def _weighed(self, scores: Weights, weights: Weights, gradient: Weights) -> Weights:
        return importance(scores, weights, gradient)

    def _largest(self, scores: Any, sparsity: float) -> list[Mask]:
        return magnitude.masks(scores, sparsity, self._scope)


def importance(scores: Weights, weights: Weights, gradient: Weights) -> Weights:
    """The moving mean of |w dL/dw|, all of one shape: how much the loss would change without the weight."""
    return np.asarray(MEMORY * scores + (1 - MEMORY) * np.abs(weights * gradient))
