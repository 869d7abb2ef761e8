"""Models that carry their state as explicit inputs and outputs: hop by hop, what one run gave the next one gets."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.engines import Engine, Feeds
from edge.errors import BadModel, UnknownName


class Stream:
    """One stream of an engine, which may serve several: the state is here, not in the engine.

    `carried` names the state's input and the output that is its next value: `{"state": "stateN"}`. The state starts
    with zeros, as these models are exported and trained.
    """

    def __init__(self, engine: Engine, carried: Mapping[str, str]) -> None:
        self._engine = engine
        inputs = {spec.name: spec for spec in engine.inputs}
        outputs = {spec.name: spec for spec in engine.outputs}
        for fed, given in carried.items():
            if fed not in inputs:
                raise UnknownName("input to carry a state", fed, inputs)
            if given not in outputs:
                raise UnknownName("output to carry a state", given, outputs)
            if inputs[fed].dtype != outputs[given].dtype or inputs[fed].quantization != outputs[given].quantization:
                raise BadModel(f"output {given!r} cannot be carried to input {fed!r}: they are of different types")
            if None in inputs[fed].shape:
                raise BadModel(f"state {fed!r} has a length that the model does not fix", "export it with fixed shapes")
        self._carried = dict(carried)
        self._start = {name: _zero(inputs[name]) for name in carried}
        self._state: dict[str, npt.NDArray[Any]] = dict(self._start)

    def run(self, feeds: Feeds) -> dict[str, npt.NDArray[Any]]:
        """One hop: inputs without the state, to outputs without it.

        Raises:
            BadData: a feed does not fit its input.
            BadModel: the runtime failed while it ran the model.

        """
        outputs = self._engine.run({**feeds, **self._state})
        for fed, given in self._carried.items():
            self._state[fed] = outputs.pop(given)
        return outputs

    def reset(self) -> None:
        """Start anew, as if nothing had been heard."""
        self._state = dict(self._start)
        self._engine.reset()


def _zero(spec: Any) -> npt.NDArray[Any]:
    """Real zero, which is the zero point where the state is quantized."""
    shape = tuple(length or 1 for length in spec.shape)
    return np.full(shape, spec.quantization.zero_point if spec.quantization else 0, np.dtype(spec.dtype))
