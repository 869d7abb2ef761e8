"""What may be fed to an engine: the check that explains a misfit, and fixed inputs for timing."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge.errors import BadData, BadModel
from edge.tensors import Array, TensorSpec


def check(specs: Sequence[TensorSpec], feeds: Mapping[str, Any]) -> None:
    """Compare feeds with the inputs of a model.

    Engines compare shape and dtype themselves, inline, and come here only to say what is wrong.

    Raises:
        BadData: an unknown or missing name, no array, another dtype or shape than the input takes.

    """
    names = [spec.name for spec in specs]
    for name in feeds:
        if name not in names:
            raise BadData(f"the model has no input {name!r}", f"its inputs: {', '.join(names)}")
    for spec in specs:
        if spec.name not in feeds:
            raise BadData(f"input {spec.name!r} is missing", f"its inputs: {', '.join(names)}")
        array = feeds[spec.name]
        if not isinstance(array, np.ndarray):
            raise BadData(f"input {spec.name!r} takes a numpy array, got {type(array).__name__}")
        if array.dtype != np.dtype(spec.dtype):
            raise BadData(f"input {spec.name!r} takes {spec.dtype}, got {array.dtype}")
        if not fits(spec, array.shape):
            raise BadData(f"input {spec.name!r} takes shape {readable(spec.shape)}, got {readable(array.shape)}")


def fits(spec: TensorSpec, shape: tuple[int, ...]) -> bool:
    """Whether `shape` is the shape of `spec`, where a dynamic dimension takes any length above 0."""
    return len(shape) == len(spec.shape) and all(
        got > 0 if expected is None else got == expected for got, expected in zip(shape, spec.shape, strict=True)
    )


def readable(shape: Sequence[int | None]) -> str:
    """A shape as users write it: [1, 49, ?, 1]."""
    return f"[{', '.join('?' if length is None else str(length) for length in shape)}]"


def fixed(specs: Sequence[TensorSpec], seed: int = 0) -> dict[str, Array]:
    """The same inputs every time, in the dtype of each spec: what latency is measured with.

    Real inputs are uniform in [0, 1), quantized ones cover their integer range, and other integers
    and booleans are 0, which is a valid index into any table.

    Raises:
        BadModel: a dimension other than the batch is dynamic, so that there is no one latency.

    """
    rng = np.random.default_rng(seed)
    return {spec.name: _fixed(spec, rng) for spec in specs}


def _fixed(spec: TensorSpec, rng: np.random.Generator) -> Array:
    shape = tuple(length for length in spec.shape if length is not None)
    if len(shape) != len(spec.shape):
        raise BadModel(
            f"input {spec.name!r} has the dynamic shape {readable(spec.shape)}: its latency depends on the length",
            "export the model with every dimension but the batch fixed",
        )
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return rng.random(shape, np.float32).astype(dtype)
    if spec.quantization is None:
        return np.zeros(shape, dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, math.prod(shape), dtype, endpoint=True).reshape(shape)
