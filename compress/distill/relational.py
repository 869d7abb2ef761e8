"""Distillation of relations: embeddings of the student are to lie to one another as the teacher's do.

Park et al., "Relational knowledge distillation", CVPR 2019 (arXiv:1904.05068): equation 6, distances of all pairs of
a batch, each over their mean; equation 9, cosines of the angles of all triplets; Huber's loss of both. The two spaces
may have different dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compress.training import OutputKind

TARGET = "distill.relational"  # the entry of a batch
LEAST = 1e-12  # under a square root, whose slope at 0 is infinite


def distances(ops: Any, x: Any) -> Any:
    """Distances of all pairs over their mean: [n, d] -> [n, n]. `ops` is numpy or keras.ops."""
    squares = ops.sum(ops.square(x[:, None, :] - x[None, :, :]), axis=-1)
    found = ops.sqrt(ops.maximum(squares, LEAST))
    return found / ops.maximum(ops.mean(found), LEAST)


def angles(ops: Any, x: Any) -> Any:
    """Cosine of the angle at j between i and k, for all triplets: [n, d] -> [n (j), n (i), n (k)]."""
    difference = x[None, :, :] - x[:, None, :]
    length = ops.sqrt(ops.maximum(ops.sum(ops.square(difference), axis=-1, keepdims=True), LEAST))
    unit = difference / length
    return ops.einsum("jid,jkd->jik", unit, unit)


def huber(ops: Any, difference: Any) -> Any:
    """Mean of x^2 / 2 where |x| <= 1, |x| - 1/2 beyond (equation 7)."""
    size = ops.abs(difference)
    return ops.mean(ops.where(size <= 1, 0.5 * ops.square(difference), size - 0.5))


@dataclass
class RelationalObjective:
    """The difference of distances and angles to the teacher's embeddings (an `Objective`); one object for one fit.

    Attributes:
        distance, angle: weights of the two terms; 1 and 2 are the paper's.
        layer: the student's embedding; None is its output.

    """

    distance: float = 1.0
    angle: float = 2.0
    layer: str | None = None
    weight: float = 1.0
    target: str = TARGET

    def begin(self, shape: tuple[int | None, ...], kind: OutputKind) -> Sequence[Any]:
        """It has no variables."""
        del shape, kind
        return ()

    def value(self, output: Any, target: Any) -> Any:
        """Both terms over the pairs and triplets of the batch."""
        from keras import ops

        student = ops.reshape(output, (ops.shape(output)[0], -1))
        teacher = ops.cast(ops.reshape(target, (ops.shape(target)[0], -1)), student.dtype)
        value = self.distance * huber(ops, distances(ops, student) - distances(ops, teacher))
        return value + self.angle * huber(ops, angles(ops, student) - angles(ops, teacher))
