"""The models of the settings, opened: one runtime for all of them."""

from collections.abc import Mapping
from pathlib import Path

from device_apps.model_file import Model, ModelFile, checked_model
from device_apps.voice_assistant.activity import EnergyActivity, SileroActivity, TinyActivity, VoiceActivity
from device_apps.voice_assistant.intent import Classifier, FirstOf, IntentModel, Said, Sentences, read_vocabulary
from device_apps.voice_assistant.policy import Policy, RecogniserRules
from device_apps.voice_assistant.recognise import (
    CtcWords,
    Recogniser,
    Sphinx,
    WordWindows,
    letters_labels,
    letters_picture,
)
from device_apps.voice_assistant.sound import RATE_HZ
from device_apps.voice_assistant.wake import Detector, MicroWake, OperatingPoint, StepWake, WakeModel
from edge.engines import Engine, open_engine
from edge.errors import BadInput, BadModel
from edge.streaming import STEP


class Parts:
    """What the settings name, each opened as often as it is asked for: a client of the Wyoming server gets its own.

    `thresholds` are those that a home was calibrated to, by wake word.

    Raises:
        CheckFailed: a file has another hash than the settings say.
        BadModel: a file is missing or no such model, or the models need more than one runtime.

    """

    def __init__(self, policy: Policy, folder: Path, thresholds: Mapping[str, float] | None = None) -> None:
        self._policy, self._folder, self._thresholds = policy, folder, dict(thresholds or {})
        self._models: dict[str, Model] = {}
        files: dict[str, ModelFile | None] = {f"wake {word}": rule.model for word, rule in policy.wake.items()}
        files |= {
            "activity": policy.activity.model,
            "recogniser": policy.recogniser.model,
            "intents": policy.intents.model,
        }
        for part, file in files.items():
            if file is not None:
                self._models[part] = checked_model(file, folder)
        formats = {part: model.format for part, model in self._models.items()}
        if len(set(formats.values())) > 1:
            found = ", ".join(f"{part} {model_format}" for part, model_format in formats.items())
            raise BadModel(f"one runtime runs all models, but these need two: {found}", "edgetool convert")
        self.intents = self._open_intents()

    def detector(self) -> Detector:
        """The wake words."""
        models: dict[str, WakeModel] = {}
        try:
            for word in self._policy.wake:
                models[word] = self.wake_model(word)
        except Exception:
            for model in models.values():
                model.close()
            raise
        points = {word: rule.point() for word, rule in self._policy.wake.items()}
        points |= {word: OperatingPoint(own, points[word].window) for word, own in self._thresholds.items()}
        return Detector(models, points)

    def activity(self) -> VoiceActivity:
        """What says that somebody speaks."""
        kind = self._policy.activity.kind
        if kind == "energy":
            return EnergyActivity()
        engine = self._engine("activity")
        return TinyActivity(engine) if kind == "tiny" else SileroActivity(engine)

    def recogniser(self) -> Recogniser:
        """Speech to text."""
        rules = self._policy.recogniser
        if rules.kind == "sphinx":
            return Sphinx(self._read(rules.grammar).decode() if rules.grammar else None)
        labels = self._labels(rules)
        if rules.kind == "letters":
            return WordWindows(self._engine("recogniser"), labels, letters_picture)
        features = rules.features.features()
        if rules.kind == "ctc":
            return CtcWords(self._step("recogniser"), labels, features)
        return WordWindows(self._engine("recogniser"), labels, features, RATE_HZ)

    @property
    def wake_hashes(self) -> Mapping[str, str]:
        """The sha256 of each wake word's model."""
        return {word: rule.model.sha256 for word, rule in self._policy.wake.items()}

    def _open_intents(self) -> IntentModel:
        rules = self._policy.intents
        models: list[IntentModel] = []
        if rules.sentences:
            models.append(Sentences(self._folder / rules.sentences))
        if rules.model is not None:
            models.append(Classifier(self._engine("intents"), read_vocabulary(self._read(rules.vocabulary))))
        return FirstOf(models) if models else Said()

    def wake_model(self, word: str) -> WakeModel:
        """A wake word's model alone."""
        rule = self._policy.wake[word]
        part = f"wake {word}"
        if rule.kind == "micro":
            return MicroWake(self._engine(part))
        return StepWake(self._step(part), rule.features.features())

    def _engine(self, part: str) -> Engine:
        model = self._models[part]
        return open_engine(model.content, model.format, delegate=self._policy.delegate)

    def _step(self, part: str) -> Engine:
        """The one-step form: a signature of a .tflite, or the whole file."""
        from edge.errors import UnknownName

        model = self._models[part]
        if model.format == "tflite":
            try:
                return open_engine(model.content, model.format, delegate=self._policy.delegate, signature=STEP)
            except UnknownName:
                pass
        return self._engine(part)

    def _labels(self, rules: RecogniserRules) -> tuple[str, ...]:
        model = self._models["recogniser"]
        if not rules.labels:
            return model.labels
        content = self._read(rules.labels)
        if rules.labels.endswith(".json"):
            return letters_labels(content)
        try:
            return tuple(line.strip() for line in content.decode().splitlines() if line.strip())
        except UnicodeDecodeError as error:
            raise BadInput(f"{rules.labels} is no text: {error}") from error

    def _read(self, name: str) -> bytes:
        path = self._folder / name
        try:
            return path.read_bytes()
        except OSError as error:
            raise BadInput(f"cannot read {path}: {error.strerror}") from error
