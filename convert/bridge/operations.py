"""What stands in a graph without being a layer: arithmetic and reshaping on tensors.

Keras 3 keeps them as operations (`keras.ops`), tf_keras as layers around a TensorFlow function (`TFOpLambda`).
A tensor and a constant become the layer Rescaling, which both have; two tensors become a merging layer.
"""

from collections.abc import Callable
from typing import Any

from convert.bridge.activations import Api, Uncrossable
from convert.bridge.graph import is_tensor

Apply = Callable[..., Any]

# Operations of Keras 3 whose settings are attributes -> (symbol of TensorFlow, {its argument: the attribute}).
_SYMBOLS: dict[str, tuple[str, dict[str, str]]] = {
    "Mean": ("math.reduce_mean", {"axis": "axis", "keepdims": "keepdims"}),
    "Max": ("math.reduce_max", {"axis": "axis", "keepdims": "keepdims"}),
    "Min": ("math.reduce_min", {"axis": "axis", "keepdims": "keepdims"}),
    "Sum": ("math.reduce_sum", {"axis": "axis", "keepdims": "keepdims"}),
    "Transpose": ("transpose", {"perm": "axes"}),
    "ExpandDims": ("expand_dims", {"axis": "axis"}),
    "Squeeze": ("squeeze", {"axis": "axis"}),
    "Reshape": ("reshape", {"shape": "newshape"}),
    "Abs": ("math.abs", {}),
    "Absolute": ("math.abs", {}),
    "Exp": ("math.exp", {}),
    "Log": ("math.log", {}),
    "Sqrt": ("math.sqrt", {}),
    "Square": ("math.square", {}),
    "Negative": ("math.negative", {}),
    "Matmul": ("linalg.matmul", {}),
    "Relu": ("nn.relu", {}),
    "Relu6": ("nn.relu6", {}),
    "Sigmoid": ("math.sigmoid", {}),
    "Tanh": ("math.tanh", {}),
    "Silu": ("nn.silu", {}),
    "Softmax": ("nn.softmax", {"axis": "axis"}),
    "TrueDivide": ("math.divide", {}),
    "Divide": ("math.divide", {}),
    "Subtract": ("math.subtract", {}),
    "Add": ("math.add", {}),
    "Multiply": ("math.multiply", {}),
    "Maximum": ("math.maximum", {}),
    "Minimum": ("math.minimum", {}),
}
# The same functions under the names that tf_keras records them by.
_ALIASES = {
    "__operators__.add": "math.add",
    "nn.sigmoid": "math.sigmoid",
    "nn.tanh": "math.tanh",
    "nn.swish": "nn.silu",
    "math.truediv": "math.divide",
    "__operators__.truediv": "math.divide",
    "compat.v1.transpose": "transpose",
    "compat.v1.squeeze": "squeeze",
    "compat.v1.nn.softmax": "nn.softmax",
    "linalg.transpose": "transpose",
    "reduce_mean": "math.reduce_mean",
    "exp": "math.exp",
}
_MERGING = {"Add": "Add", "Multiply": "Multiply", "Subtract": "Subtract", "Maximum": "Maximum", "Minimum": "Minimum"}
_GET_ITEM = "__operators__.getitem"
_CONCAT = "concat"


def is_operation(layer: Any) -> bool:
    """Whether an entry of the graph is an operation rather than a layer."""
    return type(layer).__name__ in ("TFOpLambda", "SlicingOpLambda") or not hasattr(layer, "get_weights")


def cross_operation(operation: Any, to: Api) -> Apply:
    """A function of (args, kwargs) on tensors of the other Keras.

    Raises:
        Uncrossable: the operation is in no table.

    """
    if to == "tf_keras":
        return _to_tf_keras(operation)
    return _to_keras(operation)


def _to_tf_keras(operation: Any) -> Apply:
    import tensorflow as tf
    import tf_keras

    kind, name = type(operation).__name__, operation.name
    if kind == "GetItem":
        return lambda tensor, key: tensor[key]
    if kind == "Concatenate":
        return lambda tensors: tf_keras.layers.Concatenate(axis=operation.axis, name=name)(list(tensors))
    if kind not in _SYMBOLS or not type(operation).__module__.startswith("keras."):
        raise Uncrossable(f"tf_keras has no operation {kind}")
    symbol, settings = _SYMBOLS[kind]
    function = _resolved(tf, symbol)
    fixed = {argument: getattr(operation, attribute) for argument, attribute in settings.items()}
    if symbol == "reshape":
        fixed["shape"] = [-1 if size is None else size for size in fixed["shape"]]

    def apply(*args: Any) -> Any:
        merged = _merged(kind, args, tf_keras.layers, name)
        return function(*args, **fixed, name=name) if merged is None else merged

    return apply


def _merged(kind: str, args: tuple[Any, ...], layers: Any, name: str) -> Any:
    """Two tensors through a merging layer, a tensor and a number through Rescaling; None where neither fits."""
    if len(args) != 2:
        return None
    if all(is_tensor(arg) for arg in args):
        return getattr(layers, _MERGING[kind])(name=name)(list(args)) if kind in _MERGING else None
    if not is_tensor(args[0]) and kind in ("Add", "Multiply"):
        args = args[::-1]
    tensor, number = args
    if not is_tensor(tensor) or not isinstance(number, int | float):
        return None
    scales = {"Add": (1.0, number), "Subtract": (1.0, -number), "Multiply": (number, 0.0)}
    scales |= {"TrueDivide": (1.0 / number, 0.0), "Divide": (1.0 / number, 0.0)} if number else {}
    if kind not in scales:
        return None
    scale, offset = scales[kind]
    return layers.Rescaling(scale=scale, offset=offset, name=name)(tensor)


def _to_keras(operation: Any) -> Apply:
    import keras

    if type(operation).__name__ == "SlicingOpLambda":
        return lambda tensor, key: tensor[_slices(key)]
    symbol = _ALIASES.get(operation.symbol, operation.symbol)
    if symbol == _CONCAT:
        return lambda values, axis, **_: keras.layers.Concatenate(axis=axis, name=operation.name)(list(values))
    kind = next((kind for kind, (known, _) in _SYMBOLS.items() if known == symbol), None)
    if kind is None:
        raise Uncrossable(f"Keras 3 has no operation {operation.symbol}")
    function = getattr(keras.ops, "divide" if symbol == "math.divide" else _snake(kind))
    positions = list(_SYMBOLS[kind][1])

    def apply(*args: Any, **kwargs: Any) -> Any:
        kwargs.pop("name", None)
        if not positions:
            operands = (*args, *kwargs.values())
            merged = _merged(kind, operands, keras.layers, operation.name)
            return function(*operands) if merged is None else merged
        tensor, *given = args or (kwargs.pop("input_tensor", None),)
        settings = dict(zip(positions, given, strict=False)) | {k: v for k, v in kwargs.items() if k in positions}
        renamed = {_SYMBOLS[kind][1][key]: value for key, value in settings.items()}
        return function(tensor, **renamed)

    return apply


def _slices(key: Any) -> Any:
    """tf_keras records slices as dictionaries."""
    if isinstance(key, dict) and set(key) == {"start", "stop", "step"}:
        return slice(key["start"], key["stop"], key["step"])
    if isinstance(key, list | tuple):
        return tuple(_slices(entry) for entry in key)
    return key


def _snake(kind: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(kind))


def _resolved(module: Any, path: str) -> Any:
    for part in path.split("."):
        module = getattr(module, part)
    return module
