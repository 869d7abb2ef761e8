"""A home's own operating point for a wake word, and its second stage, from recordings of the word and of the home."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device_apps.durable import write_whole
from device_apps.voice_assistant import verifier
from device_apps.voice_assistant.meter import poisson_upper
from device_apps.voice_assistant.sound import RATE_HZ, Samples
from device_apps.voice_assistant.verifier import Verifier
from device_apps.voice_assistant.wake import WakeModel
from edge.audio import AudioInput
from edge.errors import BadData, BadInput

REFRACTORY_S = 2.0
LEAD_S, TAIL_S = 1.0, 0.5  # of silence around a recording, so that a model's window is full and its end is heard
GRID = (*(number / 100 for number in range(5, 95)), *(number / 400 for number in range(380, 399)))
FOLDS = 5
KEPT_SHARE = 0.98  # of the home's own words that pass the second stage, in recordings it was not fitted on


@dataclass(frozen=True)
class Calibration:
    """A threshold, and what it stands on. `model` is the wake model's sha256."""

    model: str
    threshold: float
    window: int
    words: int
    missed: int
    hours: float
    false_accepts: int
    upper95_per_h: float


def read_folder(folder: Path) -> list[tuple[Path, Samples]]:
    """The wav files below a folder as 16 kHz mono. Raises BadData: there are none, or one cannot be read."""
    files = sorted(path for path in folder.rglob("*.wav") if path.is_file())
    if not files:
        raise BadData(f"there are no wav files in {folder}")
    reader = AudioInput(RATE_HZ, 1)
    return [(path, reader.read(path)) for path in files]


def mean_scores(model: WakeModel, samples: Samples, window: int) -> npt.NDArray[np.float64]:
    """The mean of each `window` probabilities over a recording, from a fresh start: [n]; 0 until it is full."""
    model.reset()
    pieces = [model.push(samples[at : at + RATE_HZ]) for at in range(0, len(samples), RATE_HZ)]
    scores = np.concatenate([np.zeros(window - 1), *pieces]).astype(np.float64)
    means = np.lib.stride_tricks.sliding_window_view(scores, window).mean(axis=1) if len(scores) >= window else scores
    means[: window - 1] = 0.0
    return np.asarray(means)


def accepts(means: npt.NDArray[np.float64], threshold: float, hop_s: float) -> list[int]:
    """The hops at which a detector fires, each 2 s at least after the one before."""
    above = np.flatnonzero(means > threshold)
    fired: list[int] = []
    at = 0
    while at < len(above):
        fired.append(int(above[at]))
        at = int(np.searchsorted(above, above[at] + REFRACTORY_S / hop_s))
    return fired


def around(samples: Samples) -> Samples:
    """A recording with silence around it."""
    return np.pad(samples, (round(LEAD_S * RATE_HZ), round(TAIL_S * RATE_HZ)))


def calibrate(
    model: WakeModel,
    digest: str,
    window: int,
    words: Sequence[Samples],
    background: Sequence[Samples],
    per_h: float,
    progress: Callable[[str], None],
) -> Calibration:
    """The lowest threshold whose false accepts an hour are at most `per_h`, and what of the words it misses.

    The rate is the observed one; its upper bound is stated, and says whether the background is long enough.

    Raises:
        BadData: no threshold does.

    """
    progress(f"{len(words)} recordings of the word …")
    peaks = np.array([mean_scores(model, around(one), window).max(initial=0.0) for one in words])
    progress(f"{len(background)} recordings of the home …")
    hop_s = model.hop / RATE_HZ
    heard = [mean_scores(model, one, window) for one in background]
    hours = sum(len(one) for one in background) / RATE_HZ / 3600
    for threshold in GRID:
        false = sum(len(accepts(means, threshold, hop_s)) for means in heard)
        if false <= per_h * hours:
            missed = int((peaks <= threshold).sum())
            upper = poisson_upper(false) / hours if hours else math.inf
            return Calibration(digest, threshold, window, len(words), missed, hours, false, upper)
    raise BadData(
        f"even at {GRID[-1]:g} the word is heard more than {per_h:g} times an hour in the recordings of the home",
        "are they really without the word?",
    )


def fit_verifier(model: str, words: Sequence[Samples], others: Sequence[Samples]) -> tuple[Verifier, float, float]:
    """A second stage, with the shares of words and of other sounds that it lets pass where it was not fitted on them.

    Its threshold keeps 98 % of the words in five folds.

    Raises:
        BadData: too few recordings.

    """
    fitted = verifier.fit(model, words, others)
    kept, let = np.zeros(len(words)), np.zeros(len(others))
    for fold in range(FOLDS):
        rest = verifier.fit(
            model,
            [one for at, one in enumerate(words) if at % FOLDS != fold],
            [one for at, one in enumerate(others) if at % FOLDS != fold],
        )
        kept[fold::FOLDS] = [rest(one) for one in words[fold::FOLDS]]
        let[fold::FOLDS] = [rest(one) for one in others[fold::FOLDS]]
    threshold = float(np.clip(np.quantile(kept, 1 - KEPT_SHARE), 0.01, 0.99))
    made = verifier.Verifier(**{**asdict(fitted), "threshold": threshold})
    return made, float((kept >= threshold).mean()), float((let >= threshold).mean())


def write_calibration(path: Path, found: Calibration) -> None:
    """Keep it. Raises EnvironmentFailed: it cannot be written."""
    write_whole(path, json.dumps(asdict(found)).encode())


def read_calibration(path: Path, model: str, window: int) -> float | None:
    """The threshold of a home for a model and window; None where there is none, or it is another's.

    Raises:
        BadInput: the file is damaged.

    """
    if not path.exists():
        return None
    try:
        found = Calibration(**json.loads(path.read_bytes()))
        threshold = float(found.threshold)
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{path} is damaged: {error}", "voice-assistant calibrate writes it anew") from error
    if not 0 < threshold < 1:
        raise BadInput(f"{path} holds the threshold {threshold}", "voice-assistant calibrate writes it anew")
    return threshold if (found.model, found.window) == (model, window) else None
