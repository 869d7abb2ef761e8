"""From the body of a request to one raw example: JSON, or a file as `python -m edge run` takes it.

Both carry *raw* values, which then go through the bundle's own preprocessing: pixels 0 to 255 as [H, W] or
[H, W, C], samples in -1..1 at the model's rate, a row of a table, or an array as the model was given in training.
There is no batch axis. Nothing names a file, and nothing is unpickled.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from edge.audio import AudioInput
from edge.engines.feeds import fits, readable
from edge.errors import UnknownName
from edge.image import ImageInput, decode_image
from edge.preprocess import ArrayInput, Preprocess, decode_npy, finite
from edge.tensors import Array, TensorSpec
from edgetool.serve.refusal import Refusal

JSON, NPY = "application/json", "application/x-npy"
WAV = frozenset({"audio/wav", "audio/wave", "audio/x-wav", "audio/vnd.wave"})
NAME = "the request"
MOST = 1e30  # of a number in JSON: far from where float32 ends, so that scaling keeps it finite


@dataclass(frozen=True)
class Payload:
    """A body as it came, with its Content-Type."""

    content_type: str
    body: bytes


def media_types(steps: Mapping[str, Preprocess]) -> list[str]:
    """What a model with these inputs takes, for people and for OpenAPI."""
    if len(steps) != 1:
        return [JSON]
    ((_, step),) = steps.items()
    own = {ImageInput: ["image/*"], AudioInput: ["audio/wav"]}
    return [JSON, *own.get(type(step), []), NPY]


def raw_example(payload: Payload, steps: Mapping[str, Preprocess]) -> dict[str, Array]:
    """One raw example of each input.

    Raises:
        Refusal: not JSON, not numbers, other inputs than the model's, or a media type that it does not take.
        BadData: a file that cannot be decoded.
        RuntimeMissing: the decoder is not installed.

    """
    kind = payload.content_type.partition(";")[0].strip().lower()
    if kind == JSON:
        return _from_json(payload.body, steps)
    if len(steps) == 1:
        ((name, step),) = steps.items()
        if kind == NPY:
            return {name: decode_npy(payload.body, NAME)}
        if kind.startswith("image/") and isinstance(step, ImageInput):
            return {name: decode_image(payload.body, NAME)}
        if kind in WAV and isinstance(step, AudioInput):
            return {name: step.decode(payload.body, NAME)}
    raise Refusal(
        "media_type",
        f"the body is {kind!r}" if kind else "the request has no Content-Type",
        f"this model takes {', '.join(media_types(steps))}",
    )


def require_shapes(raw: Mapping[str, Array], steps: Mapping[str, Preprocess], inputs: Sequence[TensorSpec]) -> None:
    """Arrays that no step brings into shape have the shape of one example.

    Raises:
        Refusal: one has another.

    """
    for spec in inputs:
        example = TensorSpec(spec.name, spec.example_shape, spec.dtype)
        if isinstance(steps[spec.name], ArrayInput) and not fits(example, raw[spec.name].shape):
            takes, got = readable(example.shape), readable(raw[spec.name].shape)
            raise Refusal(
                "misfit", f"input {spec.name!r} takes {takes}, got {got}", "send one example, without batch axis"
            )


def _from_json(body: bytes, steps: Mapping[str, Preprocess]) -> dict[str, Array]:
    from pydantic_core import from_json  # four times as fast as json, and as strict as the standard

    try:
        data = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Refusal("malformed", f"the body is no JSON: {_one_line(error)}") from None
    form = f'{{"inputs": {{{", ".join(f"{json.dumps(name)}: …" for name in steps)}}}}}'
    if not isinstance(data, dict) or not isinstance(data.get("inputs"), dict):
        raise Refusal("misfit", f"the body holds {_kind(data)} without inputs", f"send {form}")
    for found, known, what in ((data, ("inputs",), "key"), (data["inputs"], tuple(steps), "input")):
        for key in found:
            if key not in known:
                unknown = UnknownName(what, key[:80], known)
                raise Refusal("misfit", unknown.message, unknown.hint)
    missing = [name for name in steps if name not in data["inputs"]]
    if missing:
        raise Refusal("misfit", f"input {missing[0]!r} is missing", f"send {form}")
    return {name: _array(name, data["inputs"][name], step) for name, step in steps.items()}


def _array(name: str, values: Any, step: Preprocess) -> Array:
    """Nested lists to an array, by hand: numpy takes true for 1 and "1.5" for 1.5, and is slower."""
    shape: list[int] = []
    flat = [values]
    while flat and isinstance(flat[0], list):
        lengths = {len(row) if isinstance(row, list) else None for row in flat}
        if len(lengths) > 1:
            raise Refusal("misfit", f"input {name!r} is no array: rows of different lengths", "send nested lists")
        shape.append(len(flat[0]))
        flat = list(chain.from_iterable(flat))
    if not flat:
        raise Refusal("misfit", f"input {name!r} is empty")
    kinds, boolean = set(map(type, flat)), raw_dtype(step).kind == "b"
    if list in kinds:
        raise Refusal("misfit", f"input {name!r} is no array: rows of different lengths", "send nested lists")
    if not kinds <= ({bool} if boolean else {int, float}):
        takes = "true and false" if boolean else "numbers"
        raise Refusal("misfit", f"input {name!r} holds something else than {takes}", "send nested lists of them")
    try:
        array = np.array(flat).reshape(shape)
    except (ValueError, OverflowError) as error:
        raise Refusal("misfit", f"input {name!r} is no array: {_one_line(error)}") from None
    if array.dtype.kind not in "biuf":
        raise Refusal("misfit", f"input {name!r} holds numbers of more than 64 bits")
    return _cast(name, finite(array, f"input {name!r}"), step)


def raw_dtype(step: Preprocess) -> "np.dtype[Any]":
    """What the numbers of a JSON body become before the step sees them."""
    if isinstance(step, ImageInput):
        return np.dtype(np.uint8)
    if isinstance(step, AudioInput):
        return np.dtype(np.float32)
    if isinstance(step, ArrayInput) and np.dtype(step.dtype).kind != "f":
        return np.dtype(step.dtype)
    return np.dtype(np.float64)


def raw_limits(step: Preprocess) -> tuple[float, float]:
    """The least and the largest number that a JSON body may hold for an input."""
    dtype = raw_dtype(step)
    if dtype.kind in "iu":
        return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    if isinstance(step, AudioInput):
        return -1.0, 1.0
    most = float(np.finfo(step.dtype).max) if isinstance(step, ArrayInput) and dtype.kind == "f" else MOST
    return -min(most, MOST), min(most, MOST)


def _cast(name: str, array: Array, step: Preprocess) -> Array:
    dtype, (least, most) = raw_dtype(step), raw_limits(step)
    if dtype.kind == "b":
        return array
    whole = dtype.kind == "f" or array.dtype.kind != "f" or bool((array == np.rint(array)).all())
    # compared as Python numbers: 2^63 as a float is the same as 2^63 - 1
    convert = float if dtype.kind == "f" else int
    if not whole or convert(array.min()) < least or convert(array.max()) > most:
        kind = "numbers" if dtype.kind == "f" else "whole numbers"
        raise Refusal("misfit", f"input {name!r} takes {kind} from {least} to {most}")
    return array.astype(dtype)


def _kind(data: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(data), "a number")


def _one_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
