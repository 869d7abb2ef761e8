"""GRU and LSTM as integer loops.

The projections of the inputs run once over all steps; the loop holds what depends on the state. Gates are int8. The
state is wide, and an int8 copy of it meets the recurrent weights: a gate near 1 moves the state by less than half a
step of 8 bits, and the state would stand still.
"""

from typing import Any

from compress.quantize.lsq.graph import SIGNED_UNIT, WIDE, Builder, Loop


class Untreatable(Exception):
    """Why a layer cannot be written as integer operations."""


def gru(b: Builder, layer: Any, x: str) -> str:
    """The GRU: h' = z h + (1 - z) c, written as c + z (h - c) (Cho et al., 2014)."""
    units, steps = _checked(b, layer, x)
    cell = layer.cell
    after = bool(layer.reset_after)

    def bias(row: int, gate: int) -> Any:
        part = slice(gate * units, (gate + 1) * units)
        return (lambda: cell.bias[row, part]) if after else (lambda: cell.bias[part])

    gates = {"update": 0, "reset": 1, "candidate": 2}
    projected = [_projected(b, cell, x, gate, units, bias(0, k)) for gate, k in gates.items()]
    inner = b.body()
    frames = tuple(_frame(inner, b, name, gate) for name, gate in zip(projected, gates, strict=True))
    state = inner.input("state", (1, units), grid=WIDE)
    hidden = inner.input("hidden", (1, units), grid=SIGNED_UNIT)

    def recurrent(gate: str, given: str) -> str:
        biased = bias(1, gates[gate]) if after and cell.use_bias else None
        return _recurrent(inner, cell, given, gate, gates[gate], units, biased)

    gated = [
        inner.unary("sigmoid", inner.add(frame, recurrent(gate, hidden), what=f"{gate}_sum"), what=gate)
        for gate, frame in zip(("update", "reset"), frames, strict=False)
    ]
    update, reset = gated
    if after:
        within = inner.mul(reset, recurrent("candidate", hidden), what="reset_hidden")
    else:
        within = recurrent("candidate", inner.mul(reset, hidden, what="reset_hidden", grid=SIGNED_UNIT))
    candidate = inner.unary("tanh", inner.add(frames[2], within, what="candidate_sum"), what="candidate")
    wide = inner.unary("requantize", candidate, what="candidate_wide", grid=WIDE)
    gate = inner.unary("requantize", update, what="update_wide", grid=WIDE)
    kept = inner.mul(gate, inner.sub(state, wide, what="change", grid=WIDE), what="kept", grid=WIDE)
    following = inner.add(wide, kept, what="next_state", grid=WIDE)
    emitted = inner.unary("requantize", following, what="next_hidden", grid=SIGNED_UNIT)
    inner.graph.outputs += [following, emitted]
    loop = Loop(inner.graph, frames, (state, hidden), (following, emitted), emitted, bool(layer.return_sequences))
    return b.scan(tuple(projected), loop, steps)


def lstm(b: Builder, layer: Any, x: str) -> str:
    """The LSTM: c' = f c + i g, h' = o tanh(c') (Hochreiter and Schmidhuber, 1997)."""
    units, steps = _checked(b, layer, x)
    cell = layer.cell
    gates = {"input": 0, "forget": 1, "cell": 2, "output": 3}
    projected = [
        _projected(b, cell, x, gate, units, lambda k=k: cell.bias[k * units : (k + 1) * units])
        for gate, k in gates.items()
    ]
    inner = b.body()
    frames = tuple(_frame(inner, b, name, gate) for name, gate in zip(projected, gates, strict=True))
    state = inner.input("state", (1, units), grid=WIDE)
    hidden = inner.input("hidden", (1, units), grid=SIGNED_UNIT)
    wide = {}
    for (gate, k), frame in zip(gates.items(), frames, strict=True):
        within = _recurrent(inner, cell, hidden, gate, k, units, None)
        total = inner.add(frame, within, what=f"{gate}_sum")
        value = inner.unary("tanh" if gate == "cell" else "sigmoid", total, what=gate)
        wide[gate] = inner.unary("requantize", value, what=f"{gate}_wide", grid=WIDE)
    kept = inner.mul(wide["forget"], state, what="kept", grid=WIDE)
    written = inner.mul(wide["input"], wide["cell"], what="written", grid=WIDE)
    following = inner.add(kept, written, what="next_state", grid=WIDE)
    squashed = inner.unary("tanh", following, what="squashed", grid=WIDE)
    shown = inner.mul(wide["output"], squashed, what="shown", grid=WIDE)
    emitted = inner.unary("requantize", shown, what="next_hidden", grid=SIGNED_UNIT)
    inner.graph.outputs += [following, emitted]
    loop = Loop(inner.graph, frames, (state, hidden), (following, emitted), emitted, bool(layer.return_sequences))
    return b.scan(tuple(projected), loop, steps)


def _checked(b: Builder, layer: Any, x: str) -> tuple[int, int]:
    """The units and steps of a recurrent layer. Raises Untreatable for a form that the loops do not have."""
    names = (layer.activation.__name__, layer.recurrent_activation.__name__)
    if names != ("tanh", "sigmoid"):
        raise Untreatable(f"activations {names[0]} and {names[1]}; the integer cell has tanh and sigmoid")
    for what in ("go_backwards", "return_state", "stateful"):
        if getattr(layer, what):
            raise Untreatable(f"{what} is set")
    return int(layer.units), b.graph.shape(x)[1]


def _projected(b: Builder, cell: Any, x: str, gate: str, units: int, bias: Any) -> str:
    """One gate's share of the input: [B, T, in] -> [B, T, units]."""
    k = ("update", "reset", "candidate").index(gate) if hasattr(cell, "reset_after") else None
    k = ("input", "forget", "cell", "output").index(gate) if k is None else k
    width = b.graph.shape(x)[-1]
    part = slice(k * units, (k + 1) * units)
    kernel = b.weight(f"{gate}_kernel", "kernel", (width, units), lambda: cell.kernel[:, part])
    shift = b.weight(f"{gate}_bias", "bias", (units,), bias) if cell.use_bias else None
    return b.dense(x, kernel, shift, what=f"{gate}_input")


def _recurrent(b: Builder, cell: Any, hidden: str, gate: str, k: int, units: int, bias: Any) -> str:
    part = slice(k * units, (k + 1) * units)
    kernel = b.weight(f"{gate}_recurrent_kernel", "kernel", (units, units), lambda: cell.recurrent_kernel[:, part])
    shift = None if bias is None else b.weight(f"{gate}_recurrent_bias", "bias", (units,), bias)
    return b.dense(hidden, kernel, shift, what=f"{gate}_hidden")


def _frame(inner: Builder, outer: Builder, projected: str, gate: str) -> str:
    """The body's input for one step of a projection."""
    shape = outer.graph.shape(projected)
    return inner.input(f"{gate}_frame", (1, *shape[2:]), like=projected)
