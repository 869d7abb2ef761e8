"""A runtime that needs none: known outputs, a settable latency, and crashes and hangs on demand.

It has the interface of the real engines, so tests and the calibration of the gates run the same code
paths as real models do. A fake model is a JSON file of `FakeModel`'s fields.
"""

import dataclasses
import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.engines.feeds import check
from edge.errors import BadModel, UnknownName
from edge.report import FallbackOp, Placement, from_plain
from edge.tensors import TensorSpec, quantize

DELEGATES = ("cpu", "planted")
VECTOR = (TensorSpec("input", (1, 4), "float32"),)
SCORES = (TensorSpec("output", (1, 3), "float32"),)


@dataclass(frozen=True)
class FakeModel:
    """What a fake runs like. Call 0 is the load; the first run is call 1.

    Each run busy-waits `latency_ms` times (1 + `slowdown`). `crash_at` ends the process with
    `crash_signal` at that call, `hang_at` stops it for good; None does neither.

    What is `planted_` happens on the delegate "planted" only, so that "cpu" stays the truth to compare with: the
    operations that the delegate lacks, what is added to its outputs, the milliseconds its first run takes longer,
    and a crash or a hang at that call.
    """

    inputs: tuple[TensorSpec, ...] = VECTOR
    outputs: tuple[TensorSpec, ...] = SCORES
    latency_ms: float = 0.0
    slowdown: float = 0.0
    crash_at: int | None = None
    crash_signal: str = "SIGSEGV"
    hang_at: int | None = None
    planted_fallback: tuple[str, ...] = ()
    planted_wrong: float = 0.0
    planted_slow_first_ms: float = 0.0
    planted_crash_at: int | None = None
    planted_hang_at: int | None = None

    def __post_init__(self) -> None:
        if min(self.latency_ms, self.slowdown, self.planted_slow_first_ms) < 0:
            raise BadModel(f"a fake model takes no negative time: {self.latency_ms} ms, slowdown {self.slowdown}")
        if self.crash_signal not in signal.Signals.__members__:
            raise UnknownName("signal", self.crash_signal, signal.Signals.__members__)

    def to_bytes(self) -> bytes:
        """The content of a fake model's file."""
        return json.dumps(dataclasses.asdict(self)).encode()


class FakeEngine:
    """Runs a `FakeModel`. Output element k is cos(sum of all inputs + k), quantized as its spec asks."""

    name = "fake"

    def __init__(self, model: Path | bytes, delegate: str) -> None:
        if delegate not in DELEGATES:
            raise UnknownName("fake delegate", delegate, DELEGATES)
        try:
            self._model: FakeModel = from_plain(
                FakeModel, json.loads(model if isinstance(model, bytes) else model.read_bytes())
            )
        except (ValueError, TypeError, AttributeError) as error:
            raise BadModel(f"not a fake model: {error}") from None
        self._delegate = delegate
        if delegate == "cpu":
            self._model = dataclasses.replace(
                self._model,
                planted_fallback=(),
                planted_wrong=0.0,
                planted_slow_first_ms=0.0,
                planted_crash_at=None,
                planted_hang_at=None,
            )
        self.inputs, self.outputs = self._model.inputs, self._model.outputs
        self._views: dict[str, npt.NDArray[Any]] = {}
        self._calls = 0
        self._misbehave()

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Inputs by name to outputs by name, after the set latency.

        Raises:
            BadData: a feed does not fit its input.

        """
        first_ms = 0.0 if self._calls else self._model.planted_slow_first_ms
        end = time.perf_counter_ns() + int((self._model.latency_ms * (1 + self._model.slowdown) + first_ms) * 1e6)
        check(self.inputs, feeds)
        self._calls += 1
        self._misbehave()
        total = sum(float(np.sum(array, dtype=np.float64)) for array in feeds.values())
        outputs = {spec.name: _cosines(spec, total, self._model.planted_wrong) for spec in self.outputs}
        while time.perf_counter_ns() < end:
            pass
        return outputs

    def views(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays of zeros, the same at every call."""
        if not self._views:
            self._views = {
                spec.name: np.zeros([n or 1 for n in spec.shape], np.dtype(spec.dtype)) for spec in self.inputs
            }
        return self._views

    def reset(self) -> None:
        """Nothing is kept from run to run."""

    def placement(self) -> Placement:
        """One operation where it was asked for, and the planted ones beside it."""
        lacks = self._model.planted_fallback
        fallback = tuple(FallbackOp(op, "planted: the delegate lacks it") for op in lacks)
        return Placement(self._delegate, self._delegate, 1, 1 + len(lacks), fallback, partitions=1)

    def close(self) -> None:
        """Nothing to free."""

    def _misbehave(self) -> None:
        if self._calls in (self._model.crash_at, self._model.planted_crash_at):
            os.kill(os.getpid(), signal.Signals[self._model.crash_signal])
        while self._calls in (self._model.hang_at, self._model.planted_hang_at):
            time.sleep(1)


def _cosines(spec: TensorSpec, total: float, added: float) -> npt.NDArray[Any]:
    shape = tuple(length or 1 for length in spec.shape)
    values = np.cos(total + np.arange(np.prod(shape, dtype=int), dtype=np.float64)) + added
    return quantize(values.reshape(shape).astype(np.float32), spec)
