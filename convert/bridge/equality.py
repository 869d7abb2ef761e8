"""Do a model and its rebuilt copy compute the same? Outputs before any final softmax, on inputs that spread them.

A softmax hides differences, and so do inputs to which a model says always the same: an untrained network answers
nearly alike to every picture of noise. So the inputs differ in magnitude and in shape, and the error is divided by
how far the outputs lie apart, not by how large they are.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from convert.bridge.graph import is_model, map_structure, structures
from edge.errors import CheckFailed

LIMIT = 1e-5
# float32 rounds to 6e-8 of a value, and a deep network adds tens of such errors: with less spread than this, rounding
# alone could exceed the limit, and nothing can be said.
LEAST_SPREAD = 1e-3
EXAMPLES = 8
# Standard noise first, then pixels.
SCALES = (1.0, 64.0, 1.0 / 16)
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Equality:
    """How equal two models were found.

    Attributes:
        relative_error: max |a - b| / spread, the worst over the outputs.
        spread: the largest distance between two examples in one element of an output, of the least spread output.
        relative_spread: the same over the largest magnitude of that output.
        examples: inputs compared.

    """

    relative_error: float
    spread: float
    relative_spread: float
    examples: int


def compare_models(reference: Any, candidate: Any, *, seed: int = 0) -> Equality:
    """Run both models and compare.

    Raises:
        CheckFailed: an output differs by more than 1e-5 of its spread, has another shape, is not finite, or is the same
            for every input.

    """
    for scale in SCALES:
        inputs = spreading_inputs(reference, seed, scale)
        wanted = _outputs(reference, inputs)
        if min(relative_error(output, output).relative_spread for output in wanted) >= LEAST_SPREAD:
            break
    else:
        raise CheckFailed(
            f"model {reference.name!r} says nearly the same to every input that was tried, so its rebuilt copy cannot "
            f"be compared: the outputs spread by less than {LEAST_SPREAD:g} of their magnitude",
            "train the model first",
        )
    equalities = [relative_error(a, b) for a, b in zip(wanted, _outputs(candidate, inputs), strict=True)]
    worst = max(equality.relative_error for equality in equalities)
    least = min(equalities, key=lambda equality: equality.relative_spread)
    if not worst <= LIMIT:  # NaN is not equal either
        raise CheckFailed(
            f"model {reference.name!r} and its rebuilt copy differ by {worst:.1e} of the outputs' spread, more than "
            f"{LIMIT:.0e}",
            "the two Keras compute one of its layers differently: convert the model without the passes that need it",
        )
    return Equality(worst, least.spread, least.relative_spread, EXAMPLES)


def relative_error(wanted: Array, got: Array) -> Equality:
    """One output of n examples, [n, ...] in both: the largest difference over the spread of `wanted`.

    Where all examples give the same the magnitude takes the spread's place; equal arrays have the error 0.
    """
    a, b = np.asarray(wanted, np.float64), np.asarray(got, np.float64)
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return Equality(np.inf, 0.0, 0.0, len(a))
    spread = float(np.max(np.ptp(a, axis=0), initial=0.0))
    peak = float(np.max(np.abs(a), initial=0.0))
    difference = float(np.max(np.abs(a - b), initial=0.0))
    error = 0.0 if difference == 0 else difference / (spread or peak or difference)
    return Equality(error, spread, spread / peak if peak else 0.0, len(a))


def spreading_inputs(model: Any, seed: int, scale: float = 1.0) -> Any:
    """EXAMPLES inputs in the structure of the model's own: noise on a bright or dark corner, in magnitudes from
    1/4 to 4 times `scale`; integers below the size of the smallest embedding.
    """
    rng = np.random.default_rng(seed)
    vocabulary = min(_vocabularies(model), default=2)

    def draw(tensor: Any) -> Array:
        dtype = np.dtype(getattr(tensor.dtype, "as_numpy_dtype", tensor.dtype))
        shape = (EXAMPLES, *(16 if size is None else int(size) for size in tensor.shape[1:]))
        if dtype.kind not in "fc":
            return rng.integers(0, 2 if dtype.kind == "b" else vocabulary, shape).astype(dtype)
        noise = rng.normal(size=shape)
        for example, half in enumerate(noise):
            # another corner of every axis but the last for each example
            corner = [
                slice(0, max(1, size // 2)) if example >> axis & 1 else slice(None)
                for axis, size in enumerate(half.shape[:-1])
            ]
            half[tuple(corner)] += 1.0
        magnitude = np.geomspace(0.25, 4.0, EXAMPLES).reshape(-1, *[1] * (len(shape) - 1))
        return np.asarray(noise * magnitude * scale, dtype)

    return map_structure(draw, structures(model)[0])


def _vocabularies(model: Any) -> Iterator[int]:
    for layer in model.layers:
        if is_model(layer):
            yield from _vocabularies(layer)
        elif hasattr(layer, "input_dim") and type(layer).__name__ == "Embedding":
            yield int(layer.input_dim)


def _outputs(model: Any, inputs: Any) -> list[Array]:
    """Every output, flattened, one example at a time where the batch is fixed to one."""
    import tensorflow as tf

    fixed = next((t.shape[0] for t in model.inputs if t.shape[0] is not None), EXAMPLES)
    parts = []
    with _without_final_softmax(model):
        for start in range(0, EXAMPLES - EXAMPLES % fixed or fixed, fixed):
            piece = map_structure(lambda a: tf.convert_to_tensor(_rows(a, start, fixed)), inputs)  # noqa: B023 -- used at once
            parts.append([np.asarray(t) for t in tf.nest.flatten(model(piece, training=False))])
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def _rows(values: Array, start: int, count: int) -> Array:
    return np.take(values, range(start, start + count), axis=0, mode="wrap")


@contextlib.contextmanager
def _without_final_softmax(model: Any) -> Iterator[None]:
    """The model with the softmax of its outputs switched off."""
    layers = [layer for tensor in model.outputs for layer in _final(tensor) if _is_softmax(layer)]
    before = []
    for layer in layers:
        if hasattr(layer, "activation"):
            before.append((layer, "activation", layer.activation))
            layer.activation = lambda x: x
        else:
            before.append((layer, "call", layer.call))
            layer.call = lambda x, *_, **__: x
    try:
        yield
    finally:
        for layer, attribute, value in before:
            setattr(layer, attribute, value)


def _final(tensor: Any) -> Iterator[Any]:
    layer = tensor._keras_history[0]  # noqa: SLF001 -- Keras has no public way to ask
    if is_model(layer):
        for inner in layer.outputs:
            yield from _final(inner)
    else:
        yield layer


def _is_softmax(layer: Any) -> bool:
    activation = getattr(layer, "activation", None)
    return getattr(activation, "__name__", type(layer).__name__).lower() == "softmax"
