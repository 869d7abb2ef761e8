"""The smaller Keras 3 model: every layer made anew with fewer channels, with the weights of those that are left."""

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from compress.keras_outputs import difference, drawn_inputs, outputs
from compress.prune.channels.keras_trace import Traced
from compress.prune.channels.structure import Alive, masked, sliced
from edge.errors import BadModel, CheckFailed

# Two orders of summation of float32 differ by about 1e-6 of the largest output; a wrong channel by 1e-2 and more.
TOLERANCE = 1e-4


def rebuild(model: Any, traced: Traced, alive: Alive) -> Any:
    """A new model without the dead channels. Names, inputs and outputs stay; the model given is not changed.

    Raises:
        BadModel: a layer cannot be made anew from its configuration, or gives weights of another shape (named).

    """
    import keras

    pairs: list[tuple[Any, Any]] = []

    def smaller(layer: Any) -> Any:
        made = _smaller(layer, traced, alive)
        pairs.append((layer, made))
        return made

    made = keras.models.clone_model(model, clone_function=smaller, recursive=True)
    for old, new in pairs:
        if old is new or not hasattr(old, "weights"):
            continue
        if len(old.weights) != len(new.weights):
            raise BadModel(f"layer {old.name} has {len(old.weights)} weights, made anew it has {len(new.weights)}")
        for before, after in zip(old.weights, new.weights, strict=True):
            values = sliced(traced.structure, id(before), before.numpy(), alive)
            if values.shape != tuple(after.shape):
                raise BadModel(
                    f"weight {before.path} without its pruned channels is {list(values.shape)}, but the layer made "
                    f"anew has {list(after.shape)}",
                    "a setting of that layer counts channels and its rule does not know: please report it",
                )
            after.assign(values)
    return made


def check(model: Any, made: Any, traced: Traced, alive: Alive) -> float | None:
    """The largest difference between the rebuilt model and the original with the dead channels masked, as a fraction
    of the largest output; None where a normalization over channels makes them differ by design.

    Raises:
        CheckFailed: they differ by more than 1e-4.

    """
    if not traced.structure.exact:
        return None
    feeds = drawn_inputs(model)
    weights: dict[Hashable, Any] = {id(weight): weight for weight in model.weights}
    before = {key: weight.numpy() for key, weight in weights.items()}
    try:
        for key, weight in weights.items():
            weight.assign(masked(traced.structure, key, before[key], alive))
        expected = outputs(model, feeds)
    finally:
        for key, weight in weights.items():
            weight.assign(before[key])
    worst = difference(expected, outputs(made, feeds))
    if not worst <= TOLERANCE:
        raise CheckFailed(
            f"prune.channel: the smaller model differs from the masked original by {worst:.2g} of the largest output, "
            f"more than {TOLERANCE:g}",
            "a layer of this model mixes channels in a way that its rule does not know: please report it",
        )
    return worst


def _smaller(layer: Any, traced: Traced, alive: Alive) -> Any:
    """A new layer with the same settings, but for those that count channels."""

    def resize(config: dict[str, Any]) -> None:
        for entry in traced.resizes:
            if entry.layer is layer:
                left = int(np.count_nonzero(traced.structure.left(alive, entry.labels)))
                _set(config, entry.path, entry.index, left)

    return anew(layer, resize)


def anew(layer: Any, change: Callable[[dict[str, Any]], None] = lambda config: None) -> Any:
    """A layer made of the configuration of `layer` after `change`.

    Raises:
        BadModel: it cannot be made of its configuration.

    """
    if type(layer).__name__ == "Lambda" and not layer.weights:
        return layer  # it has nothing to copy, and its function may not survive its configuration
    try:
        config = _unbuilt(layer.get_config())
        change(config)
        return type(layer).from_config(config)
    except (TypeError, ValueError, KeyError) as error:
        raise BadModel(
            f"layer {layer.name} ({type(layer).__name__}) cannot be made anew: {error}",
            "give the layer get_config and from_config, or convert the model to .onnx",
        ) from error


def _unbuilt(config: Any) -> Any:
    """Without the shapes that layers within layers were built for."""
    if isinstance(config, dict):
        return {key: _unbuilt(value) for key, value in config.items() if key != "build_config"}
    return [_unbuilt(value) for value in config] if isinstance(config, list) else config


def _set(config: dict[str, Any], path: tuple[str, ...], index: int | None, value: int) -> None:
    for part in path[:-1]:
        config = config[part]
    if index is None:
        old = config[path[-1]]
        config[path[-1]] = (value,) if isinstance(old, (list, tuple)) else value
    else:
        sizes = list(config[path[-1]])
        sizes[index] = value
        config[path[-1]] = tuple(sizes)
