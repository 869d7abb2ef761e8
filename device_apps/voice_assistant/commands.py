"""What the command line does beside running: taking models, calibrating, feedback."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_apps.durable import write_whole
from device_apps.model_file import read_model
from device_apps.voice_assistant import calibrate
from device_apps.voice_assistant.models import Parts
from device_apps.voice_assistant.policy import Policy, read_policy
from device_apps.voice_assistant.sound import RATE_HZ, Samples
from device_apps.voice_assistant.state import State
from device_apps.voice_assistant.verifier import MIN_EXAMPLES, SECONDS, write_verifier
from edge.errors import BadInput, BadModel, BadRecipe, RuntimeMissing, UnknownName

RECOGNISERS = ("letters", "keywords", "ctc", "sphinx")
WORD_LENGTH = 40
MICRO = "micro:"


@dataclass(frozen=True)
class Given:
    """What `init` is given: files, each with what it is."""

    wake: tuple[str, ...]
    activity: Path | None = None
    recogniser: str = "sphinx"
    labels: Path | None = None
    sentences: Path | None = None


def initialise(state: State, given: Given, *, replace: bool) -> Policy:
    """Copy the models into the state, write the settings, and open everything once.

    Raises:
        BadInput: there are settings already, or a file is not what it is said to be.

    """
    if state.policy.exists() and not replace:
        raise BadInput(f"{state.policy} exists", "--replace writes it anew")
    work = state.folder / "models.new"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(mode=0o700)
    try:
        lines = [line for spec in given.wake for line in _wake(spec, work)]
        lines += _activity(given.activity, work) + _recogniser(given, work)
        if given.sentences is not None:
            lines += ["[intents]", f"sentences = {_text(_copied(given.sentences, work, 'sentences.yaml'))}", ""]
        draft = state.folder / "voice-assistant.new.toml"
        write_whole(draft, ("\n".join(lines)).encode())
        policy = read_policy(draft)
        parts = Parts(policy, work)
        for part in (parts.detector(), parts.activity(), parts.recogniser()):
            part.close()
        if state.models.exists():
            shutil.rmtree(state.models)
        work.replace(state.models)
        draft.replace(state.policy)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        (state.folder / "voice-assistant.new.toml").unlink(missing_ok=True)
    return policy


def calibrated(
    state: State, policy: Policy, word: str, words: Path, home: Path, per_h: float, progress: Callable[[str], None]
) -> tuple[calibrate.Calibration, tuple[float, float] | None]:
    """Calibrate a wake word, and fit its second stage where the recordings are enough.

    The shares are of the words and of the other sounds that the second stage lets pass, in recordings that it was not
    fitted on; None where it was not fitted.
    """
    if word not in policy.wake:
        raise UnknownName("wake word", word, policy.wake)
    rule = policy.wake[word]
    spoken = [samples for _, samples in calibrate.read_folder(words)]
    heard = [samples for _, samples in calibrate.read_folder(home)]
    model = Parts(policy, state.models).wake_model(word)
    try:
        found = calibrate.calibrate(model, rule.model.sha256, rule.window, spoken, heard, per_h, progress)
    finally:
        model.close()
    calibrate.write_calibration(state.calibration(word), found)
    pieces = _pieces(heard)
    if min(len(spoken), len(pieces)) < 2 * calibrate.FOLDS + MIN_EXAMPLES:
        return found, None
    progress("the second stage …")
    fitted, kept, let = calibrate.fit_verifier(rule.model.sha256, [_end(one) for one in spoken], pieces)
    write_verifier(state.verifier(word), fitted)
    return found, (kept, let)


def feedback_table(state: State, policy: Policy) -> list[dict[str, Any]]:
    """The cases that are kept, as rows."""
    cases = state.cases(policy.feedback.days)
    rows = []
    for name in cases.names():
        event, samples, label = cases.case(name)
        rows.append({"case": name, "label": label, "seconds": round(len(samples) / RATE_HZ, 2), **event})
    return rows


def _pieces(recordings: list[Samples]) -> list[Samples]:
    length = round(SECONDS * RATE_HZ)
    return [one[at : at + length] for one in recordings for at in range(0, len(one) - length + 1, length)]


def _end(samples: Samples) -> Samples:
    """A recording up to a little behind its last loud sample: where a trigger looks back from."""
    import numpy as np

    loud = np.flatnonzero(np.abs(samples) > 0.1 * np.abs(samples).max(initial=0.0))
    return samples[: min(len(samples), (int(loud[-1]) if len(loud) else 0) + RATE_HZ // 5)]


def _wake(spec: str, work: Path) -> list[str]:
    """`micro:alexa`, a microWakeWord .json, or a model; `NAME=` before it names the word."""
    name, separator, rest = spec.partition("=")
    rest = rest if separator else spec
    threshold, window, kind = 0.9, 5, "step"
    path = _packaged(rest.removeprefix(MICRO)) if rest.startswith(MICRO) else Path(rest)
    if path.suffix == ".json":
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            threshold, window = float(data["micro"]["probability_cutoff"]), int(data["micro"]["sliding_window_size"])
            path, kind = path.parent / str(data["model"]), "micro"
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadModel(f"{path} describes no model of microWakeWord: {error}") from error
    word = (name if separator else path.stem).replace("-", "_")
    if not word.replace("_", "").isalnum() or not word.isascii() or len(word) > WORD_LENGTH:
        raise BadRecipe(f"{word!r} cannot name a wake word", "a-z, 0-9 and _: --wake NAME=MODEL")
    model = read_model(path)
    if kind == "step" and model.threshold is not None:
        threshold, window = model.threshold, 1
    file = _copied(path, work, f"wake-{word}{path.suffix.lower()}")
    return [
        f"[wake.{word}]",
        f'kind = "{kind}"',
        f'model = {{ file = {_text(file)}, sha256 = "{model.sha256}" }}',
        f"threshold = {threshold:g}",
        f"window = {window}",
        "",
    ]


def _packaged(word: str) -> Path:
    """A word's description in the package pymicro-wakeword."""
    import importlib.util

    found = importlib.util.find_spec("pymicro_wakeword")
    if found is None or found.origin is None:
        raise RuntimeMissing("pymicro-wakeword is not installed", "pip install pymicro-wakeword")
    folder = Path(found.origin).parent / "models"
    known = sorted(path.stem for path in folder.glob("*.json"))
    if word not in known:
        raise UnknownName("wake word of pymicro-wakeword", word, known)
    return folder / f"{word}.json"


def _activity(path: Path | None, work: Path) -> list[str]:
    if path is None:
        return []
    from edge.engines import open_engine

    model = read_model(path)
    engine = open_engine(model.content, model.format)
    kind = "silero" if any(spec.name == "sr" for spec in engine.inputs) else "tiny"
    engine.close()
    file = _copied(path, work, f"activity{path.suffix.lower()}")
    return ["[activity]", f'kind = "{kind}"', f'model = {{ file = {_text(file)}, sha256 = "{model.sha256}" }}', ""]


def _recogniser(given: Given, work: Path) -> list[str]:
    """`sphinx`, `sphinx:GRAMMAR`, `letters:MODEL`, `keywords:MODEL`, `ctc:MODEL`."""
    kind, _, rest = given.recogniser.partition(":")
    if kind not in RECOGNISERS:
        raise UnknownName("recogniser", kind, RECOGNISERS)
    lines = ["[recogniser]", f'kind = "{kind}"']
    if kind == "sphinx":
        return [*lines, *([f"grammar = {_text(_copied(Path(rest), work, 'commands.gram'))}"] if rest else []), ""]
    if not rest:
        raise BadRecipe(f"the recogniser {kind} needs a model", f"--recogniser {kind}:MODEL")
    path = Path(rest)
    model = read_model(path)
    file = _copied(path, work, f"recogniser{path.suffix.lower()}")
    lines.append(f'model = {{ file = {_text(file)}, sha256 = "{model.sha256}" }}')
    if given.labels is not None:
        labels = _copied(given.labels, work, f"labels{given.labels.suffix.lower() or '.txt'}")
        lines.append(f"labels = {_text(labels)}")
    return [*lines, ""]


def _copied(path: Path, work: Path, name: str) -> str:
    try:
        write_whole(work / name, path.read_bytes())
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    return name


def _text(value: str) -> str:
    return json.dumps(value)
