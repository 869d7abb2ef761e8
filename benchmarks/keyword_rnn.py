"""Recurrent keyword models in int8: a GRU and an LSTM on spoken digits, each speaker left out in turn.

    python -m benchmarks.keyword_rnn             2 models x 4 speakers; a quarter of an hour on one idle core
    python -m benchmarks.keyword_rnn --slice     one small model, a few steps, for CI; writes nothing

Data: the 2,000 clips of the free spoken digit dataset in the shared data (EDGETOOL_DATA, else ../shared/data), ten
digits by four speakers. A model learns from three speakers, in versions that differ in speed, place, loudness and
noise; their first five takes of each digit are its validation part; the fourth speaker is what it is judged on, once.
The settings below were chosen on time, on size, and on the validation part.

`quantize.lsq` then makes int8 of it; beside it `control`, the float model trained on for as long, so that more training
is not sold as compression. Accuracy is of LiteRT files, float32 and int8, over the clips of all left-out speakers; a
drop is paired by clip and clustered by speaker. Time is one thread of LiteRT. Every fold is kept below
out/keyword_rnn, so that a run that was interrupted goes on: remove that folder after changing a setting.
"""

import argparse
import dataclasses
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.figures import Figure, table, write
from edge.audio import read_wav, resample
from edge.audio_features import LogMel
from edge.report import Interval, Skipped

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("EDGETOOL_DATA") or REPOSITORY.parent / "shared" / "data")
RECORDINGS = SHARED / "speech" / "fsdd" / "recordings"
OUT = REPOSITORY / "out" / "keyword_rnn"
RATE = 8000
# 32 ms every 20 ms; silence counts what noise 60 dB below speech does, so that padding and pauses look alike
FEATURES = LogMel(RATE, 256, 160, 40, floor=1e-2)
FRAMES, STACKED = 48, 3  # just under a second, three frames in each of 16 steps
VERSIONS = 12
SPEEDS_HZ = (6800, 7200, 7600, 8000, 8400, 8800, 9200)  # played at 8 kHz: pitch and formants of other voices
VALIDATION_TAKES = 5
UNITS = {"gru": 160, "lstm": 128}
EPOCHS, BATCH, LEARNING_RATE = 4, 128, 3e-3
QUANTIZED_VERSIONS, QUANTIZED_BATCH, QUANTIZED_RATE = 6, 64, 1e-3  # one epoch of half of the versions
MAX_DROP = 0.02

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Clips:
    """`features` [versions, n, steps, numbers], the first as recorded; digit, speaker and take of each clip [n]."""

    features: Floats
    digits: Integers
    speakers: Integers
    takes: Integers


@dataclass(frozen=True)
class Fold:
    """One model without one speaker: its files, and the outputs of each on that speaker's clips."""

    folder: Path
    digits: Integers
    outputs: dict[str, Floats]
    validation: dict[str, float]
    skipped: tuple[str, ...]


def load(folder: Path, versions: int, takes: int | None = None) -> Clips:
    """All clips in versions, kept in `folder`; the first `takes` of each digit and speaker are enough for a slice."""
    paths = sorted(RECORDINGS.glob("*.wav"))
    parts = [path.stem.split("_") for path in paths]
    if takes is not None:
        chosen = [i for i, part in enumerate(parts) if int(part[2]) < takes]
        paths, parts = [paths[i] for i in chosen], [parts[i] for i in chosen]
    names = sorted({part[1] for part in parts})
    kept = folder / f"features-{versions}.npy"
    if not kept.is_file():
        sounds = [sound(path) for path in paths]
        made = [
            [features(one if v == 0 else varied(one, np.random.default_rng((v, i)))) for i, one in enumerate(sounds)]
            for v in range(versions + 1)
        ]
        folder.mkdir(parents=True, exist_ok=True)
        beside = kept.with_suffix(".part")
        with beside.open("wb") as file:
            np.save(file, np.array(made, np.float32))
        beside.replace(kept)
    columns = [[int(part[0]), names.index(part[1]), int(part[2])] for part in parts]
    digits, speakers, numbers = np.array(columns, np.int64).T
    return Clips(np.load(kept, mmap_mode="r"), digits, speakers, numbers)


def sound(path: Path) -> Floats:
    """A clip [n] at 8 kHz."""
    samples, rate_hz = read_wav(path)
    return resample(samples.mean(axis=1), rate_hz, RATE)


def varied(clip: Floats, rng: np.random.Generator) -> Floats:
    """Faster or slower, louder or softer, anywhere in the second, in every other case under white noise."""
    clip = resample(clip, RATE, int(rng.choice(SPEEDS_HZ)))[:RATE]
    whole = np.zeros(RATE, np.float32)
    start = int(rng.integers(0, RATE - len(clip) + 1))
    whole[start : start + len(clip)] = clip * 10 ** (rng.uniform(-10, 10) / 20)
    if rng.random() < 0.5:
        level = np.sqrt(np.mean(np.square(whole[start : start + len(clip)]))) * 10 ** (-rng.uniform(10, 40) / 20)
        whole += np.float32(level) * rng.standard_normal(RATE).astype(np.float32)
    return whole


def features(clip: Floats) -> Floats:
    """[n] to [16, 120]: the first second, a shorter clip in its middle; about within -1..3."""
    second = np.zeros(RATE, np.float32)
    clip = clip[:RATE]
    start = (RATE - len(clip)) // 2
    second[start : start + len(clip)] = clip
    frames = FEATURES(second)[:FRAMES] / np.float32(2) + np.float32(1)
    return frames.reshape(FRAMES // STACKED, -1)


def build(kind: str, units: int) -> Any:
    """One recurrent layer and a softmax over ten digits, for [N, 16, 120]."""
    import keras

    keras.utils.set_random_seed(0)
    layer = {"gru": keras.layers.GRU, "lstm": keras.layers.LSTM}[kind]
    x = keras.Input((FRAMES // STACKED, STACKED * FEATURES.bands), name="features")
    made = keras.layers.Dropout(0.3)(layer(units)(x))
    return keras.Model(x, keras.layers.Dense(10, activation="softmax", name="digit")(made), name=kind)


def task_of(clips: Clips, speaker: int, versions: int = VERSIONS) -> Any:
    """Training in the first `versions`, validation and test as recorded."""
    from edge.preprocess import ArrayInput
    from edgetool.data.examples import ArrayExamples
    from edgetool.metrics import metric
    from edgetool.task import Task

    steps = {"features": ArrayInput()}
    others = clips.speakers != speaker
    chosen = {
        "train": np.flatnonzero(others & (clips.takes >= VALIDATION_TAKES)),
        "val": np.flatnonzero(others & (clips.takes < VALIDATION_TAKES)),
        "test": np.flatnonzero(~others),
    }
    made = {
        side: ArrayExamples({"features": clips.features[0, which]}, clips.digits[which], steps)
        for side, which in chosen.items()
    }
    varied_ones = clips.features[1 : versions + 1, chosen["train"]]
    made["train"] = ArrayExamples(
        {"features": varied_ones.reshape(-1, *varied_ones.shape[2:])},
        np.tile(made["train"].targets, len(varied_ones)),
        steps,
    )
    labels = tuple(str(digit) for digit in range(10))
    return Task("spoken digits", made["train"], made["val"], made["test"], metric("accuracy"), steps, labels)


def train(kind: str, units: int, task: Any, epochs: int, folder: Path) -> None:
    """A model from fresh weights: float.keras and float32.tflite."""
    from compress.training import FineTune
    from convert.to_litert import to_litert
    from edgetool.passes.recovery import recover

    model = build(kind, units)
    recover(model, task, FineTune(epochs, LEARNING_RATE, BATCH, 0), folder / "fit", _quiet)
    model.save(folder / "float.keras")
    (folder / "float32.tflite").write_bytes(to_litert(model, "float32", None))


def train_on(task: Any, folder: Path) -> list[str]:
    """control.tflite: float, trained for as long as the int8 model; and what could not be done."""
    from compress.training import FineTune
    from convert.load import load_keras
    from convert.to_litert import to_litert
    from edgetool.passes.recovery import recover

    model = load_keras(folder / "float.keras")
    settings = FineTune(1, QUANTIZED_RATE, QUANTIZED_BATCH, 0)
    said = recover(model, task, settings, folder / "control_fit", _quiet)
    (folder / "control.tflite").write_bytes(to_litert(model, "float32", None))
    return [one.reason for one in said]


def quantize(task: Any, folder: Path) -> list[str]:
    """int8.tflite, and what could not be done."""
    from convert.load import describe
    from edgetool.passes.learned_steps import LearnedSteps

    learn = LearnedSteps(epochs=1, learning_rate=QUANTIZED_RATE, batch_size=QUANTIZED_BATCH)
    workdir = folder / "lsq"
    workdir.mkdir(exist_ok=True)
    result = learn(describe(folder / "float.keras"), task, workdir, seed=0, trust=False, progress=_quiet)
    result.artifact.path.replace(folder / "int8.tflite")
    return [one.reason for one in result.skipped]


def fold(clips: Clips, kind: str, speaker: int, folder: Path) -> Fold:
    """Train without a speaker, train on and quantize, and ask every file about that speaker's clips."""
    task, fewer = task_of(clips, speaker), task_of(clips, speaker, QUANTIZED_VERSIONS)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "float32.tflite").is_file():
        train(kind, UNITS[kind], task, EPOCHS, folder)
    said = []
    for name, step in (("control", train_on), ("int8", quantize)):
        told = folder / f"{name}.txt"
        if not told.is_file():
            told.write_text("\n".join(step(fewer, folder)), encoding="utf-8")
        said += [f"{name}: {line}" for line in told.read_text(encoding="utf-8").splitlines()]
    outputs, validation = {}, {}
    for name in ("float32", "control", "int8"):
        path = folder / f"{name}.tflite"
        outputs[name] = outputs_of(path, task.test)
        validation[name] = float(task.metric.value(outputs_of(path, task.val), task.val.labels()))
    return Fold(folder, task.test.labels(), outputs, validation, tuple(said))


def outputs_of(path: Path, examples: Any) -> Floats:
    """What a .tflite with one output gives for all examples: [n, 10]."""
    from convert.load import describe
    from edgetool.judge import run_on

    file = describe(path)
    inputs, _ = examples.take(np.arange(examples.n))
    made: Floats = run_on(file, inputs)[file.outputs[0].name]
    return made


def _quiet(_fraction: float, _what: str) -> None:
    """Nothing is shown."""


def accuracies(kind: str, folds: Sequence[Fold]) -> list[Figure]:
    """Accuracy of both files over all left-out speakers, and what int8 loses of it."""
    from edgetool.metrics import metric
    from edgetool.verify.accuracy_gate import drop, interval

    accuracy = metric("accuracy")
    labels = np.concatenate([one.digits for one in folds])
    groups = np.repeat(np.arange(len(folds)), [len(one.digits) for one in folds])
    outputs = {name: np.concatenate([one.outputs[name] for one in folds]) for name in folds[0].outputs}
    figures = []
    for name in ("float32", "int8"):
        value, bounds = interval(accuracy, outputs[name], labels, groups)
        figures.append(Figure(f"{kind}.{name}.accuracy", "reported", 100 * value, "%", _percent(bounds), met=True))
    for name, reference in (("drop", "float32"), ("behind_control", "control")):
        lost = drop(accuracy, outputs[reference], outputs["int8"], labels, MAX_DROP, groups)
        points = _percent(lost.ci95)
        figures.append(Figure(f"{kind}.{name}", "reported", 100 * lost.value, "points", points, met=True))
        goal, met = ("<= 2", lost.upper95 <= MAX_DROP) if name == "drop" else ("reported", True)
        figures.append(Figure(f"{kind}.{name}_upper95", goal, 100 * lost.upper95, "points", points, met))
    return figures


def sizes(kind: str, folder: Path) -> list[Figure]:
    """How much smaller weights and file are, and that no operation is one that plain LiteRT lacks.

    Weights of a file are all its constants: with the biases, and with the shapes and indices of its operations.
    """
    from convert.flatbuffer import read_flatbuffer
    from convert.load import load_keras
    from convert.operations import operations

    parameters = load_keras(folder / "float.keras").count_params()
    float32, int8 = folder / "float32.tflite", folder / "int8.tflite"
    constants = sum(len(buffer.data) for buffer in read_flatbuffer(int8).buffers if buffer.data is not None)
    weights, file = 4 * parameters / constants, float32.stat().st_size / int8.stat().st_size
    foreign = sum(n for name, n in operations(int8, "tflite").items() if name not in builtins())
    return [
        Figure(f"{kind}.parameters", ">= 60000", parameters, "", None, parameters >= 60_000),
        Figure(f"{kind}.weights_smaller", ">= 3.9", weights, "x", None, weights >= 3.9),
        Figure(f"{kind}.file_smaller", ">= 3.2", file, "x", None, file >= 3.2),
        Figure(f"{kind}.int8.flex_or_custom_operations", "<= 0", foreign, "", None, foreign == 0),
    ]


def builtins() -> set[str]:
    """The names of all operations of plain LiteRT."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    return {name for name in vars(BuiltinOperator) if name.isupper() and name not in {"CUSTOM", "DELEGATE"}}


def speed(folders: dict[str, Path]) -> list[Figure]:
    """Int8 over float32 time of a whole clip, one thread of LiteRT."""
    from edgetool.verify.race import Entry, Settings, race

    entries = []
    for kind, folder in folders.items():
        entries.append(Entry(kind, folder / "float32.tflite", "tflite", "litert"))
        entries.append(Entry(f"{kind}.int8", folder / "int8.tflite", "tflite", "litert", baseline=kind))
    rows = race(entries, Settings(launches=16)).rows
    figures = []
    for entry in entries:
        row = rows[entry.id]
        if entry.baseline is None:
            continue
        if isinstance(row, Skipped) or row.ratio is None:
            figures.append(Figure(f"{entry.id}.time_ratio", "not_slower", None, "", None, met=False))
            continue
        met = row.verdict in {"faster", "not_slower"}
        figures.append(Figure(f"{entry.id}.time_ratio", "< 1.05", row.ratio, "", row.ratio_ci95, met))
        figures.append(Figure(f"{entry.id}.p50", "reported", row.p50_ms, "ms", None, met=True))
    return figures


def _percent(bounds: Interval) -> Interval:
    return 100 * bounds[0], 100 * bounds[1]


def main() -> int:
    """Train, quantize, compare, race; 1 where a figure is not met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", action="store_true", help="a few steps of one small model; writes nothing")
    parser.add_argument("--kinds", nargs="+", choices=sorted(UNITS), default=sorted(UNITS))
    options = parser.parse_args()
    if not any(RECORDINGS.glob("*.wav")):
        print(f"SKIPPED: no spoken digits in {RECORDINGS} (EDGETOOL_DATA may say where the shared data is)")
        return 0 if options.slice else 1
    _one_thread()
    if options.slice:
        return _slice()
    clips = load(OUT, VERSIONS)
    figures, folders = [], {}
    for kind in options.kinds:
        folds = []
        for speaker in np.unique(clips.speakers):
            made = fold(clips, kind, int(speaker), OUT / f"{kind}-{speaker}")
            told = ", ".join(f"{name} {value:.3f}" for name, value in made.validation.items())
            print(f"{kind} without speaker {speaker}: validation {told}; {'; '.join(made.skipped)}", flush=True)
            folds.append(made)
        figures += accuracies(kind, folds) + sizes(kind, folds[0].folder)
        folders[kind] = folds[0].folder
    figures += speed(folders)
    print(table([("keyword_rnn", figure) for figure in figures]))
    if options.kinds == sorted(UNITS):
        write("keyword_rnn", shlex.join(["python", "-m", "benchmarks.keyword_rnn", *sys.argv[1:]]), figures)
    return 1 if any(not figure.met for figure in figures) else 0


def _slice() -> int:
    import tempfile

    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        task = task_of(load(folder, 1, takes=8), speaker=0)
        train("gru", 32, task, 1, folder)
        quantize(task, folder)
        float32, int8 = (outputs_of(folder / f"{name}.tflite", task.test) for name in ("float32", "int8"))
        *told, foreign = sizes("gru", folder)
        print(table([("keyword_rnn", dataclasses.replace(one, goal="reported", met=True)) for one in told]))
        agreed = np.mean(int8.argmax(axis=1) == float32.argmax(axis=1))
        print(f"{100 * agreed:.0f} % of {len(int8)} clips are the same digit in float32 and int8")
        return 0 if foreign.met else 1


def _one_thread() -> None:
    """As on a small machine; and fits give the same on one with more cores."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


if __name__ == "__main__":
    sys.exit(main())
