"""The second stage of a wake word: looks once more at the last second and a half, with what this home has heard.

Logistic regression over the log-mel spectrogram of the word (mean and spread of each band in four parts of it), fitted
on a home's own recordings; the idea is openWakeWord's "custom verifier models". It can only veto.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device_apps.durable import write_whole
from device_apps.voice_assistant.sound import RATE_HZ, Samples
from edge.audio_features import LogMel
from edge.errors import BadData, BadInput

SECONDS = 1.5
PARTS = 4
BANDS = LogMel(RATE_HZ, 512, 160, 24, low_hz=100, high_hz=7000, floor=1e-3)
SCHEMA = "edgetool.wake-verifier/1"
MIN_EXAMPLES = 10
RIDGE, STEPS = 1.0, 60


@dataclass(frozen=True)
class Verifier:
    """Weights over what `describe` gives; `model` is the sha256 of the wake model whose triggers it judges."""

    model: str
    mean: tuple[float, ...]
    spread: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    threshold: float
    positives: int
    negatives: int
    schema: str = SCHEMA

    def __call__(self, samples: Samples) -> float:
        """The last 1.5 s [n] to the probability that it was the wake word."""
        scaled = (describe(samples) - np.array(self.mean)) / np.array(self.spread)
        return float(1 / (1 + np.exp(-np.clip(scaled @ np.array(self.weights) + self.bias, -50, 50))))


def describe(samples: Samples) -> npt.NDArray[np.float64]:
    """The last 1.5 s of [n], silence before it, to [parts * 2 * bands]: loudness is taken out of it."""
    length = round(SECONDS * RATE_HZ)
    fitted = np.zeros(length, np.float32)
    taken = samples[-length:]
    if len(taken):
        fitted[-len(taken) :] = taken
    frames = BANDS(fitted).astype(np.float64)
    frames -= np.sort(frames.mean(axis=1))[-max(1, len(frames) // 4) :].mean()
    parts = np.array_split(frames, PARTS)
    return np.concatenate([np.concatenate([part.mean(axis=0), part.std(axis=0)]) for part in parts])


def fit(model: str, positives: Sequence[Samples], negatives: Sequence[Samples], threshold: float = 0.5) -> Verifier:
    """Ridge logistic regression by Newton's method (Hastie et al., "The Elements of Statistical Learning", 4.4.1).

    Raises:
        BadData: fewer than 10 recordings of either kind.

    """
    if min(len(positives), len(negatives)) < MIN_EXAMPLES:
        raise BadData(
            f"{len(positives)} recordings of the word and {len(negatives)} of other sound are too few",
            f"{MIN_EXAMPLES} of each are needed",
        )
    rows = np.stack([describe(one) for one in (*positives, *negatives)])
    truth = np.r_[np.ones(len(positives)), np.zeros(len(negatives))]
    mean, spread = rows.mean(axis=0), rows.std(axis=0) + 1e-3
    inputs = np.c_[(rows - mean) / spread, np.ones(len(rows))]
    counts = np.where(truth == 1, len(rows) / (2 * len(positives)), len(rows) / (2 * len(negatives)))
    weights = np.zeros(inputs.shape[1])
    ridge = np.full(inputs.shape[1], RIDGE * np.sqrt(inputs.shape[1]))
    ridge[-1] = 1e-6  # the bias is free
    for _ in range(STEPS):
        found = 1 / (1 + np.exp(-np.clip(inputs @ weights, -30, 30)))
        slope = inputs.T @ (counts * (found - truth)) + ridge * weights
        curve = (inputs * (counts * found * (1 - found))[:, None]).T @ inputs + np.diag(ridge)
        change = np.linalg.solve(curve, slope)
        weights -= change
        if np.abs(change).max() < 1e-8:
            break
    return Verifier(
        model, tuple(mean), tuple(spread), tuple(weights[:-1]), float(weights[-1]), threshold,
        len(positives), len(negatives),
    )  # fmt: skip


def write_verifier(path: Path, verifier: Verifier) -> None:
    """Keep it. Raises EnvironmentFailed: it cannot be written."""
    write_whole(path, json.dumps(asdict(verifier)).encode())


def read_verifier(path: Path, model: str) -> Verifier | None:
    """The verifier of a wake model; None where none was fitted. Raises BadInput: damaged, or another model's."""
    if not path.exists():
        return None
    try:
        data = json.loads(path.read_bytes())
        lists: dict[str, Any] = {key: tuple(map(float, data.pop(key))) for key in ("mean", "spread", "weights")}
        found = Verifier(**data, **lists)
        finite = bool(np.isfinite([*sum(lists.values(), ()), found.bias, found.threshold]).all())
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(f"{path} is damaged: {error}", "fit it again: voice-assistant calibrate") from error
    length = PARTS * 2 * BANDS.bands
    if found.schema != SCHEMA or not finite or {len(one) for one in lists.values()} != {length}:
        raise BadInput(f"{path} is damaged, or of another version", "fit it again: voice-assistant calibrate")
    if found.model != model:
        raise BadInput(f"{path} was fitted for another wake model", "fit it again: voice-assistant calibrate")
    return found
