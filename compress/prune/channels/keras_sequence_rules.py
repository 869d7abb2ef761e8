"""How channels pass through recurrent layers (a unit with all its gates) and attention (a head with its slices)."""

from dataclasses import replace
from typing import Any

import numpy as np

from compress.prune.channels.keras_use import POINTWISE, Flows, Use
from compress.prune.channels.structure import FIXED, Flow, Labels, positions

CELLS = frozenset({"GRUCell", "LSTMCell", "SimpleRNNCell"})


def recurrent(use: Use) -> Flows:
    """GRU, LSTM, SimpleRNN: [time, in] -> [time, units] or [units], and the states where they are returned."""
    cell = use.layer.cell
    if type(cell).__name__ not in CELLS or not type(cell).__module__.startswith("keras."):
        return use.stop(f"how channels pass through {type(cell).__name__} inside it is not known")
    if cell is not use.layer and type(use.layer).__name__ == "RNN":
        use = replace(use, path=(*use.path, "cell", "config"))
    units = _units(use, cell)
    for state in range(1, len(use.inputs)):  # initial states, one number a unit
        use.structure.join(use.channels(state), units)
    return [Flow(-1, units)] * len(use.out_shapes)


def _units(use: Use, cell: Any) -> Labels:
    """The units of one cell: column u of each gate of kernel [in, gates * units], row u of the recurrent kernel."""
    into = use.channels()
    units = use.makes(cell.recurrent_kernel, 0, cell.units, "units", role="uses")
    gates = np.tile(units, cell.kernel.shape[1] // cell.units)
    use.slot(cell.kernel, 0, "uses", into)
    use.slot(cell.kernel, 1, "makes", gates)
    use.slot(cell.recurrent_kernel, 1, "makes", gates)
    if cell.bias is not None:  # [gates * units], or [2, gates * units] where the reset gate comes after
        use.slot(cell.bias, len(cell.bias.shape) - 1, "makes", gates)
    steps = positions(use.shapes[0][1:2], use.name)
    use.costs(steps, into, gates)
    use.costs(steps, units, gates)
    for activation in (cell.activation, cell.recurrent_activation if hasattr(cell, "recurrent_activation") else None):
        name = "linear" if activation is None else getattr(activation, "__name__", "")
        if name not in POINTWISE:
            use.structure.keep(units, f"the activation {name} of {use.name} mixes them")
    return units


def bidirectional(use: Use) -> Flows:
    """The two directions have one number of units in the configuration, so unit u goes in both."""
    if len(use.inputs) != 1 or len(use.out_shapes) != 1:
        return use.stop("states are handed in or out")
    directions: list[Labels] = []
    for direction in (use.layer.forward_layer, use.layer.backward_layer):
        kind = type(direction).__name__
        if kind not in ("GRU", "LSTM", "SimpleRNN"):
            return use.stop(f"how channels pass through {kind} inside it is not known")
        part = "backward_layer" if directions and "backward_layer" in use.layer.get_config() else "layer"
        inner = replace(use, layer=direction, path=(*use.path, part, "config"))
        directions.append(_units(inner, direction.cell))
    forward, backward = directions
    if len(forward) != len(backward):
        return use.stop("its directions have different numbers of units")
    use.structure.join(forward, backward)
    return [Flow(-1, np.concatenate([forward, backward]) if use.layer.merge_mode == "concat" else forward)]


def attention(use: Use) -> Flows:
    """MultiHeadAttention: a head is one channel; its slices of the four kernels [in, heads, dim], [heads, dim, out]."""
    layer = use.layer
    refusal = _refused_attention(use)
    if refusal:
        return use.stop(refusal)
    given = dict(zip(("query", "value", "key"), use.arguments.args, strict=False)) | dict(use.arguments.kwargs)
    index = {id(tensor): i for i, tensor in enumerate(use.tensors)}
    query, value = index[id(given["query"])], index[id(given["value"])]
    key = value if given.get("key") is None else index[id(given["key"])]
    heads = use.makes(layer._query_dense.kernel, 1, layer.num_heads, "num_heads", single=True)  # noqa: SLF001 - no public name
    lengths = {i: positions(use.shapes[i][1:-1], use.name) for i in (query, value, key)}
    for projection, i in (
        (layer._query_dense, query),  # noqa: SLF001 - no public name
        (layer._key_dense, key),  # noqa: SLF001 - no public name
        (layer._value_dense, value),  # noqa: SLF001 - no public name
    ):
        into = use.channels(i)
        use.slot(projection.kernel, 0, "uses", into)
        use.slot(projection.kernel, 1, "makes", heads)
        use.slot(projection.bias, 0, "makes", heads)
        use.costs(lengths[i] * projection.kernel.shape[2], into, heads)
    use.costs(lengths[query] * lengths[key] * (layer.key_dim + layer.value_dim), heads)
    output = layer._output_dense  # noqa: SLF001 - no public name
    # Without an output shape of its own the layer gives as many channels as the query has.
    own = layer.get_config()["output_shape"]
    made = use.channels(query) if own is None else np.full(own[0], FIXED)
    use.slot(output.kernel, 0, "uses", heads)
    use.slot(output.kernel, 2, "makes", made)
    use.slot(output.bias, 0, "makes", made)
    use.costs(lengths[query] * layer.value_dim, heads, made)
    return [Flow(-1, made)]


def _refused_attention(use: Use) -> str | None:
    config = use.layer.get_config()
    if config.get("use_gate"):
        return "it has gates"
    if len(use.out_shapes) != 1:
        return "its attention scores are an output"
    if config["output_shape"] is not None and len(config["output_shape"]) != 1:
        return "its output has several axes of channels"
    return None
