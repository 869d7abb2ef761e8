"""What a Keras 3 model gives for drawn inputs: how two models that should agree are compared."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def drawn_inputs(model: Any, n: int = 4) -> list[npt.NDArray[Any]]:
    """Inputs [n, ...] of a standard normal; indices are 0 or 1, which every table has. Always the same ones."""
    rng = np.random.default_rng(0)
    drawn: list[npt.NDArray[Any]] = []
    for tensor in model.inputs:
        shape = (n, *(size or 1 for size in tensor.shape[1:]))
        integer = "int" in str(tensor.dtype)
        drawn.append(rng.integers(0, 2, shape) if integer else rng.normal(0, 1, shape).astype(np.float32))
    return drawn


def outputs(model: Any, inputs: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """All outputs [n, ...]; inputs in the order of the model's."""
    import keras

    arrays = [keras.ops.convert_to_tensor(array) for array in inputs]
    # a Sequential model that was never called has no `input`
    single = isinstance(model, keras.Sequential)
    made = model(arrays[0] if single else keras.tree.pack_sequence_as(model.input, arrays), training=False)
    return [keras.ops.convert_to_numpy(output) for output in keras.tree.flatten(made)]


def difference(expected: Sequence[npt.NDArray[Any]], found: Sequence[npt.NDArray[Any]]) -> float:
    """The largest difference as a fraction of the largest value of its output; NaN where one is not finite."""
    return max(
        float(np.max(np.abs(one - other))) / (float(np.max(np.abs(one))) or 1.0)
        for one, other in zip(expected, found, strict=True)
    )
