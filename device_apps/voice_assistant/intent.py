"""Text to an intent with its slots, or an honest "I don't know"."""

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from device_apps.voice_assistant.recognise import softmax
from edge.engines import Engine
from edge.errors import BadInput, BadModel, RuntimeMissing
from edge.tensors import dequantize

MAX_TEXT = 500
MAX_SENTENCES = 1 << 20
PADDING, UNKNOWN = 0, 1
_WORD = re.compile(r"[a-z0-9']+")


@dataclass(frozen=True)
class Understood:
    """What somebody wants; `intent` is None where that is not known, and `why` says why."""

    intent: str | None
    slots: Mapping[str, str] = field(default_factory=dict)
    confidence: float = 0.0
    why: str = ""


class IntentModel(Protocol):
    """One of what understands text."""

    def __call__(self, text: str) -> Understood:
        """An intent with its slots, or none with the reason."""
        ...


class Sentences:
    """Home Assistant's templates of sentences ("turn (on|off) [the] {name}"), by the package hassil.

    Raises:
        RuntimeMissing: hassil is not installed.
        BadInput: the file cannot be read, or holds no such templates.

    """

    def __init__(self, path: Path) -> None:
        try:
            import hassil
        except ImportError:
            raise RuntimeMissing("the package hassil is not installed", "pip install 'edgetool[apps]'") from None
        try:
            content = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"cannot read {path}: {error}") from error
        if len(content) > MAX_SENTENCES:
            raise BadInput(f"{path} has more than {MAX_SENTENCES} characters")
        self._recognize: Any = hassil.recognize_best
        try:
            self._intents = hassil.Intents.from_yaml(io.StringIO(content))
            self.names = tuple(self._intents.intents)
            self("nothing of the kind")  # templates that cannot be parsed say so now
        except Exception as error:  # hassil and yaml share no class, and both parse what a user wrote
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise BadInput(f"{path} holds no sentences that hassil takes: {reason}") from error

    def __call__(self, text: str) -> Understood:
        found = self._recognize(text[:MAX_TEXT], self._intents)
        if found is None:
            return Understood(None, why="no sentence is like it")
        slots = {name: str(entity.value) for name, entity in found.entities.items()}
        return Understood(found.intent.name, slots, 1.0)


@dataclass(frozen=True)
class Vocabulary:
    """What a classifier's numbers mean. `words` are counted from 2 (0 pads, 1 is any other word).

    `tags` are "O", "B-slot" and "I-slot". `threshold` is the confidence below which the intent is not known,
    `temperature` what the logits are divided by before (Guo et al., "On calibration of modern neural networks", 2017).
    """

    words: tuple[str, ...]
    intents: tuple[str, ...]
    tags: tuple[str, ...]
    length: int
    threshold: float
    temperature: float = 1.0

    def ids(self, tokens: Sequence[str]) -> npt.NDArray[np.int32]:
        """Words to numbers, padded or cut: [length]."""
        number = {word: at + 2 for at, word in enumerate(self.words)}
        ids = np.full(self.length, PADDING, np.int32)
        taken = tokens[: self.length]
        ids[: len(taken)] = [number.get(token, UNKNOWN) for token in taken]
        return ids


def read_vocabulary(content: bytes) -> Vocabulary:
    """A vocabulary as JSON. Raises BadInput: it is damaged."""
    try:
        data = json.loads(content)
        found = Vocabulary(
            tuple(map(str, data["words"])),
            tuple(map(str, data["intents"])),
            tuple(map(str, data["tags"])),
            int(data["length"]),
            float(data["threshold"]),
            float(data.get("temperature", 1.0)),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput(f"the intents' vocabulary is damaged: {error}") from error
    if not (found.intents and 1 <= found.length <= 512 and 0 <= found.threshold < 1 and found.temperature > 0):
        raise BadInput("the intents' vocabulary has no intents, or a length, threshold or temperature out of range")
    return found


class Classifier:
    """A network from word numbers [1, length] to intents [1, n] and, where it has them, tags [1, length, m].

    Raises:
        BadModel: its outputs fit the vocabulary's intents and tags not.

    """

    def __init__(self, engine: Engine, vocabulary: Vocabulary) -> None:
        self._engine, self._vocabulary = engine, vocabulary
        (self._input,) = engine.inputs
        by_rank = {len(spec.shape): spec for spec in engine.outputs}
        if 2 not in by_rank or by_rank[2].shape[-1] != len(vocabulary.intents):
            raise BadModel(f"the classifier gives no [1, {len(vocabulary.intents)}] for its intents")
        self._intents, self._tags = by_rank[2], by_rank.get(3)
        if self._tags is not None and self._tags.shape[-1] != len(vocabulary.tags):
            raise BadModel(
                f"the classifier gives {self._tags.shape[-1]} tags; the vocabulary has {len(vocabulary.tags)}"
            )

    def __call__(self, text: str) -> Understood:
        tokens = _WORD.findall(text[:MAX_TEXT].lower())
        if not tokens:
            return Understood(None, why="nothing was said")
        ids = self._vocabulary.ids(tokens)[None].astype(self._input.dtype)
        outputs = self._engine.run({self._input.name: ids})
        scores = np.ravel(dequantize(outputs[self._intents.name], self._intents)).astype(np.float64)
        is_probability = bool((scores >= 0).all() and abs(scores.sum() - 1) < 0.05)
        logits = np.log(np.maximum(scores, 1e-9)) if is_probability else scores
        probabilities = softmax(logits / self._vocabulary.temperature)
        best = int(probabilities.argmax())
        confidence = float(probabilities[best])
        if confidence < self._vocabulary.threshold:
            return Understood(None, {}, confidence, "not sure enough")
        slots = {}
        if self._tags is not None:
            rows = np.asarray(dequantize(outputs[self._tags.name], self._tags))[0]
            names = [self._vocabulary.tags[int(row.argmax())] for row in rows[: len(tokens)]]
            slots = slots_of(tokens, names)
        return Understood(self._vocabulary.intents[best], slots, confidence)


class FirstOf:
    """The first that knows: sentences before a classifier."""

    def __init__(self, models: Sequence[IntentModel]) -> None:
        self._models = tuple(models)

    def __call__(self, text: str) -> Understood:
        unknown = Understood(None, why="no intents are set up")
        for model in self._models:
            unknown = model(text)
            if unknown.intent is not None:
                return unknown
        return unknown


class Said:
    """Every text is the intent "Said" with the slot "text": for dictation, and to see what is heard."""

    def __call__(self, text: str) -> Understood:
        if not text:
            return Understood(None, why="nothing was understood")
        return Understood("Said", {"text": text}, 1.0)


def slots_of(tokens: Sequence[str], tags: Sequence[str]) -> dict[str, str]:
    """B-/I- tags of tokens to the text of each slot; of a slot that occurs twice the first."""
    slots: dict[str, str] = {}
    name, words = "", list[str]()
    for token, tag in (*zip(tokens, tags, strict=False), ("", "O")):
        kind, _, slot = tag.partition("-")
        if kind == "I" and slot == name:
            words.append(token)
            continue
        if name:
            slots.setdefault(name, " ".join(words))
        name, words = (slot, [token]) if kind in {"B", "I"} else ("", [])
    return slots


def refusal_threshold(known: npt.NDArray[Any], most_refused: float = 0.05) -> float:
    """The confidence below which at most this share of known sentences [n] lies: what "I don't know" starts at."""
    return float(np.quantile(known, most_refused))
