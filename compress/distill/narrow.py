"""A student made by shrinking the teacher: the same graph of layers with fewer channels in each, untrained.

Howard et al., "MobileNets", 2017 (arXiv:1704.04861), section 3.3: a width multiplier a makes N channels a N; the
multiply-accumulates fall with about a^2.
"""

from typing import Any

from edge.errors import BadModel

# The setting that holds the number of channels, by layer type.
CHANNELS = {
    **dict.fromkeys(("Dense", "GRU", "LSTM", "SimpleRNN"), "units"),
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), "filters"),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), "filters"),
    "Embedding": "output_dim",
    "MultiHeadAttention": "key_dim",
}


def channels(width: float, n: int) -> int:
    """N channels times `width`, rounded, at least 1."""
    return max(1, round(width * n))


def narrow(model: Any, width: float, seed: int = 0) -> Any:
    """A Keras 3 model with `width` times the channels in all layers but those that make its outputs.

    Raises:
        BadModel: a model within the model, or the narrower layers do not fit together (a residual sum with the input,
            a reshape to a fixed shape).

    """
    import keras

    inner = [layer.name for layer in model.layers if hasattr(layer, "layers")]
    if inner:
        raise BadModel(f"{inner[0]!r} is a model within the model, which cannot be made narrower", "name a student")
    last = making_outputs(model)

    def copy(layer: Any) -> Any:
        config = layer.get_config()
        setting = CHANNELS.get(type(layer).__name__)
        if setting is not None and layer.name not in last:
            config[setting] = channels(width, config[setting])
        return type(layer).from_config(config)

    keras.utils.set_random_seed(seed)
    try:
        return keras.models.clone_model(model, clone_function=copy)
    except (ValueError, TypeError) as error:
        first = str(error).strip().splitlines()[0][:200]
        raise BadModel(f"model {model.name!r} cannot be made {width:g} as wide: {first}", "name a student") from error


def making_outputs(model: Any) -> set[str]:
    """The layers with channels from which a path leads to an output without another such layer."""
    found: set[str] = set()
    waiting, seen = list(model.outputs), set()
    while waiting:
        tensor = waiting.pop()
        operation, node = tensor._keras_history.operation, tensor._keras_history.node_index  # noqa: SLF001 - Keras has no public way to ask
        if (operation.name, node) in seen:
            continue
        seen.add((operation.name, node))
        if type(operation).__name__ in CHANNELS:
            found.add(operation.name)
        else:
            waiting += operation._inbound_nodes[node].input_tensors  # noqa: SLF001 - as above
    return found
