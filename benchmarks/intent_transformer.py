"""A small transformer in int8: the intent of a sentence, on SNIPS, as integer .tflite and as QDQ .onnx.

    python -m benchmarks.intent_transformer             a few minutes on one idle core
    python -m benchmarks.intent_transformer --slice     a small model, a few steps, for CI; writes nothing

Data: 13,784 sentences to learn from and 700 to be judged by, with seven intents, of the shared data (EDGETOOL_DATA,
else ../shared/data). A tenth of the first are the validation part, on which the settings below were chosen. Words are
numbered by the training part; one that stands there only once counts as unknown.

`quantize.lsq` makes int8 of the model; beside it `control`, the float model trained on for as long, so that more
training is not sold as compression. Both files are of one fit. Accuracy is of the files on the 700 sentences, paired;
time is one thread of LiteRT and of ONNX Runtime. An interrupted run goes on (out/intent_transformer): remove that
folder after changing a setting.
"""

import argparse
import json
import os
import re
import shlex
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.figures import Figure, table, write
from edge.report import Interval, Skipped

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("EDGETOOL_DATA") or REPOSITORY.parent / "shared" / "data") / "text" / "snips"
OUT = REPOSITORY / "out" / "intent_transformer"
WORDS = 24  # of a sentence; one in a thousand is longer
PADDING, UNKNOWN = 0, 1
VALIDATION = 0.1
WIDTH, HEADS, BLOCKS = 64, 4, 1
EPOCHS, BATCH, LEARNING_RATE = 5, 64, 2e-3
QUANTIZED_EPOCHS, QUANTIZED_RATE = 2, 1e-4
SAMPLES = 256
MAX_DROP = 0.02
FILES = ("float32.tflite", "control.tflite", "int8.tflite", "float32.onnx", "int8.onnx")

Ids = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


def sentences(side: str) -> tuple[list[list[str]], list[str]]:
    """The words of every sentence of "train" or "validate", which is the test, and its intent."""
    found, intents = [], []
    for path in sorted(SHARED.glob(f"{side}_*.json")):
        raw = path.read_bytes()
        try:
            content = json.loads(raw)
        except UnicodeDecodeError:
            content = json.loads(raw.decode("latin-1"))  # one of the files is not UTF-8
        for intent, queries in content.items():
            for query in queries:
                found.append(words("".join(part["text"] for part in query["data"])))
                intents.append(intent)
    return found, intents


def words(sentence: str) -> list[str]:
    """Letters and digits, an apostrophe within them; small letters."""
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", sentence.lower())


def load(limit: int | None = None) -> Any:
    """The task: word numbers [n, WORDS] and intents. `limit` keeps so many of each side, for a slice."""
    from edge.preprocess import ArrayInput
    from edgetool.data.examples import ArrayExamples
    from edgetool.data.split import stratified_split
    from edgetool.metrics import metric
    from edgetool.task import Task

    learned, intents = sentences("train")
    judged, judged_intents = sentences("validate")
    names = tuple(sorted(set(intents)))
    labels, judged_labels = (np.array([names.index(one) for one in side]) for side in (intents, judged_intents))
    rest, drawn = stratified_split(labels, VALIDATION, 0)
    counted = Counter(word for i in rest for word in learned[i])
    numbers = {word: UNKNOWN + 1 + i for i, word in enumerate(sorted(w for w, n in counted.items() if n > 1))}

    def ids(chosen: list[list[str]]) -> Ids:
        made = np.full((len(chosen), WORDS), PADDING, np.int32)
        for row, one in zip(made, chosen, strict=True):
            known = [numbers.get(word, UNKNOWN) for word in one[:WORDS]]
            row[: len(known)] = known
        return made

    if limit is not None:
        order = np.random.default_rng(0).permutation(len(judged))[:limit]
        judged, judged_labels = [judged[i] for i in order], judged_labels[order]
        rest, drawn = (np.random.default_rng(0).permutation(part)[: limit * 4] for part in (rest, drawn))
    step = {"words": ArrayInput(dtype="int32")}
    whole = ids(learned)
    sides = ((whole[rest], labels[rest]), (whole[drawn], labels[drawn]), (ids(judged), judged_labels))
    train, val, test = (ArrayExamples({"words": x}, y, step) for x, y in sides)
    return Task("snips", train, val, test, metric("accuracy"), step, names), len(numbers) + UNKNOWN + 1


def build(vocabulary: int, intents: int, width: int) -> Any:
    """Embedding, positions, blocks of attention and two dense layers, the mean, a softmax: for [N, WORDS]."""
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(0)
    ids = keras.Input((WORDS,), dtype="int32", name="words")
    x = layers.Embedding(vocabulary, width)(ids)
    # a bias for each place is a position embedding
    x = layers.EinsumDense("btd,de->bte", output_shape=(WORDS, width), bias_axes="te")(x)
    x = layers.Dropout(0.2)(x)
    for _ in range(BLOCKS):
        attended = layers.MultiHeadAttention(HEADS, width // HEADS, dropout=0.1)(x, x)
        x = layers.LayerNormalization()(layers.Add()([x, attended]))
        inner = layers.Dense(width)(layers.Dense(2 * width, activation="relu")(x))
        x = layers.LayerNormalization()(layers.Add()([x, layers.Dropout(0.1)(inner)]))
    x = layers.Dropout(0.3)(layers.GlobalAveragePooling1D()(x))
    return keras.Model(ids, layers.Dense(intents, activation="softmax", name="intent")(x), name="intents")


def trained(task: Any, vocabulary: int, width: int, epochs: int, folder: Path) -> None:
    """Train, quantize, write all FILES below `folder`; what is there already stays."""
    from compress.training import FineTune
    from convert.load import describe, load_keras
    from convert.to_litert import to_litert
    from convert.to_onnx import to_onnx
    from edgetool.passes.learned_steps import twin, write_integer
    from edgetool.passes.recovery import recover
    from edgetool.task import batches

    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "float.keras").is_file():
        model = build(vocabulary, len(task.labels), width)
        recover(model, task, FineTune(epochs, LEARNING_RATE, BATCH, 0), folder / "fit", _quiet)
        (folder / "float32.tflite").write_bytes(to_litert(model, "float32", None))
        (folder / "float32.onnx").write_bytes(to_onnx(model))
        model.save(folder / "float.keras")
    further = FineTune(min(QUANTIZED_EPOCHS, epochs), QUANTIZED_RATE, BATCH, 0)
    if not (folder / "control.tflite").is_file():
        control = load_keras(folder / "float.keras")
        _say("control", recover(control, task, further, folder / "control_fit", _quiet))
        (folder / "control.tflite").write_bytes(to_litert(control, "float32", None))
    if not (folder / "int8.onnx").is_file():
        source = describe(folder / "float.keras")
        drawn = np.random.default_rng(0).permutation(task.train.n)[:SAMPLES]
        examples = (inputs for inputs, _ in batches(task.train, BATCH, drawn))
        model, graph = twin(load_keras(source.path), source, examples)
        _say("int8", recover(model, task, further, folder / "int8_fit", _quiet))
        for form in ("tflite", "onnx"):
            written = write_integer(model, graph, source, folder, "quantize.lsq", form)
            _say(f"int8.{form}", written.skipped)
            written.artifact.path.replace(folder / f"int8.{form}")


def _say(what: str, skipped: tuple[Skipped, ...]) -> None:
    for one in skipped:
        print(f"{what}: {one.what}: {one.reason}", flush=True)


def _quiet(_fraction: float, _what: str) -> None:
    """Nothing is shown."""


def answers(examples: Any, folder: Path) -> dict[str, Floats]:
    """What every file gives for all examples, one by one: [n, intents]."""
    from edge.engines import open_engine

    inputs, _ = examples.take(np.arange(examples.n))
    made = {}
    for name in FILES:
        engine = open_engine(folder / name, "onnx" if name.endswith("onnx") else "tflite")
        (given,) = engine.outputs
        rows = [engine.run({"words": one[None]})[given.name][0] for one in inputs["words"]]
        made[name] = np.array(rows, np.float32)
        engine.close()
    return made


def accuracies(task: Any, outputs: dict[str, Floats]) -> list[Figure]:
    """Accuracy of the files on the test sentences, and what int8 loses of it."""
    from edgetool.verify.accuracy_gate import drop, interval

    labels, figures = task.test.labels(), []
    for name in ("float32.tflite", "int8.tflite", "int8.onnx"):
        value, bounds = interval(task.metric, outputs[name], labels)
        figures.append(Figure(f"{name}.accuracy", "reported", 100 * value, "%", _percent(bounds), met=True))
    for name in ("int8.tflite", "int8.onnx"):
        for beside in ("float32", "control"):
            lost = drop(task.metric, outputs[f"{beside}.tflite"], outputs[name], labels, MAX_DROP)
            points, what = _percent(lost.ci95), "drop" if beside == "float32" else "behind_control"
            figures.append(Figure(f"{name}.{what}", "reported", 100 * lost.value, "points", points, met=True))
            if beside == "float32":
                upper = 100 * lost.upper95
                met = lost.upper95 <= MAX_DROP
                figures.append(Figure(f"{name}.drop_upper95", "<= 2", upper, "points", None, met))
    apart = np.abs(outputs["int8.tflite"] - outputs["int8.onnx"]).max()
    figures.append(Figure("tflite_from_onnx", "reported", 256 * float(apart), "steps of 1/256", None, met=True))
    return figures


def sizes(folder: Path) -> list[Figure]:
    """How much smaller weights and files are, and that no operation is one that plain LiteRT lacks.

    Weights of a file are all its constants: with the biases, and with the shapes and indices of its operations.
    """
    from convert.flatbuffer import read_flatbuffer
    from convert.load import load_keras
    from convert.operations import operations

    parameters = load_keras(folder / "float.keras").count_params()
    litert = sum(len(one.data) for one in read_flatbuffer(folder / "int8.tflite").buffers if one.data is not None)
    foreign = sum(n for name, n in operations(folder / "int8.tflite", "tflite").items() if name not in builtins())
    figures = [Figure("parameters", "reported", parameters, "", None, met=True)]
    for form, constants in (("tflite", litert), ("onnx", _onnx_constants(folder / "int8.onnx"))):
        weights = 4 * parameters / constants
        file = (folder / f"float32.{form}").stat().st_size / (folder / f"int8.{form}").stat().st_size
        figures.append(Figure(f"int8.{form}.weights_smaller", ">= 3.9", weights, "x", None, weights >= 3.9))
        figures.append(Figure(f"int8.{form}.file_smaller", ">= 3.2", file, "x", None, file >= 3.2))
    figures.append(Figure("int8.tflite.flex_or_custom_operations", "<= 0", foreign, "", None, foreign == 0))
    return figures


def builtins() -> set[str]:
    """The names of all operations of plain LiteRT."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    return {name for name in vars(BuiltinOperator) if name.isupper() and name not in {"CUSTOM", "DELEGATE"}}


def _onnx_constants(path: Path) -> int:
    import onnx
    from onnx import numpy_helper

    return sum(numpy_helper.to_array(tensor).nbytes for tensor in onnx.load(path).graph.initializer)


def speed(folder: Path) -> list[Figure]:
    """Int8 over float32 time of a sentence, one thread of each runtime."""
    from edgetool.verify.race import Entry, Settings, race

    entries = []
    for form, engine in (("tflite", "litert"), ("onnx", "onnxruntime")):
        entries.append(Entry(f"float32.{form}", folder / f"float32.{form}", form, engine))
        entries.append(Entry(f"int8.{form}", folder / f"int8.{form}", form, engine, baseline=f"float32.{form}"))
    rows = race(entries, Settings()).rows
    figures = []
    for entry in entries:
        row = rows[entry.id]
        # the goal is LiteRT's, the runtime of the device
        goal = "< 1.05" if entry.engine == "litert" else "reported"
        if isinstance(row, Skipped):
            print(f"{entry.id}: {row.reason}")
        elif entry.baseline is None or row.ratio is None:
            figures.append(Figure(f"{entry.id}.p50", "reported", row.p50_ms, "ms", None, met=True))
        else:
            met = goal == "reported" or row.verdict in {"faster", "not_slower"}
            figures.append(Figure(f"{entry.id}.time_ratio", goal, row.ratio, "", row.ratio_ci95, met))
    if not any(figure.name == "int8.tflite.time_ratio" for figure in figures):
        figures.append(Figure("int8.tflite.time_ratio", "< 1.05", None, "", None, met=False))
    return figures


def _percent(bounds: Interval) -> Interval:
    return 100 * bounds[0], 100 * bounds[1]


def main() -> int:
    """Train, quantize, compare, race; 1 where a figure is not met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", action="store_true", help="a few steps of a small model; writes nothing")
    parser.add_argument("--validation", action="store_true", help="stop before the test sentences; writes nothing")
    options = parser.parse_args()
    if not SHARED.is_dir():
        print(f"SKIPPED: no sentences in {SHARED} (EDGETOOL_DATA may say where they are)")
        return 0 if options.slice else 1
    _one_thread()
    if options.slice:
        return _slice()
    task, vocabulary = load()
    trained(task, vocabulary, WIDTH, EPOCHS, OUT)
    for name, given in answers(task.val, OUT).items():
        print(f"validation, {name}: {task.metric.value(given, task.val.labels()):.4f}", flush=True)
    if options.validation:
        return 0
    figures = accuracies(task, answers(task.test, OUT)) + sizes(OUT) + speed(OUT)
    print(table([("intent_transformer", figure) for figure in figures]))
    write("intent_transformer", shlex.join(["python", "-m", "benchmarks.intent_transformer"]), figures)
    return 1 if any(not figure.met for figure in figures) else 0


def _slice() -> int:
    """Whether a model of another width is int8 in both forms, which say the same."""
    task, vocabulary = load(limit=160)
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        trained(task, vocabulary, 16, 1, folder)
        outputs, figures = answers(task.test, folder), sizes(folder)
    print(table([("intent_transformer", figure) for figure in figures]))
    apart = float(np.abs(outputs["int8.tflite"] - outputs["int8.onnx"]).max())
    print(f"the two files are {256 * apart:.0f} steps of 1/256 apart")
    flex = figures[-1]
    return 0 if flex.met and apart <= 4 / 256 else 1


def _one_thread() -> None:
    """As on a small machine; and fits give the same on one with more cores."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


if __name__ == "__main__":
    sys.exit(main())
