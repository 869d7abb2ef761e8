"""Distillation from features: a layer of the student is to give, through a regressor, what one of the teacher's gives.

Romero et al., "FitNets: hints for thin deep nets", ICLR 2015 (arXiv:1412.6550), equation 3: 1/2 ||h - r(g)||^2 with
the teacher's hint h, the student's guided layer g and a regressor r that is trained with it and then dropped. Here r
is a convolution of size 1 (a matrix over channels), and hints and labels are learned in one fit, not one after the
other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compress.training import OutputKind
from edge.errors import CheckFailed

TARGET = "distill.hints"  # the entry of a batch


@dataclass
class HintObjective:
    """The distance of a layer's features to the teacher's, [n, ..., channels] (an `Objective`); one for one fit.

    Attributes:
        layer: the guided layer of the student.
        shape: of the teacher's features for one example, [..., channels].

    """

    layer: str
    shape: tuple[int, ...]
    weight: float = 1.0
    seed: int = 0
    target: str = TARGET

    def begin(self, shape: tuple[int | None, ...], kind: OutputKind) -> Sequence[Any]:
        """The regressor. Raises CheckFailed where the features do not lie on the same grid."""
        import keras

        del kind
        if shape[1:-1] != self.shape[:-1]:
            raise CheckFailed(
                f"{TARGET}: layer {self.layer!r} gives {list(shape[1:])}, the teacher's {list(self.shape)}",
                "name two layers whose features differ in their last dimension only",
            )
        self._kernel = keras.Variable(
            keras.initializers.GlorotUniform(self.seed)((shape[-1], self.shape[-1])), name="regressor_kernel"
        )
        self._bias = keras.Variable(keras.ops.zeros((self.shape[-1],)), name="regressor_bias")
        return (self._kernel, self._bias)

    def value(self, output: Any, target: Any) -> Any:
        """Half the mean squared difference of r(g) and h; a mean, so that `weight` does not depend on their size."""
        from keras import ops

        guided = ops.matmul(output, self._kernel) + self._bias
        return 0.5 * ops.mean(ops.square(ops.cast(target, guided.dtype) - guided))
