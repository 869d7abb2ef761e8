"""Keras 3 to tf_keras and back: the graph rebuilt, the weights copied, the outputs compared.

tensorflow-model-optimization knows only tf_keras (Keras 2), and tf_keras cannot read a Keras 3 file.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from convert.bridge.activations import Api, Uncrossable
from convert.bridge.equality import Equality, compare_models
from convert.bridge.graph import functional, is_model, is_sequential, layers_of, map_structure, require_graph, run
from convert.bridge.graph import structures as model_structures
from convert.bridge.layers import cross_layer
from convert.bridge.operations import Apply, cross_operation, is_operation
from edge.errors import BadModel
from edge.quiet import quiet


@dataclass(frozen=True)
class Crossing:
    """The rebuilt model and how it was found equal to the original."""

    model: Any
    equality: Equality


def to_tf_keras(model: Any, *, inline: bool = False) -> Crossing:
    """A Keras 3 model as tf_keras model with the same names, weights and outputs.

    `inline` puts the layers of models within the model into its own graph, which quantization needs.

    Raises:
        BadModel: subclassed, or with layers that tf_keras lacks: every one is named.
        CheckFailed: the outputs differ by more than 1e-5 of their spread.

    """
    return _cross(model, "tf_keras", inline)


def to_keras(model: Any) -> Crossing:
    """A tf_keras model as Keras 3 model with the same names, weights and outputs.

    Raises:
        BadModel: subclassed, or with layers that Keras 3 lacks: every one is named.
        CheckFailed: the outputs differ by more than 1e-5 of their spread.

    """
    return _cross(model, "keras", False)


def is_legacy(model: Any) -> bool:
    """Whether a model is one of tf_keras."""
    return any(kind.__module__.split(".")[0] == "tf_keras" for kind in type(model).__mro__)


def copy_weights(source: Any, target: Any) -> None:
    """Copy weights between two models of the same layers by their names, whichever Keras they are of.

    Raises:
        BadModel: a layer of `target` has no counterpart, or one of other shapes.

    """
    have = {layer.name: layer for layer in _weighted(source)}
    for layer in _weighted(target):
        if layer.name not in have:
            raise BadModel(f"model {source.name!r} has no layer {layer.name!r} to take weights from")
        _copy(have[layer.name], layer)


def _cross(model: Any, to: Api, inline: bool) -> Crossing:
    if is_legacy(model) == (to == "tf_keras"):
        raise BadModel(f"model {model.name!r} is a {to} model already", "use it as it is")
    require_graph(model)
    with quiet():
        built = _Builder(model, to, inline)
        return Crossing(built.model, compare_models(model, built.model))


class _Builder:
    """One crossing: layers are made first, so that all that cannot cross is known, then called and given weights."""

    def __init__(self, model: Any, to: Api, inline: bool) -> None:
        self._to, self._inline = to, inline
        self._made: dict[int, Any] = {}
        self._operations: dict[int, Apply] = {}
        self._failed: list[str] = []
        self._prepare(model)
        if self._failed:
            what = "1 layer" if len(self._failed) == 1 else f"{len(self._failed)} layers"
            raise BadModel(
                f"{what} of model {model.name!r} cannot cross to {to}: {'; '.join(self._failed)}",
                "replace them by built-in layers, or leave the passes out that need tensorflow-model-optimization",
            )
        self.model = self._model(model)

    def _prepare(self, model: Any) -> None:
        entries = model.layers if is_sequential(model) else layers_of(model)
        for layer in entries:
            if id(layer) in self._made or id(layer) in self._operations:
                continue
            try:
                if is_model(layer):
                    require_graph(layer)
                    self._prepare(layer)
                elif is_operation(layer):
                    self._operations[id(layer)] = cross_operation(layer, self._to)
                elif type(layer).__name__ != "InputLayer":
                    self._made[id(layer)] = cross_layer(layer, self._to, self._cross_inner)
            except Uncrossable as reason:
                self._failed.append(f"{layer.name} ({type(layer).__name__}): {reason}")
            except BadModel as error:
                self._failed.append(f"{layer.name} ({type(layer).__name__}): {error.message}")

    def _cross_inner(self, layer: Any) -> Any:
        if is_model(layer):
            raise Uncrossable("it wraps a whole model")
        return cross_layer(layer, self._to, self._cross_inner)

    def _model(self, model: Any) -> Any:
        if is_sequential(model) and not (self._inline and any(is_model(layer) for layer in model.layers)):
            return self._sequential(model)
        inputs = map_structure(self._input, model_structures(model)[0])
        outputs = run(model, inputs, self._apply)
        return self._api().Model(inputs, outputs, name=model.name)

    def _sequential(self, model: Any) -> Any:
        result = self._api().Sequential(name=model.name)
        (source,) = functional(model).inputs
        result.add(self._input(source))
        for layer in model.layers:
            if is_model(layer):
                result.add(self._nested(layer))
            elif type(layer).__name__ != "InputLayer":
                result.add(self._made[id(layer)])
                _copy(layer, self._made[id(layer)])
        return result

    def _nested(self, model: Any) -> Any:
        if id(model) not in self._made:
            self._made[id(model)] = self._model(model)
        return self._made[id(model)]

    def _apply(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if id(layer) in self._operations:
            return self._operations[id(layer)](*args, **kwargs)
        if is_model(layer):
            return run(layer, args[0], self._apply) if self._inline else self._nested(layer)(*args, **kwargs)
        if type(layer).__name__ == "InputLayer":  # a model within the model that starts with one of its own
            return args[0]
        made = self._made[id(layer)]
        first = not made.built
        result = made(*args, **kwargs)
        if first or not getattr(made, "_crossed", False):
            _copy(layer, made)
            made._crossed = True  # noqa: SLF001 -- a mark on a layer that was just made here
        return result

    def _input(self, tensor: Any) -> Any:
        name = tensor.name.partition(":")[0]
        if not hasattr(tensor, "_keras_history"):
            raise BadModel(f"input {name!r} is no symbolic tensor")
        layer = tensor._keras_history[0]  # noqa: SLF001 -- the input's own layer has its name
        dtype = getattr(tensor.dtype, "name", tensor.dtype)
        shape = tuple(tensor.shape)
        return self._api().Input(shape[1:], batch_size=shape[0], dtype=dtype, name=layer.name)

    def _api(self) -> Any:
        import keras
        import tf_keras

        return tf_keras if self._to == "tf_keras" else keras


def _weighted(model: Any) -> list[Any]:
    """The layers that hold weights, those of models within the model too."""
    found: list[Any] = []
    for layer in model.layers:
        if is_model(layer):
            found += _weighted(layer)
        elif layer.weights:
            found.append(layer)
    return found


def _copy(source: Any, target: Any) -> None:
    values = [np.asarray(value) for value in source.get_weights()]
    shapes = [tuple(weight.shape) for weight in target.weights]
    if [value.shape for value in values] != shapes:
        raise BadModel(
            f"layer {source.name!r} holds weights of shapes {[list(v.shape) for v in values]}, "
            f"its counterpart {[list(shape) for shape in shapes]}"
        )
    if values:
        target.set_weights(values)
    if hasattr(target, "finalize_state"):
        target.finalize_state()
