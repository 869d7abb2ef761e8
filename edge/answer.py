"""What a bundle's model says to one raw example: one code for `python -m edge` and for a server."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edge.bundle import Golden, Manifest
from edge.engines import Feeds
from edge.errors import BadData, BadInput
from edge.preprocess import Preprocess
from edge.tensors import Array, TensorSpec

Predict = Callable[[Feeds], Mapping[str, Array]]


def require_names(manifest: Manifest, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """The model that was loaded has the inputs and outputs that its manifest names.

    Raises:
        BadInput: it has others.

    """
    for specs, stated in ((inputs, manifest.inputs), (outputs, manifest.outputs)):
        found, names = sorted(spec.name for spec in specs), sorted(spec.name for spec in stated)
        if found != names:
            raise BadInput(f"the bundle's model has {found}, but its manifest says {names}", "make the bundle again")


def answer(
    name: str, raw: Mapping[str, Array], predict: Predict, steps: Mapping[str, Preprocess], inputs: Sequence[TensorSpec]
) -> dict[str, Array]:
    """One raw example to one example of each output, without the batch axis.

    `name` says in errors which example it was, `predict` is `edge.engines.predict` of an engine, or a worker's.

    Raises:
        BadData: it is not what the preprocessing or the model takes.

    """
    try:
        # a fixed batch is filled with copies of the one example
        feeds = {spec.name: _repeated(steps[spec.name](raw[spec.name]), spec) for spec in inputs}
        return first(predict(feeds))
    except BadData as error:
        raise BadData(f"{name}: {error}", error.hint) from error


def rank(outputs: Mapping[str, Array], manifest: Manifest, top: int) -> list[dict[str, Any]]:
    """The `top` best classes of one example, best first; none where the first output is no score for each label.

    Each is its label, its index, and its probability, or its score where the scores are no probabilities.
    """
    if not manifest.labels:
        return []
    scores = np.asarray(outputs[manifest.outputs[0].name], np.float64).ravel()
    if scores.size == 1 and len(manifest.labels) == 2:  # one probability, of the second class
        scores = np.array([1 - scores[0], scores[0]])
    if scores.size != len(manifest.labels):
        return []
    # int8 probabilities of 10 classes, each rounded to 1/256, miss 1 by at most 0.02
    kind = "probability" if scores.min() >= 0 and abs(scores.sum() - 1) < 0.03 else "score"
    best = np.argsort(-scores, kind="stable")[:top]
    return [{"label": manifest.labels[i], "index": int(i), kind: float(scores[i])} for i in best]


def replay(predict: Predict, golden: Golden, inputs: Sequence[TensorSpec]) -> dict[str, float]:
    """The largest absolute difference from the golden outputs, by output; NaN where the model answers NaN."""
    worst = dict.fromkeys(golden.outputs, 0.0)
    for index in range(len(next(iter(golden.inputs.values())))):
        feeds = {spec.name: _repeated(golden.inputs[spec.name][index], spec) for spec in inputs}
        for name, row in first(predict(feeds)).items():
            got, expected = np.asarray(row, np.float64), np.asarray(golden.outputs[name][index], np.float64)
            difference = np.abs(got - expected).max() if got.shape == expected.shape else np.inf
            worst[name] = float(np.maximum(worst[name], difference))  # keeps NaN, unlike max()
    return worst


def outside(differences: Mapping[str, float], tolerance: Mapping[str, float]) -> list[str]:
    """The outputs that differ by more than they may."""
    # "not within", so that NaN fails
    return [name for name, difference in differences.items() if not difference <= tolerance[name]]


def first(outputs: Mapping[str, Array]) -> dict[str, Array]:
    """The first example of each output, without the batch axis."""
    return {key: values[0] if values.ndim else values for key, values in outputs.items()}


def _repeated(example: Array, spec: TensorSpec) -> Array:
    batch = (spec.shape[0] if spec.shape else None) or 1
    return np.repeat(example[None], batch, axis=0)
