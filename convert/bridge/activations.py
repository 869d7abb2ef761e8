"""Activation functions by name, each held against the other Keras before it is used.

The two disagree on some names: `hard_sigmoid` is clip(0.2 x + 0.5, 0, 1) in Keras 2 and relu6(x + 3) / 6 in Keras 3.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

import numpy as np

Api = Literal["keras", "tf_keras"]
# Both sides of every kink of the known functions, and far out.
_PROBE = np.concatenate([np.linspace(-8, 8, 65), [-50.0, 50.0]]).astype(np.float32)[None]
_PACKAGE = "edgetool"


class Uncrossable(Exception):
    """Why one layer cannot be rebuilt in the other Keras; collected into one BadModel."""


def counterpart(name: Any, to: Api) -> Any:
    """The activation called `name` as a value that a layer of the other Keras takes.

    Raises:
        Uncrossable: there is none, or the one of that name computes something else.

    """
    ours = isinstance(name, dict) and str(name.get("config")).startswith(f"{_PACKAGE}>")
    if ours:  # one of our own coming back
        name = name["config"].removeprefix(f"{_PACKAGE}>")
    if not isinstance(name, str):
        raise Uncrossable("its activation is a function of one Keras only")
    wanted = _own()[name, "tf_keras"] if ours else _function(name, "keras" if to == "tf_keras" else "tf_keras")
    found = _own().get((name, to)) or _function(name, to)
    if wanted is None or found is None:
        raise Uncrossable(f"{to} has no activation {name!r}")
    if not np.allclose(_values(wanted), _values(found), rtol=1e-6, atol=1e-6):
        raise Uncrossable(f"activation {name!r} of {to} computes something else")
    return found if (name, to) in _own() else name


@lru_cache(maxsize=1)
def _own() -> dict[tuple[str, Api], Callable[[Any], Any]]:
    """What tf_keras lacks, or has under another meaning; registered, so that models with it can be cloned."""
    import tensorflow as tf
    import tf_keras

    @tf_keras.utils.register_keras_serializable(_PACKAGE)  # type: ignore[untyped-decorator]  # tf_keras is untyped
    def hard_sigmoid(x: Any) -> Any:
        return tf.nn.relu6(x + 3.0) * (1.0 / 6.0)

    @tf_keras.utils.register_keras_serializable(_PACKAGE)  # type: ignore[untyped-decorator]  # tf_keras is untyped
    def hard_silu(x: Any) -> Any:
        return x * hard_sigmoid(x)

    made: dict[tuple[str, Api], Callable[[Any], Any]] = {
        ("hard_sigmoid", "tf_keras"): hard_sigmoid,
        ("hard_silu", "tf_keras"): hard_silu,
        ("hard_swish", "tf_keras"): hard_silu,
    }
    return made


def _function(name: str, api: Api) -> Any:
    import keras
    import tf_keras

    activations = keras.activations if api == "keras" else tf_keras.activations
    try:
        return activations.get(name)
    except (ValueError, TypeError):
        return None


def _values(function: Callable[[Any], Any]) -> Any:
    import tensorflow as tf

    return np.asarray(function(tf.constant(_PROBE)))
