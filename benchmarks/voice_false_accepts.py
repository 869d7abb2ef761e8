"""How often the assistant's wake word is missed, and how often it is heard where nobody said it.

python -m benchmarks.voice_false_accepts            about ten minutes; needs the shared data, flac, ffmpeg, and Debian's
                                                    asterisk-core-sounds-en-g722
python -m benchmarks.voice_false_accepts --slice    a few recordings, for CI

The model is the one at hand, microWakeWord's "alexa" from pymicro-wakeword, at its own operating point, through the
code that runs on the device: whether it was trained on some of these recordings is not known. Negatives are heard as
one stream, a second of quiet between two recordings. The second stage is fitted on every other recording of the word
and the first half of each negative source, and judged on the rest.
"""

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pymicro_wakeword

from benchmarks.figures import Figure, write
from benchmarks.voice_parts import PROMPTS, SHARED, prompts, recording
from device_apps.voice_assistant.calibrate import around, fit_verifier
from device_apps.voice_assistant.meter import poisson_lower, poisson_upper
from device_apps.voice_assistant.sound import RATE_HZ, Samples
from device_apps.voice_assistant.verifier import SECONDS, Verifier
from device_apps.voice_assistant.wake import Detector, MicroWake, OperatingPoint
from edge.engines import open_engine
from edgetool.verify.score_interval import wilson

SPEECH = SHARED / "speech"
MODEL = Path(pymicro_wakeword.__file__).parent / "models" / "alexa.tflite"
POINT = OperatingPoint(0.9, 5)  # of alexa.json in the package
BLOCK = 320
SNR_DB, SEED = 10.0, 7
OTHER_WAKE_WORDS = ("wakeword/computer", "wakeword/view_glass")
SOURCES = ("commands_barista", "alphanumeric", "speechcmd_samples/examples", "fsdd/recordings")
NOISES = ("speechcmd_samples/noises", "noise_kitchen.flac")


def main() -> int:
    """Listen, count, write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--slice", action="store_true", help="a few recordings, and no results are written")
    few = 6 if parser.parse_args().slice else None
    if shutil.which("flac") is None or not SPEECH.is_dir():
        print("SKIPPED: the recordings are FLAC, and flac or the shared data is not here")
        return 0
    words = [recording(path) for path in files(SPEECH / "wakeword/alexa", few)]
    noises = [one for name in NOISES for one in readable(files(SPEECH / name, few))]
    model = MicroWake(open_engine(MODEL, "tflite"))
    rng = np.random.default_rng(SEED)
    noisy = [with_noise(around(one), noises[rng.integers(len(noises))], rng) for one in words]
    clean = [heard(model, around(one)) for one in words]
    figures = [
        missed("clean", [not fired for fired in clean], 0.05),
        missed(f"at_{SNR_DB:.0f}_dB", [not heard(model, one) for one in noisy], 0.10),
    ]
    sources = negatives(few)
    triggers: dict[str, list[Samples]] = {}
    for name, recordings in sources.items():
        triggers[name] = false_accepts(model, recordings)
        hours = seconds(recordings) / 3600
        print(f"{name:<34} {hours:.3f} h  {len(triggers[name])} false accepts", flush=True)
        figures.append(rate(f"negatives.{name}", len(triggers[name]), hours))
    spoken = [name for name in sources if name != "noises"]
    hours = sum(seconds(one) for one in sources.values()) / 3600
    total = sum(map(len, triggers.values()))
    bounds = (poisson_lower(total, 0.975), poisson_upper(total, 0.975))
    figures += [
        Figure("negatives.hours", ">= 1.2", hours, "h", None, hours >= 1.2),
        Figure(
            "negatives.hours_of_speech",
            "reported",
            sum(seconds(sources[s]) for s in spoken) / 3600,
            "h",
            None,
            met=True,
        ),
        Figure("negatives.false_accepts", "<= 2", total, "", bounds, total <= 2),
        rate("negatives.all", total, hours),
        *second_stage(words, clean, sources, triggers),
    ]
    if few is None:
        write("voice_false_accepts", "python -m benchmarks.voice_false_accepts", figures)
    for figure in figures:
        print(figure.name, figure.value, figure.ci95, figure.goal, "met" if figure.met else "NOT MET")
    return 0


def files(folder: Path, few: int | None) -> list[Path]:
    """The recordings of a source in a fixed order; a file is one."""
    if folder.is_file():
        return [folder]
    found = sorted(
        path for path in folder.rglob("*") if path.suffix in {".wav", ".flac"} and path.stat().st_size > 1000
    )
    return found[:few]


def negatives(few: int | None) -> dict[str, list[Samples]]:
    """Recordings without the word, by source."""
    found = {name.replace("/", "."): readable(files(SPEECH / name, few)) for name in (*OTHER_WAKE_WORDS, *SOURCES)}
    found["noises"] = [one for name in NOISES for one in readable(files(SPEECH / name, few))]
    if few is None and PROMPTS.is_dir():
        found["asterisk_prompts"] = [samples for _, samples in prompts()]
    return {name: recordings for name, recordings in found.items() if recordings}


def readable(paths: Sequence[Path]) -> list[Samples]:
    """All of them but files that are no PCM (two of the noises are not), which are named."""
    from edge.errors import BadData

    made = []
    for path in paths:
        try:
            made.append(recording(path))
        except BadData as error:
            print(f"left out: {error.message}", file=sys.stderr)
    return made


def heard(model: MicroWake, samples: Samples) -> list[int]:
    """Where the word is heard in a recording, from a fresh start."""
    detector = Detector({"alexa": model}, {"alexa": POINT})
    detector.reset()
    found = [detector.push(samples[at : at + BLOCK]) for at in range(0, len(samples), BLOCK)]
    return [one.at for one in found if one is not None]


def false_accepts(model: MicroWake, recordings: Sequence[Samples]) -> list[Samples]:
    """What was heard, 1.5 s each, at every trigger in a stream of recordings."""
    sound = np.concatenate([one for each in recordings for one in (each, quiet())])
    return [sound[max(0, at - round(SECONDS * RATE_HZ)) : at] for at in heard(model, sound)]


def quiet() -> Samples:
    """A second of a quiet room."""
    return np.random.default_rng(SEED).normal(size=RATE_HZ).astype(np.float32) * np.float32(2e-4)


def with_noise(samples: Samples, noise: Samples, rng: np.random.Generator) -> Samples:
    """A recording in noise of 10 dB less power than its loud half."""
    repeated = np.resize(noise, len(samples) + len(noise))
    begin = int(rng.integers(len(noise)))
    taken = repeated[begin : begin + len(samples)]
    power = np.sort(np.square(samples, dtype=np.float64))[len(samples) // 2 :].mean()
    gain = np.sqrt(power / max(np.square(taken, dtype=np.float64).mean(), 1e-12) / 10 ** (SNR_DB / 10))
    return np.asarray(np.clip(samples + gain * taken, -1, 1), np.float32)


def missed(name: str, misses: Sequence[bool], goal: float) -> Figure:
    """A share of clips with Wilson's interval."""
    share = sum(misses) / len(misses)
    return Figure(f"alexa.missed.{name}", f"<= {goal:g}", share, "", wilson(sum(misses), len(misses)), share <= goal)


def rate(name: str, count: int, hours: float) -> Figure:
    """False accepts an hour with Garwood's interval."""
    bounds = (poisson_lower(count, 0.975) / hours, poisson_upper(count, 0.975) / hours)
    return Figure(f"{name}.per_h", "reported", count / hours, "/h", bounds, met=True)


def seconds(recordings: Sequence[Samples]) -> float:
    """How long they are together."""
    return sum(map(len, recordings)) / RATE_HZ


def pieces(recordings: Sequence[Samples]) -> Iterator[Samples]:
    """A second and a half of each, from its loudest half on."""
    length = round(SECONDS * RATE_HZ)
    for one in recordings:
        yield one[max(0, len(one) // 2 - length // 2) :][:length]


def second_stage(
    words: Sequence[Samples],
    clean: Sequence[Sequence[int]],
    sources: dict[str, list[Samples]],
    triggers: dict[str, list[Samples]],
) -> Iterator[Figure]:
    """What the verifier lets pass of the words that were heard, and of what fired falsely, on what it never saw."""
    length = round(SECONDS * RATE_HZ)
    ends = [
        around(one)[max(0, fired[0] - length) : fired[0]] if fired else None
        for one, fired in zip(words, clean, strict=True)
    ]
    learnt = [one for one in ends[::2] if one is not None]
    judged = [one for one in ends[1::2] if one is not None]
    others = [piece for one in sources.values() for piece in pieces(one[: len(one) // 2])]
    if len(learnt) < 20:
        return
    verifier, _, _ = fit_verifier("0" * 64, learnt, others)
    kept = [verifier(one) >= verifier.threshold for one in judged]
    rest = [piece for one in sources.values() for piece in pieces(one[len(one) // 2 :])]
    yield share("second_stage.words_kept", kept)
    yield share("second_stage.other_sound_let_pass", [verifier(one) >= verifier.threshold for one in rest])
    fired = [one for each in triggers.values() for one in each]
    yield of_triggers(verifier, fired)


def share(name: str, passed: Sequence[bool]) -> Figure:
    """A share that passed, with Wilson's interval."""
    return Figure(name, "reported", sum(passed) / len(passed), "", wilson(sum(passed), len(passed)), met=True)


def of_triggers(verifier: Verifier, fired: Sequence[Samples]) -> Figure:
    """How many false accepts are left: of a source's first half it has seen sound, though not what fired."""
    left = sum(verifier(one) >= verifier.threshold for one in fired)
    return Figure("second_stage.false_accepts_left", "reported", left, f"of {len(fired)}", None, met=True)


if __name__ == "__main__":
    sys.exit(main())
