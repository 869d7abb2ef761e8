"""How far is an int8 file from the fake-quantized model that was trained? With ranges as tensorflow-model-optimization
starts them, and measured first.

python -m benchmarks.qat [--slice]     --slice: the tables only, seconds, for CI

Each reference model is fake-quantized, trained for STEPS steps and converted; both then answer the same validation
examples. Differences are in steps (LSB) of the file's output and as SQNR, 10 log10(signal power / error power).
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import Figure, write

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
STEPS, BATCH, EXAMPLES = 32, 32, 256
DEQUANTIZE = 6  # BuiltinOperator of the schema


def measure(recipe: str, *, measured: bool) -> dict[str, float]:
    """One model: the worst and the mean difference in steps of the output, SQNR in dB, and the share that is equal."""
    from compress.quantize.qat import fake_quantize, measure_ranges
    from compress.tf_keras_training import call, feeds, fine_tune_tf_keras
    from compress.training import FineTune
    from convert.load import describe
    from convert.to_litert import to_litert
    from edgetool.conversion_worker import load_source
    from edgetool.judge import run_on
    from edgetool.passes.recovery import loss_of
    from edgetool.passes.step import write_model
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
    tflite = to_litert(model, "dynamic", None)
    inputs, labels = task.val.take(np.arange(min(EXAMPLES, task.val.n)))
    fake = np.asarray(call(model, feeds(model, (inputs, labels)), training=False))
    with tempfile.TemporaryDirectory() as folder:
        made = write_model(tflite, source, Path(folder), "tflite", "quantize.qat")
        got = run_on(made, inputs)[made.outputs[0].name]
    steps_off = np.abs(got - fake) / output_step(tflite)
    error = float(np.sum(np.square(got - fake)))
    found = {
        "max_lsb": float(steps_off.max()),
        "mean_lsb": float(steps_off.mean()),
        "equal": float(np.mean(steps_off < 0.5)),
    }
    if error:  # without one there is no ratio
        found["sqnr_db"] = float(10 * np.log10(np.sum(np.square(fake)) / error))
    return found


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


def main(arguments: list[str]) -> None:
    """Measure and write benchmarks/results/qat.json."""
    small = "--slice" in arguments
    recipes = ("breast_cancer", "diabetes", *(() if small else ("fashion_mnist",)))
    figures: list[Figure] = []
    for recipe in recipes:
        for measured in (False, True):
            found = measure(recipe, measured=measured)
            name = f"{recipe}.{'measured' if measured else 'default'}_ranges"
            print(name, found, flush=True)
            for key, unit in (("max_lsb", "LSB"), ("mean_lsb", "LSB"), ("sqnr_db", "dB"), ("equal", "of the outputs")):
                if key in found:
                    figures.append(Figure(f"{name}.{key}", "reported", found[key], unit, None, met=True))
    if not small:
        print(write("qat", "python -m benchmarks.qat", figures))


if __name__ == "__main__":
    main(sys.argv[1:])
