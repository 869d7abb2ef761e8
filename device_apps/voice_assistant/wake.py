"""Wake words: models that give a probability for each hop, and the rule that makes one decision of them.

A model's probabilities are averaged over a short window and held against its operating point. After a decision nothing
is decided for a while, for any word: two wake words at once are one.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from device_apps.voice_assistant.sound import RATE_HZ, Samples
from edge.audio_features import Features, FeatureStream
from edge.engines import Engine
from edge.errors import BadModel, RuntimeMissing
from edge.streaming import Stream, states
from edge.tensors import TensorSpec, dequantize, quantize

Scores = npt.NDArray[np.float32]
MICRO_BANDS = 40
MICRO_CHUNK = 160


@dataclass(frozen=True)
class OperatingPoint:
    """A word is heard where the mean of `window` probabilities is above `threshold`."""

    threshold: float
    window: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1 or not 1 <= self.window <= 100:
            raise ValueError("threshold is between 0 and 1, window 1 to 100")


class WakeModel(Protocol):
    """A streaming model; its state is its own."""

    @property
    def hop(self) -> int:
        """Samples from one score to the next."""
        ...

    def push(self, samples: Samples) -> Scores:
        """The next samples [n]; the probabilities that they complete [0 or more]."""
        ...

    def reset(self) -> None:
        """Start anew, as if nothing had been heard."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Wake:
    """A wake word that was heard: when (sample number), and its mean probability."""

    word: str
    at: int
    score: float


class Detector:
    """Several wake words on one stream of sound."""

    def __init__(
        self, models: Mapping[str, WakeModel], points: Mapping[str, OperatingPoint], refractory_s: float = 2.0
    ) -> None:
        self._models, self._points = dict(models), dict(points)
        self._refractory = round(refractory_s * RATE_HZ)
        self._recent = {word: deque[float](maxlen=self._points[word].window) for word in models}
        self._heard = 0
        self._deaf_until = 0
        self.scores: dict[str, float] = dict.fromkeys(models, 0.0)

    def push(self, samples: Samples) -> Wake | None:
        """The next samples [n]; the word that was heard in them, the clearest where there are several."""
        self._heard += len(samples)
        found: list[tuple[float, Wake]] = []
        for word, model in self._models.items():
            point, recent = self._points[word], self._recent[word]
            best = 0.0
            for score in model.push(samples):
                recent.append(float(score))
                mean = sum(recent) / len(recent) if len(recent) == point.window else 0.0
                best = max(best, mean)
                self.scores[word] = mean
            if best > point.threshold:
                margin = (best - point.threshold) / (1 - point.threshold)
                found.append((margin, Wake(word, self._heard, best)))
        if not found or self._heard < self._deaf_until:
            return None
        self._deaf_until = self._heard + self._refractory
        return max(found, key=lambda one: one[0])[1]

    def be_deaf(self, seconds: float) -> None:
        """Decide nothing for so long from now on; the models go on hearing."""
        self._deaf_until = max(self._deaf_until, self._heard + round(seconds * RATE_HZ))

    def reset(self) -> None:
        """Start anew, as if nothing had been heard."""
        self._heard = self._deaf_until = 0
        for word, model in self._models.items():
            model.reset()
            self._recent[word].clear()
            self.scores[word] = 0.0

    def close(self) -> None:
        """Free the models."""
        for model in self._models.values():
            model.close()


class StepWake:
    """A one-step form of this toolkit: frames [1, n, bands] (or with a channel axis) to a probability.

    What it carries is as `carried_by` says; a model that keeps its state itself carries nothing. Of two or more classes
    the last one is the wake word.

    Raises:
        BadModel: it takes no frames of the features' length.

    """

    def __init__(self, engine: Engine, features: Features) -> None:
        carried = carried_by(engine)
        taken = [spec for spec in engine.inputs if spec.name not in carried]
        given = [spec for spec in engine.outputs if spec.name not in carried.values()]
        if len(taken) != 1 or len(given) != 1:
            raise BadModel(
                f"a wake model takes frames and gives a probability; this one takes {[s.name for s in taken]} "
                f"and gives {[s.name for s in given]}"
            )
        self._input, self._output = taken[0], given[0]
        self._frames = _frames_of(self._input, features.length)
        self._engine, self._stream, self._features = engine, Stream(engine, carried), FeatureStream(features)
        self.hop = features.hop * self._frames
        self._waiting = np.zeros((0, features.length), np.float32)

    def push(self, samples: Samples) -> Scores:
        self._waiting = np.concatenate([self._waiting, self._features.push(samples)])
        scores = []
        while len(self._waiting) >= self._frames:
            taken, self._waiting = self._waiting[: self._frames], self._waiting[self._frames :]
            fed = quantize(taken.reshape([length or 1 for length in self._input.shape]), self._input)
            outputs = self._stream.run({self._input.name: fed})
            scores.append(float(np.ravel(dequantize(outputs[self._output.name], self._output))[-1]))
        return np.array(scores, np.float32)

    def reset(self) -> None:
        self._features.reset()
        self._stream.reset()
        self._waiting = self._waiting[:0]

    def close(self) -> None:
        self._engine.close()


class MicroWake:
    """A model of microWakeWord: 40 bands of TensorFlow Lite Micro's audio front end, every 10 ms, three at a time.

    The front end is the package pymicro-features; the model keeps its own state.

    Raises:
        BadModel: it takes other frames.
        RuntimeMissing: pymicro-features is not installed.

    """

    def __init__(self, engine: Engine) -> None:
        try:
            from pymicro_features import MicroFrontend
        except ImportError:
            raise RuntimeMissing("pymicro-features is not installed", "pip install 'edgetool[apps]'") from None
        self._engine = engine
        (self._input,), (self._output,) = engine.inputs, engine.outputs
        self._frames = _frames_of(self._input, MICRO_BANDS)
        self._front_end: Any = MicroFrontend()
        self._left = b""
        self._waiting: list[list[float]] = []
        self.hop = MICRO_CHUNK * self._frames

    def push(self, samples: Samples) -> Scores:
        pcm = np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes()
        self._left += pcm
        scores = []
        while len(self._left) >= 2 * MICRO_CHUNK:
            made = self._front_end.process_samples(self._left[: 2 * MICRO_CHUNK])
            self._left = self._left[2 * made.samples_read :]
            if made.features:
                self._waiting.append(made.features)
            if len(self._waiting) == self._frames:
                frames = np.array(self._waiting, np.float32).reshape([length or 1 for length in self._input.shape])
                self._waiting.clear()
                given = self._engine.run({self._input.name: quantize(frames, self._input)})
                scores.append(float(np.ravel(dequantize(given[self._output.name], self._output))[-1]))
        return np.array(scores, np.float32)

    def reset(self) -> None:
        self._front_end.reset()
        self._engine.reset()
        self._left = b""
        self._waiting.clear()

    def close(self) -> None:
        self._engine.close()


def carried_by(engine: Engine) -> dict[str, str]:
    """The states of a one-step form: names that are inputs and outputs (.tflite), or an output `x_out` for an input `x`
    (.onnx, where no name is both).
    """
    given = {spec.name for spec in engine.outputs}
    pairs = {spec.name: f"{spec.name}_out" for spec in engine.inputs if f"{spec.name}_out" in given}
    return states(engine) | pairs


def _frames_of(spec: TensorSpec, bands: int) -> int:
    """How many frames an input takes at a time. Raises BadModel: it takes none of so many bands."""
    lengths = [length or 1 for length in spec.shape if length != 1]
    if lengths == [bands]:
        return 1
    if len(lengths) == 2 and bands in lengths and lengths[-1] == bands:
        return lengths[0]
    raise BadModel(f"input {spec.name!r} of shape {list(spec.shape)} takes no frames of {bands} bands")
