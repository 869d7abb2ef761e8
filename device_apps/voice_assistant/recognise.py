"""Speech to text: one small Protocol, and what is behind it. Sound goes in while it is spoken: the end is quick."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from device_apps.voice_assistant.activity import EnergyActivity
from device_apps.voice_assistant.slaney import log_mel, standardised
from device_apps.voice_assistant.sound import RATE_HZ, Samples
from device_apps.voice_assistant.wake import carried_by
from edge.audio_features import Features, FeatureStream
from edge.engines import Engine
from edge.errors import BadInput, BadModel, EnvironmentFailed, RuntimeMissing
from edge.streaming import Stream
from edge.tensors import dequantize, quantize

MIN_WORD_S, MIN_PEAK = 0.1, 0.15
MAX_S = 32.0  # more than the longest command that is waited for
Picture = Callable[[Samples], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Transcript:
    """What was understood, and how sure that is: 0..1, the least sure word's."""

    text: str
    confidence: float


class Recogniser(Protocol):
    """Hears one command after another: start, push …, finish."""

    def start(self) -> None:
        """A new command begins."""
        ...

    def push(self, samples: Samples) -> None:
        """The next samples [n]."""
        ...

    def finish(self) -> Transcript:
        """The command is over."""
        ...

    def close(self) -> None: ...


class WordWindows:
    """Words with pauses between them, each a window to a class: letters, digits, keywords.

    A word is a run of speech; its middle is the middle of the window. Classes whose name begins with `_` ("_silence_",
    "_unknown_") are no words.

    Raises:
        BadModel: there are more or fewer classes than labels.

    """

    def __init__(self, engine: Engine, labels: Sequence[str], picture: Picture, window: int = RATE_HZ) -> None:
        self._engine, self._labels, self._picture, self._window = engine, tuple(labels), picture, window
        self._input, self._output = engine.inputs[0], engine.outputs[0]
        classes = self._output.shape[-1]
        if classes != len(self._labels):
            raise BadModel(f"the recogniser gives {classes} classes, and there are {len(self._labels)} labels")
        self.start()

    def start(self) -> None:
        self._activity = EnergyActivity()
        self._pieces: list[Samples] = []
        self._flags: list[bool] = []

    def push(self, samples: Samples) -> None:
        if len(self._flags) * self._activity.hop < MAX_S * RATE_HZ:
            self._pieces.append(samples)
            self._flags += self._activity.push(samples).tolist()

    def finish(self) -> Transcript:
        sound = np.concatenate([np.zeros(0, np.float32), *self._pieces])
        words, sure = [], []
        for begin, end in self._words(sound):
            label, probability = self.classify(sound, (begin + end) * self._activity.hop // 2)
            if not label.startswith("_"):
                words.append(label)
                sure.append(probability)
        self.start()
        return Transcript(" ".join(words), min(sure, default=0.0))

    def _words(self, sound: Samples) -> list[tuple[int, int]]:
        """The runs of speech that are words, in hops: long enough, and not far below the loudest (breath, a click)."""
        hop = self._activity.hop
        found = [(begin, end) for begin, end in runs(self._flags) if (end - begin) * hop >= MIN_WORD_S * RATE_HZ]
        peaks = [float(np.abs(sound[begin * hop : end * hop]).max(initial=0.0)) for begin, end in found]
        return [one for one, peak in zip(found, peaks, strict=True) if peak >= MIN_PEAK * max(peaks)]

    def classify(self, sound: Samples, middle: int) -> tuple[str, float]:
        """The class of the window around a sample, and its probability."""
        begin = middle - self._window // 2
        padded = np.pad(sound, (max(0, -begin), max(0, begin + self._window - len(sound))))
        taken = padded[max(0, begin) : max(0, begin) + self._window]
        shape = [length or 1 for length in self._input.shape]
        fed = quantize(self._picture(taken).reshape(shape), self._input)
        given = np.ravel(dequantize(self._engine.run({self._input.name: fed})[self._output.name], self._output))
        probabilities = given if _is_distribution(given) else softmax(given)
        best = int(probabilities.argmax())
        return self._labels[best], float(probabilities[best])

    def close(self) -> None:
        self._engine.close()


class CtcWords:
    """A streaming recogniser of a small vocabulary: one step of frames to classes, blank last; the best path.

    Graves et al., "Connectionist Temporal Classification", 2006, section 3.2: repeated classes are one, blanks none.

    Raises:
        BadModel: it does not take frames of the features, or gives no class for the blank.

    """

    def __init__(self, engine: Engine, labels: Sequence[str], features: Features) -> None:
        carried = carried_by(engine)
        (self._input,) = (spec for spec in engine.inputs if spec.name not in carried)
        (self._output,) = (spec for spec in engine.outputs if spec.name not in carried.values())
        if self._output.shape[-1] != len(labels) + 1:
            raise BadModel(
                f"the recogniser gives {self._output.shape[-1]} classes; {len(labels)} words and a blank are expected"
            )
        if self._input.shape[-1] != features.length:
            raise BadModel(f"the recogniser takes frames of {self._input.shape[-1]}, not {features.length}")
        self._engine, self._labels = engine, tuple(labels)
        self._stream, self._frames = Stream(engine, carried), FeatureStream(features)
        self.start()

    def start(self) -> None:
        self._stream.reset()
        self._frames.reset()
        self._best: list[tuple[int, float]] = []

    def push(self, samples: Samples) -> None:
        for frame in self._frames.push(samples):
            fed = quantize(frame.reshape([length or 1 for length in self._input.shape]), self._input)
            given = np.ravel(dequantize(self._stream.run({self._input.name: fed})[self._output.name], self._output))
            probabilities = given if _is_distribution(given) else softmax(given)
            best = int(probabilities.argmax())
            self._best.append((best, float(probabilities[best])))

    def finish(self) -> Transcript:
        text, confidence = best_path(self._best, self._labels)
        self.start()
        return Transcript(text, confidence)

    def close(self) -> None:
        self._engine.close()


class Sphinx:
    """PocketSphinx with the US English model of its wheel: what a grammar (JSGF) allows, else any of its words.

    Its probabilities say little; with a grammar, text that fits no rule comes back empty. A weak recogniser.

    Raises:
        RuntimeMissing: pocketsphinx is not installed.
        BadInput: the grammar cannot be read.

    """

    def __init__(self, grammar: str | None = None) -> None:
        try:
            from pocketsphinx import Decoder
        except ImportError:
            raise RuntimeMissing("pocketsphinx is not installed", "pip install pocketsphinx") from None
        options: dict[str, Any] = {"samprate": float(RATE_HZ), "loglevel": "FATAL"}
        self._decoder = Decoder(lm=None, **options) if grammar is not None else Decoder(**options)
        if grammar is not None:
            try:
                self._decoder.add_jsgf_string("commands", grammar)
                self._decoder.activate_search("commands")
            except (RuntimeError, ValueError, KeyError) as error:
                raise BadInput(f"the grammar is no JSGF that PocketSphinx takes: {error}") from error
        self._running = False

    def start(self) -> None:
        self._end()
        self._decoder.start_utt()
        self._running = True

    def push(self, samples: Samples) -> None:
        pcm = np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes()
        if self._running and pcm:
            self._decoder.process_raw(pcm, False, False)

    def finish(self) -> Transcript:
        self._end()
        found = self._decoder.hyp()
        if found is None or not found.hypstr:
            return Transcript("", 0.0)
        probability = float(np.exp(min(0.0, self._decoder.get_logmath().log_to_ln(found.prob))))
        return Transcript(str(found.hypstr), probability)

    def close(self) -> None:
        self._end()

    def _end(self) -> None:
        if self._running:
            self._running = False
            try:
                self._decoder.end_utt()
            except RuntimeError as error:
                raise EnvironmentFailed(f"PocketSphinx failed: {error}") from error


def letters_picture(samples: Samples) -> npt.NDArray[np.float32]:
    """One second [16000] as SpellingCNN takes it: [64, 128]."""
    padded = np.pad(samples, 256, mode="reflect")
    return standardised(log_mel(padded, 125, 64)[:128]).T


def letters_labels(meta: bytes) -> tuple[str, ...]:
    """The classes in SpellingCNN's …_meta.json. Raises BadInput: it has none."""
    try:
        labels = json.loads(meta)["classes"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"no classes in the recogniser's meta.json: {error}") from error
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise BadInput("the classes in the recogniser's meta.json are no texts")
    return tuple(labels)


def runs(flags: Sequence[bool]) -> list[tuple[int, int]]:
    """Where the flags are set: [begin, end) of each run."""
    edges = np.flatnonzero(np.diff(np.r_[False, np.asarray(flags, bool), False].astype(np.int8)))
    return [(int(begin), int(end)) for begin, end in edges.reshape(-1, 2)]


def best_path(best: Sequence[tuple[int, float]], labels: Sequence[str]) -> tuple[str, float]:
    """The words of the best class of each frame with its probability, and the least sure word's best probability."""
    words: list[str] = []
    sure: list[float] = []
    before = len(labels)
    for number, probability in best:
        if number == len(labels):
            pass
        elif number == before:
            sure[-1] = max(sure[-1], probability)
        else:
            words.append(labels[number])
            sure.append(probability)
        before = number
    return " ".join(words), min(sure, default=0.0)


def softmax(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """exp(x) / sum exp(x)."""
    powers = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(powers / powers.sum())


def _is_distribution(values: npt.NDArray[Any]) -> bool:
    return bool((values >= 0).all() and abs(float(values.sum()) - 1) < 0.05)
