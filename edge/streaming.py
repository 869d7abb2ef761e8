"""Models that carry their state as explicit inputs and outputs: hop by hop, what one run gave the next one gets."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.engines import Engine, Feeds, open_engine
from edge.errors import BadData, BadModel, UnknownName

STEP = "step"  # the signature of a .tflite that takes one frame of a sequence and the states


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


def open_step(model: Path | bytes, format: str, *, threads: int = 1) -> Engine:  # noqa: A002  # as in open_engine
    """The one-step form that `quantize.lsq` with `streaming` writes beside the form for whole sequences.

    Raises:
        BadModel: the model has none.

    """
    try:
        return open_engine(model, format, threads=threads, signature=STEP)
    except UnknownName:
        raise BadModel(
            "the model has no one-step form, so it cannot stream", "quantize.lsq with streaming = true writes it"
        ) from None


def states(engine: Engine) -> dict[str, str]:
    """What a one-step form carries: each name that is an input and an output, in the form that `Stream` takes."""
    given = {spec.name for spec in engine.outputs}
    return {spec.name: spec.name for spec in engine.inputs if spec.name in given}


def steps(engine: Engine, example: Mapping[str, npt.NDArray[Any]]) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """The outputs after each frame of one example, whose arrays have no batch axis: [T, ...] is T frames [1, 1, ...].

    Arrays of the shape that the one-step form takes are given with every frame. The states start from zeros.

    Raises:
        BadData: an input is missing or does not fit, or the inputs have no frames or different numbers of them.

    """
    carried = states(engine)
    stream = Stream(engine, carried)
    taken = [spec for spec in engine.inputs if spec.name not in carried]
    for spec in taken:
        if spec.name not in example:
            raise BadData(f"input {spec.name!r} is missing", f"its inputs: {', '.join(one.name for one in taken)}")
    arrays = {spec.name: np.asarray(example[spec.name], spec.dtype) for spec in taken}
    framed = {s.name for s in taken if arrays[s.name].ndim and arrays[s.name].shape != tuple(s.shape[1:])}
    lengths = {len(arrays[name]) for name in framed} or {1}
    if len(lengths) > 1:
        raise BadData(f"inputs of {' and '.join(map(str, sorted(lengths)))} frames do not go together")
    for at in range(lengths.pop()):
        yield stream.run({n: (a[at : at + 1] if n in framed else a)[None] for n, a in arrays.items()})


def _zero(spec: Any) -> npt.NDArray[Any]:
    """Real zero, which is the zero point where the state is quantized."""
    shape = tuple(length or 1 for length in spec.shape)
    return np.full(shape, spec.quantization.zero_point if spec.quantization else 0, np.dtype(spec.dtype))
