"""Recurrent keyword models in int8: a GRU and an LSTM on spoken digits, each speaker left out in turn.

    python -m benchmarks.keyword_rnn             2 models x 4 speakers; a quarter of an hour on one idle core
    python -m benchmarks.keyword_rnn --slice     one small model, a few steps, for CI; writes nothing

Data: the 2,000 clips of the free spoken digit dataset in the shared data (EDGETOOL_DATA, else ../shared/data), ten
digits by four speakers. A model learns from three speakers, in versions that differ in speed, place, loudness and
noise; their first five takes of each digit are its validation part; the fourth speaker is what it is judged on, once.
The settings below were chosen on time, on size, and on the validation part.

`quantize.lsq` then makes int8 of it, by one epoch more, which no float model beside it has. Accuracy is of LiteRT
files, float32 and int8, over the clips of all left-out speakers; a drop is paired by clip and clustered by speaker.
Three speakers are too few to know a fourth by: the models are right on almost all validation clips and far fewer of
the left-out ones. Time is one thread of LiteRT. Every fold is kept below out/keyword_rnn, so that a run that was
interrupted goes on: remove that folder after changing a setting.
"""

import argparse
import dataclasses
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.figures import Figure, table, write
from edge.audio import read_wav, resample
from edge.audio_features import LogMel
from edge.report import Interval, Skipped, from_plain, to_json
from edgetool.progress import Silent

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
QUIET = Silent().at

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


def train(kind: str, task: Any, folder: Path) -> None:
    """A model from fresh weights: float.keras and float32.tflite."""
    from compress.training import FineTune
    from convert.to_litert import to_litert
    from edgetool.passes.recovery import recover

    model = build(kind, UNITS[kind])
    recover(model, task, FineTune(EPOCHS, LEARNING_RATE, BATCH, 0), folder / "fit", QUIET)
    model.save(folder / "float.keras")
    (folder / "float32.tflite").write_bytes(to_litert(model, "float32", None))


def quantize(task: Any, folder: Path) -> list[str]:
    """int8.tflite, and what could not be done."""
    from convert.load import describe
    from edgetool.passes.learned_steps import LearnedSteps

    learn = LearnedSteps(epochs=1, learning_rate=QUANTIZED_RATE, batch_size=QUANTIZED_BATCH)
    workdir = folder / "lsq"
    workdir.mkdir(exist_ok=True)
    result = learn(describe(folder / "float.keras"), task, workdir, seed=0, trust=False, progress=QUIET)
    result.artifact.path.replace(folder / "int8.tflite")
    return [one.reason for one in result.skipped]


def fold(clips: Clips, kind: str, speaker: int, folder: Path) -> Fold:
    """Train without a speaker, quantize, and ask both files about that speaker's clips."""
    task = task_of(clips, speaker)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "float32.tflite").is_file():
        train(kind, task, folder)
    told = folder / "int8.txt"
    if not told.is_file():
        told.write_text("\n".join(quantize(task_of(clips, speaker, QUANTIZED_VERSIONS), folder)), encoding="utf-8")
    outputs, validation = {}, {}
    for name in ("float32", "int8"):
        path = folder / f"{name}.tflite"
        outputs[name] = outputs_of(path, task.test, folder / f"{name}.test.npy")
        seen = outputs_of(path, task.val, folder / f"{name}.val.npy")
        validation[name] = float(task.metric.value(seen, task.val.labels()))
    said = tuple(told.read_text(encoding="utf-8").splitlines())
    return Fold(folder, task.test.labels(), outputs, validation, said)


def outputs_of(path: Path, examples: Any, kept: Path) -> Floats:
    """What a .tflite with one input and one output gives for all examples, one by one: [n, 10]."""
    from edge.engines import open_engine

    if kept.is_file():
        return np.asarray(np.load(kept), np.float32)
    engine = open_engine(path, "tflite")
    (fed,), (given,) = engine.inputs, engine.outputs
    inputs, _ = examples.take(np.arange(examples.n))
    made = [engine.run({fed.name: one[None]})[given.name][0] for one in inputs["features"]]
    engine.close()
    np.save(kept, np.array(made, np.float32))
    return np.array(made, np.float32)


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
    lost = drop(accuracy, outputs["float32"], outputs["int8"], labels, MAX_DROP, groups)
    points, met = _percent(lost.ci95), lost.upper95 <= MAX_DROP
    figures.append(Figure(f"{kind}.drop", "reported", 100 * lost.value, "points", points, met=True))
    figures.append(Figure(f"{kind}.drop_upper95", "<= 2", 100 * lost.upper95, "points", points, met))
    return figures


def sizes(kind: str, folder: Path) -> list[Figure]:
    """How much smaller weights and file are, and that no operation is one that plain LiteRT lacks.

    Weights of a file are all its constants: with the biases, and with the shapes and indices of its operations.
    """
    from convert.census import census
    from convert.flatbuffer import read_flatbuffer
    from convert.load import load_keras

    parameters = load_keras(folder / "float.keras").count_params()
    float32, int8 = folder / "float32.tflite", folder / "int8.tflite"
    constants = sum(len(buffer.data) for buffer in read_flatbuffer(int8).buffers if buffer.data is not None)
    weights, file = 4 * parameters / constants, float32.stat().st_size / int8.stat().st_size
    foreign = sum(one.custom for one in census(int8, "tflite").operations)
    return [
        Figure(f"{kind}.parameters", ">= 60000", parameters, "", None, parameters >= 60_000),
        Figure(f"{kind}.weights_smaller", ">= 3.9", weights, "x", None, weights >= 3.9),
        Figure(f"{kind}.file_smaller", ">= 3.2", file, "x", None, file >= 3.2),
        Figure(f"{kind}.int8.flex_or_custom_operations", "<= 0", foreign, "", None, foreign == 0),
    ]


def step_files(folder: Path) -> tuple[Path, Path]:
    """The one-step form of a model, float32 and int8: a frame and the states go in, the answer and the next come out.

    Its steps are those of calibration on noise; the time of a step does not depend on them.
    """
    import keras

    from compress.quantize.lsq.fake import calibrate
    from compress.quantize.lsq.lowering import lower
    from compress.quantize.lsq.one_step import one_step
    from compress.quantize.lsq.to_litert import step_to_litert
    from convert.load import load_keras
    from convert.to_litert import to_litert

    model = load_keras(folder / "float.keras")
    recurrent, last = model.layers[1], model.layers[-1]
    frame = keras.Input((1, model.inputs[0].shape[-1]), name="frame")
    sizes_of_states = np.atleast_1d(recurrent.cell.state_size)
    states = [keras.Input((int(size),), name=f"state_{i}") for i, size in enumerate(sizes_of_states)]
    hidden, following = recurrent.cell(keras.layers.Flatten()(frame), states)
    float32 = to_litert(keras.Model([frame, *states], [last(hidden), *following]), "float32", None)
    graph = lower(model)
    noise = np.random.default_rng(0).normal(size=(8, *model.inputs[0].shape[1:])).astype(np.float32)
    grids = calibrate(graph, [{graph.inputs[0]: noise}])
    int8 = step_to_litert(graph, grids, ["frame"], ["digit"], one_step(graph))
    paths = folder / "step_float32.tflite", folder / "step_int8.tflite"
    for path, content in zip(paths, (float32, int8), strict=True):
        path.write_bytes(content)
    return paths


def speed(folders: dict[str, Path]) -> list[Figure]:
    """Int8 over float32 time of a whole clip, and of one step, one thread of LiteRT; kept, as the folds are."""
    from edgetool.verify.race import Entry, Settings, race

    kept = OUT / f"race-{'-'.join(folders)}.json"
    if kept.is_file():
        return [from_plain(Figure, one) for one in json.loads(kept.read_text(encoding="utf-8"))]
    entries = []
    for kind, folder in folders.items():
        pairs = {kind: (folder / "float32.tflite", folder / "int8.tflite"), f"{kind}.step": step_files(folder)}
        for name, (float32, int8) in pairs.items():
            entries.append(Entry(name, float32, "tflite", "litert"))
            entries.append(Entry(f"{name}.int8", int8, "tflite", "litert", baseline=name))
    rows = race(entries, Settings()).rows
    figures = []
    for entry in entries:
        row, goal = rows[entry.id], "not slower: upper 99 % bound < 1.05"
        if isinstance(row, Skipped):
            figures.append(Figure(f"{entry.id}.time", goal, None, "x float32", None, met=False))
            continue
        figures.append(Figure(f"{entry.id}.p50", "reported", row.p50_ms, "ms", None, met=True))
        if entry.baseline is not None:
            met = row.verdict in {"faster", "not_slower"}
            figures.append(Figure(f"{entry.id}.time", goal, row.ratio, "x float32", row.ratio_ci95, met))
    kept.write_text(to_json(figures), encoding="utf-8")
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
    """Quantize a model from fresh weights, and run it on clips; what it knows is not looked at."""
    from convert.to_litert import to_litert

    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        task = task_of(load(folder, 1, takes=8), speaker=0)
        model = build("gru", 32)
        model.save(folder / "float.keras")
        (folder / "float32.tflite").write_bytes(to_litert(model, "float32", None))
        quantize(task, folder)
        sums = outputs_of(folder / "int8.tflite", task.test, folder / "int8.npy").sum(axis=1)
        *told, foreign = sizes("gru", folder)
        print(table([("keyword_rnn", dataclasses.replace(one, goal="reported", met=True)) for one in told]))
        print(f"probabilities of {len(sums)} clips sum to {sums.min():.3f} … {sums.max():.3f}")
        # each of ten probabilities is off by at most half a step of 1/256
        return 0 if foreign.met and np.abs(sums - 1).max() <= 5 / 256 else 1


def _one_thread() -> None:
    """As on a small machine; and fits give the same on one with more cores."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


if __name__ == "__main__":
    sys.exit(main())
