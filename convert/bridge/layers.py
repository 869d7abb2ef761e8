"""One layer of one Keras as the same layer of the other: its settings carried over, or a reason why not."""

import inspect
from collections.abc import Callable
from typing import Any

from convert.bridge.activations import Api, Uncrossable, counterpart

# Names of one setting in the two APIs, by layer: (Keras 3, tf_keras).
_RENAMED: dict[str, tuple[tuple[str, str], ...]] = {"LeakyReLU": (("negative_slope", "alpha"),)}
# How something is computed or started, not what is computed.
_IMPLIED = frozenset(
    {
        "implementation",
        "use_cudnn",
        "seed",
        "build_config",
        "batch_input_shape",
        "batch_shape",
        "unroll",
        "synchronized",
    }
    | {"input_length", "autocast", "sparse", "softmax_robust_masking", "robust_masking", "fused", "virtual_batch_size"}
)
# Wrappers and the settings that hold the layer they wrap, and the attributes where the built one stands.
_WRAPPED: dict[str, tuple[tuple[str, str], ...]] = {
    "TimeDistributed": (("layer", "layer"),),
    "Bidirectional": (("layer", "forward_layer"), ("backward_layer", "backward_layer")),
    "RNN": (("cell", "cell"),),
}
Cross = Callable[[Any], Any]


def cross_layer(layer: Any, to: Api, cross: Cross) -> Any:
    """An unbuilt layer of the other Keras with the settings of `layer`; `cross` does the layers within it.

    Initializers are not carried over: the weights are.

    Raises:
        Uncrossable: with the reason.

    """
    kind = _kind(layer, to)
    config = dict(layer.get_config())
    name = type(layer).__name__
    settings: dict[str, Any] = {"name": layer.name, "dtype": _dtype(layer), "trainable": layer.trainable}
    inner = dict(_WRAPPED.get(name, ()))
    names = dict(_RENAMED.get(name, ()))
    if to == "keras":
        names = {new: old for old, new in names.items()}
    accepted = _parameters(kind)
    for key, value in config.items():
        target = str(names.get(key, key))
        if key in settings or key.endswith("_initializer"):
            continue
        if key in inner:
            settings[target] = cross(getattr(layer, inner[key]))
        elif key == "cells":
            settings[target] = [cross(cell) for cell in layer.cells]
        elif target not in accepted:
            _require_default(layer, key, value)
        else:
            settings[target] = _setting(key, value, to)
    if name == "BatchNormalization" and isinstance(settings.get("axis"), list):
        if len(settings["axis"]) != 1:
            raise Uncrossable("it normalizes over several axes")
        settings["axis"] = settings["axis"][0]
    if name == "BatchNormalization" and to == "tf_keras":
        # Keras 3 normalizes as the unfused layer does: the fused one rounds otherwise, and its moving variance differs
        settings["fused"] = False
    return kind(**settings)


def _setting(key: str, value: Any, to: Api) -> Any:
    """The value of one setting in the other Keras."""
    if key.endswith("activation"):
        return None if value is None else counterpart(value, to)
    if key.endswith(("_regularizer", "_constraint")):
        return _penalty(key, value, to)
    return _plain(value)


def _kind(layer: Any, to: Api) -> Any:
    """The class of the same name in the other Keras: a layer of its own, or of its own applications."""
    source = type(layer)
    where, name = source.__module__, source.__name__
    own = where.split(".")[0] in ("keras", "tf_keras")
    if name in ("Lambda", "TFSMLayer") and own:
        raise Uncrossable("what it does is Python code or a saved graph, which stays with its Keras")
    if not own:
        raise Uncrossable("it is not one of Keras's own layers")
    public = _attribute(f"{to}.layers", name)
    if public is None and ".applications." in where:
        public = _attribute(f"{to}.src.applications.{where.rsplit('.', 1)[1]}", name)
    if public is None:
        raise Uncrossable(f"{to} has no layer {name}")
    return public


def _attribute(module: str, name: str) -> Any:
    import importlib

    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError:
        return None
    return found if inspect.isclass(found) else None


def _dtype(layer: Any) -> str:
    policy = getattr(layer, "dtype_policy", None) or getattr(layer, "_dtype_policy", None)
    name = str(getattr(policy, "name", policy) or "float32")
    if name not in ("float32", "float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16"):
        if name.startswith(("int", "uint", "bool", "string")) and "_from_" not in name:
            return name
        raise Uncrossable(f"its weights are quantized ({name})")
    return name


def _parameters(kind: Any) -> set[str]:
    """Every keyword that a class or those it inherits from name in their constructors."""
    found: set[str] = set()
    for parent in kind.__mro__:
        if "__init__" in vars(parent):
            signature = inspect.signature(parent.__init__)
            found |= set(signature.parameters)
            if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values()):
                break
    return found - {"self", "args", "kwargs"}


def _require_default(layer: Any, key: str, value: Any) -> None:
    """A setting that the other Keras does not know may be left out only where it changes nothing."""
    known = inspect.signature(type(layer).__init__).parameters
    if key in _IMPLIED or key not in known or value is None:
        return
    default = known[key].default
    # data_format is written out in full where the default is "as the backend has it".
    if value == default or (key == "data_format" and value == "channels_last"):
        return
    raise Uncrossable(f"the other Keras has no setting {key} (here {value!r})")


def _penalty(key: str, value: Any, to: Api) -> Any:
    if value is None:
        return None
    module = "regularizers" if key.endswith("_regularizer") else "constraints"
    if not isinstance(value, dict) or "class_name" not in value:
        raise Uncrossable(f"its {key} is a function of one Keras only")
    kind = _attribute(f"{to}.{module}", value["class_name"])
    if kind is None:
        raise Uncrossable(f"{to} has no {key.rsplit('_', 1)[1]} {value['class_name']!r}")
    return kind(**value["config"])


def _plain(value: Any) -> Any:
    if isinstance(value, dict) and "class_name" in value:
        raise Uncrossable(f"it holds a {value['class_name']} that has no counterpart")
    return list(value) if type(value).__name__ == "ListWrapper" else value
