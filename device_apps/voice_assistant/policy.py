"""The assistant's one file of settings, voice-assistant.toml: what wakes it, what it understands, what it may do.

```toml
[wake.alexa]
kind = "micro"
model = { file = "wake-alexa.tflite", sha256 = "…" }
threshold = 0.9
window = 5

[activity]
kind = "tiny"
model = { file = "activity.tflite", sha256 = "…" }

[recogniser]
kind = "sphinx"
grammar = "commands.gram"

[intents]
sentences = "sentences.yaml"

[actions.HassTurnOn]
kind = "mqtt"
```
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from device_apps.model_file import ModelFile
from device_apps.mqtt import Broker
from device_apps.toml_settings import read_settings
from device_apps.voice_assistant.act import ActionRule
from device_apps.voice_assistant.endpoint import EndpointRules
from device_apps.voice_assistant.reply import Kind
from device_apps.voice_assistant.sound import RATE_HZ
from device_apps.voice_assistant.wake import OperatingPoint
from device_apps.webhook import WebhookRules
from edge.audio_features import Features, LogMel, Mfcc


@dataclass(frozen=True)
class FeatureRules:
    """What a model of this toolkit hears: log-mel bands, or with `coefficients` the first of their cosine transform."""

    window: int = 512
    hop: int = 160
    bands: int = 40
    coefficients: int = 0
    low_hz: float = 20.0
    high_hz: float = 8000.0
    floor: float = 1e-6

    def features(self) -> Features:
        """Raises BadData: there are no such features."""
        bands = LogMel(RATE_HZ, self.window, self.hop, self.bands, self.low_hz, self.high_hz, self.floor)
        return Mfcc(bands, self.coefficients) if self.coefficients else bands


@dataclass(frozen=True)
class WakeRules:
    """A wake word: "micro" is microWakeWord's, "step" a one-step form of this toolkit."""

    model: ModelFile
    kind: Literal["micro", "step"] = "step"
    threshold: float = 0.9
    window: int = 5
    features: FeatureRules = field(default_factory=FeatureRules)

    def __post_init__(self) -> None:
        self.point()

    def point(self) -> OperatingPoint:
        """Where it is heard. Raises ValueError: out of range."""
        return OperatingPoint(self.threshold, self.window)


@dataclass(frozen=True)
class ActivityRules:
    """Who says that somebody speaks: "energy" needs no model, "tiny" is TinyVAD, "silero" Silero's."""

    kind: Literal["energy", "tiny", "silero"] = "energy"
    model: ModelFile | None = None

    def __post_init__(self) -> None:
        if (self.kind == "energy") != (self.model is None):
            raise ValueError("tiny and silero need a model, energy takes none")


@dataclass(frozen=True)
class RecogniserRules:
    """Speech to text: "letters" is SpellingCNN, "keywords" a window's classes, "ctc" a one-step form with a blank,
    "sphinx" PocketSphinx. `labels` is a file with a word in each line (letters: SpellingCNN's …_meta.json).
    """

    kind: Literal["letters", "keywords", "ctc", "sphinx"] = "sphinx"
    model: ModelFile | None = None
    labels: str = ""
    grammar: str = ""
    features: FeatureRules = field(default_factory=FeatureRules)

    def __post_init__(self) -> None:
        if (self.kind == "sphinx") != (self.model is None):
            raise ValueError("letters, keywords and ctc need a model, sphinx takes none")


@dataclass(frozen=True)
class IntentRules:
    """`sentences` are hassil's templates; `model` is a classifier and `vocabulary` its words. With neither, every
    text is the intent Said. `min_confidence` is the recogniser's, below which a text is not understood.
    """

    sentences: str = ""
    model: ModelFile | None = None
    vocabulary: str = ""
    min_confidence: float = 0.0

    def __post_init__(self) -> None:
        if (self.model is None) != (not self.vocabulary) or not 0 <= self.min_confidence < 1:
            raise ValueError("a model needs its vocabulary; min_confidence is 0 to 1")


@dataclass(frozen=True)
class ReplyRules:
    """How it answers: "auto" is espeak-ng where it is installed, else text."""

    kind: Kind = "auto"
    piper_model: str = ""


@dataclass(frozen=True)
class FeedbackRules:
    """With `keep` a trigger that somebody calls wrong is kept, sealed, for `days`. Nothing is kept otherwise."""

    keep: bool = False
    days: int = 14

    def __post_init__(self) -> None:
        if not 1 <= self.days <= 90:
            raise ValueError("days is 1 to 90")


@dataclass(frozen=True)
class HomeRules:
    """`discovery` begins Home Assistant's own topics; `lock_topic` is the door lock's, to tell whether it is locked."""

    discovery: str = "homeassistant"
    lock_topic: str = "edgetool/door-lock"

    def __post_init__(self) -> None:
        if not self.discovery or set(self.discovery + self.lock_topic) & set("+#\0"):
            raise ValueError("discovery is not empty; neither holds + or #")


@dataclass(frozen=True)
class Port:
    """Where something is served: for this machine alone, where `host` says nothing else."""

    host: str = "127.0.0.1"
    port: int = 0

    def __post_init__(self) -> None:
        if not self.host or not 0 <= self.port <= 65535:
            raise ValueError("host is not empty, port is 0 (any) to 65535")


@dataclass(frozen=True)
class Policy:
    """All settings of an assistant."""

    wake: dict[str, WakeRules]
    activity: ActivityRules = field(default_factory=ActivityRules)
    listen: EndpointRules = field(default_factory=EndpointRules)
    recogniser: RecogniserRules = field(default_factory=RecogniserRules)
    intents: IntentRules = field(default_factory=IntentRules)
    actions: dict[str, ActionRule] = field(default_factory=dict)
    reply: ReplyRules = field(default_factory=ReplyRules)
    feedback: FeedbackRules = field(default_factory=FeedbackRules)
    mqtt: Broker | None = None
    home_assistant: HomeRules = field(default_factory=HomeRules)
    webhook: WebhookRules | None = None
    page: Port | None = None
    wyoming: Port | None = None
    delegate: str = "cpu"

    def __post_init__(self) -> None:
        if not self.wake:
            raise ValueError("there is no wake word")
        for name, rule in self.actions.items():
            if rule.kind == "webhook" and self.webhook is None:
                raise ValueError(f"actions.{name} goes to a webhook, and there is no [webhook]")
            if rule.kind in {"mqtt", "lock"} and self.mqtt is None:
                raise ValueError(f"actions.{name} goes to a broker, and there is no [mqtt]")


def read_policy(path: Path) -> Policy:
    """The settings in a file.

    Raises:
        BadRecipe: the file is missing or no TOML, a key is missing, or a value is refused.
        UnknownName: a key that there is not; the hint names the nearest.

    """
    return read_settings(Policy, path)
