"""How far is an int8 file from the fake-quantized model that was trained? With ranges as tensorflow-model-optimization
starts them, and measured first.

    python -m benchmarks.qat             some minutes; an interrupted run goes on (out/qat)
    python -m benchmarks.qat --slice     the tables only, for CI; writes nothing

Each reference model is fake-quantized, trained for STEPS steps and converted; both then answer the same validation
examples. Differences are in steps (LSB) of the file's output and as SQNR, 10 log10(signal power / error power). Beside
that every integer layer is cut out of the file and held alone against its fake-quantized one, on GOLDEN examples.

`noise` is what the 18 dB were found on: a fresh convolutional network that has seen one epoch of noise with random
labels. As
    SQNR = 20 log10(the output in steps, as root mean square) - 10 log10(mean square of the differences in steps),
both terms stand beside it.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import Figure, write

REPOSITORY = Path(__file__).resolve().parent.parent
RECIPES, OUT = REPOSITORY / "recipes", REPOSITORY / "out" / "qat"
STEPS, BATCH, EXAMPLES, GOLDEN = 32, 32, 256, 32
DEQUANTIZE = 6  # BuiltinOperator of the schema


def reference(recipe: str, *, measured: bool) -> dict[str, float]:
    """One reference model on its validation examples."""
    from compress.quantize.qat import fake_quantize, measure_ranges
    from compress.tf_keras_training import fine_tune_tf_keras
    from compress.training import FineTune
    from convert.load import describe
    from edgetool.conversion_worker import load_source
    from edgetool.passes.recovery import loss_of
    from edgetool.passes.tf_keras_fit import load_pair
    from edgetool.recipe import read_recipe
    from edgetool.task import batches

    read = read_recipe(RECIPES / f"{recipe}.toml")
    source = describe(Path(read.model))
    task = load_source(read.task, source)
    pair = load_pair(source.path, trust=False)
    model = fake_quantize(pair.tf_keras).model
    order = np.random.default_rng(0).permutation(task.train.n)
    if measured:
        measure_ranges(model, list(batches(task.train, BATCH, order[: 8 * BATCH])))
    steps = min(STEPS, task.train.n // BATCH)
    loss = (loss_of(task), pair.output)
    fit = FineTune(1, 1e-4, BATCH, 0)
    fine_tune_tf_keras(model, lambda _: batches(task.train, BATCH, order), steps, loss, fit, lambda *_: None)
    inputs, _ = task.val.take(np.arange(min(EXAMPLES, task.val.n)))
    return apart(model, inputs)


def noise(activation: str, *, measured: bool) -> dict[str, float]:
    """A fresh network that was shown noise for an epoch, on the first of it."""
    import tf_keras

    from compress.quantize.qat import fake_quantize, measure_ranges
    from compress.tf_keras_training import fine_tune_tf_keras
    from compress.training import FineTune, OutputKind

    layers = tf_keras.layers
    tf_keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(512, 28, 28, 1)).astype(np.float32), rng.integers(0, 10, 512)
    x = image = layers.Input((28, 28, 1), name="image")
    for filters in (16, 32):
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(x)))
        x = layers.MaxPooling2D()(x)
    x = layers.Dense(64, activation="relu")(layers.Flatten()(x))
    model = fake_quantize(tf_keras.Model(image, layers.Dense(10, activation=activation, name="label")(x))).model
    seen = [({"image": images[i : i + BATCH]}, labels[i : i + BATCH]) for i in range(0, len(images), BATCH)]
    if measured:
        measure_ranges(model, seen[:8])
    kind: OutputKind = "logits" if activation == "linear" else "softmax"
    fit = FineTune(1, 1e-3, BATCH, 0)
    fine_tune_tf_keras(model, lambda _: iter(seen), len(seen), ("crossentropy", kind), fit, lambda *_: None)
    return apart(model, {"image": images[:GOLDEN]})


def apart(model: Any, inputs: Mapping[str, Any]) -> dict[str, float]:
    """A fake-quantized model and its integer file, on inputs [n, ...]: end to end, and each layer alone."""
    from compress.quantize.layer_difference import layer_differences, layer_outputs
    from convert.to_litert import to_litert

    tflite = to_litert(model, "dynamic", None)
    golden = {name: values[:GOLDEN] for name, values in inputs.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(tflite)
        got = answers(path, inputs)
    (name,) = inputs
    found = layer_differences(tflite, layer_outputs(model, golden), [golden[name]])
    for one in found:
        print("   ", one, flush=True)
    fake = layer_outputs(model, inputs)[model.layers[-1].name].reshape(got.shape)
    step = output_step(tflite)
    difference = (got - fake) / step
    centred = fake - fake.mean(axis=0)
    result = {
        "max_lsb": float(np.abs(difference).max()),
        "mean_lsb": float(np.abs(difference).mean()),
        "equal": float(np.mean(np.abs(difference) < 0.5)),
        "output_rms": float(np.sqrt(np.mean(np.square(centred))) / step),
        "layers": len(found),
        "layer_alone_max_lsb": max(one.alone for one in found),
        "layer_alone_share": max(one.share for one in found),
        "output_off_grid": found[-1].off_grid,
    }
    error = float(np.mean(np.square(difference)))
    if error:  # without one there is no ratio
        result["sqnr_db"] = float(10 * np.log10(np.mean(np.square(fake / step)) / error))
        result["sqnr_about_mean_db"] = float(20 * np.log10(result["output_rms"]) - 10 * np.log10(error))
    return result


def answers(path: Path, inputs: Mapping[str, Any]) -> Any:
    """What a .tflite of one input and one output gives, example by example: [n, ...]."""
    from edge.engines import open_engine

    engine = open_engine(path, "tflite")
    (values,), (fed,), (given,) = inputs.values(), engine.inputs, engine.outputs
    made = np.concatenate([engine.run({fed.name: one[None]})[given.name] for one in values])
    engine.close()
    return made


def output_step(tflite: bytes) -> float:
    """One step of the integers that the float output is made of."""
    from compress.quantize.litert_model import read_model

    model: Any = read_model(tflite)
    graph = model.subgraphs[0]
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        if max(code.builtinCode, code.deprecatedBuiltinCode) == DEQUANTIZE and operator.outputs[0] in graph.outputs:
            return float(graph.tensors[operator.inputs[0]].quantization.scale[0])
    raise RuntimeError("the output is not made of integers")


UNITS = {
    "max_lsb": "LSB",
    "mean_lsb": "LSB",
    "equal": "of the outputs",
    "sqnr_db": "dB",
    "sqnr_about_mean_db": "dB",
    "output_rms": "LSB",
    "layers": "",
    "layer_alone_max_lsb": "LSB",
    "layer_alone_share": "of its numbers",
    "output_off_grid": "LSB",
}


def kept(name: str, run: Callable[[], dict[str, float]], folder: Path | None) -> dict[str, float]:
    """What a run found, from `folder` where it was there already."""
    if folder is None:
        return run()
    path = folder / f"{name}.json"
    if not path.is_file():
        found = run()
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found), encoding="utf-8")
    read: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    return read


def main(arguments: list[str]) -> int:
    """Measure and write benchmarks/results/qat.json; 1 where a layer alone is more than a step off."""
    small = "--slice" in arguments
    recipes = ("breast_cancer", "diabetes", *(() if small else ("fashion_mnist",)))
    runs = [] if small else [(f"noise.{kind}", partial(noise, kind)) for kind in ("linear", "softmax")]
    runs += [(recipe, partial(reference, recipe)) for recipe in recipes]
    figures: list[Figure] = []
    for name, run in runs:
        for measured in (False, True):
            ranges = f"{name}.{'measured' if measured else 'default'}_ranges"
            found = kept(ranges, partial(run, measured=measured), None if small else OUT)
            print(ranges, found, flush=True)
            for key, unit in UNITS.items():
                if key not in found:
                    continue
                goal = "<= 1" if key == "layer_alone_max_lsb" else "reported"
                met = goal == "reported" or found[key] <= 1
                figures.append(Figure(f"{ranges}.{key}", goal, found[key], unit, None, met))
    if not small:
        print(write("qat", "python -m benchmarks.qat", figures))
    return 1 if any(not figure.met for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
