"""Mixed precision where plain int8 loses something: accuracy, bytes and time of float32, int8 and mixed under a budget.

    python -m benchmarks.mixed             both models; about ten minutes
    python -m benchmarks.mixed --slice     few images of one model, for CI; writes nothing

The SpellingCNN with one scale a tensor, as accelerators without scales a channel need it, loses everything in int8. It
is calibrated and its sensitivities are measured on every other clip and judged on the rest, and the other way round.
The reference CNN, with scales a channel, is judged on the 10,000 test images of Fashion-MNIST; it loses little, and
`sqnr_db` says how much less it shall be. Budgets are multiples of the int8 file's size. Layers are int8 or float32,
but for one line with all three: on a CPU int16x8 runs on slow kernels.
"""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.figures import Figure, table, write
from benchmarks.repair import accuracy, classes, drop, fashion, of, spelling_clips
from benchmarks.trained_models import REPOSITORY
from compress.quantize.mixable import Precision
from edge.artifact import Artifact
from edge.report import Skipped

OUT = REPOSITORY / "out" / "mixed"
BUDGETS = (1.03, 1.1)
SQNR_DB = 25.0
NARROW: tuple[Precision, ...] = ("int8", "float32")
ALL: tuple[Precision, ...] = ("int8", "int16x8", "float32")
Rights = dict[str, npt.NDArray[np.bool_]]


def main() -> int:
    """Measure, print, and write benchmarks/results/mixed.json; 1 where a figure is not met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", action="store_true", help="few images of one model, for CI; writes nothing")
    options = parser.parse_args()
    if options.slice:
        figures = list(reference_cnn(500, samples=32, examples=32))
    else:
        figures = [*spelling(), *reference_cnn(10_000, samples=512, examples=256)]
    print(table([("mixed", figure) for figure in figures]))
    if not options.slice:
        write("mixed", shlex.join(["python", "-m", "benchmarks.mixed", *sys.argv[1:]]), figures)
    return 1 if any(not figure.met for figure in figures) else 0


def spelling() -> Iterator[Figure]:
    """SpellingCNN on real clips, in two halves."""
    model, inputs, truth = spelling_clips()
    rights: Rights = {}
    sizes: dict[str, list[int]] = {}
    for half in (0, 1):
        made = spelling_variants(model, inputs[half::2], truth[half::2])
        for name, content in made.items():
            judged = rights.setdefault(name, np.zeros(len(truth), bool))
            judged[1 - half :: 2] = classes(content, inputs[1 - half :: 2]) == truth[1 - half :: 2]
            sizes.setdefault(name, []).append(len(content))
    yield from compared("spelling_cnn", rights, {name: max(found) for name, found in sizes.items()})
    yield from speed("spelling_cnn", made)


def spelling_variants(model: bytes, inputs: Any, truth: npt.NDArray[Any]) -> dict[str, bytes]:
    """The float model, int8 with one scale a tensor, and mixed under each budget, from one half of the clips."""
    from compress.quantize.litert_mixed import mixable
    from compress.quantize.mixed import Limits, Measured, mix, options_of
    from compress.quantize.sensitivity import Outputs, measure, noise
    from edge.engines import open_engine, predict

    def run(content: bytes) -> Outputs:
        engine = open_engine(content, "tflite")
        name, given = engine.inputs[0].name, engine.outputs[0].name
        found = np.concatenate([predict(engine, {name: row[None]})[given] for row in inputs])
        engine.close()
        return {given: found}

    def score(outputs: Outputs) -> float:
        return float(np.mean(next(iter(outputs.values())).argmax(1) == truth))

    def show(_: float, what: str) -> None:
        print(f"\r{what:<40}", end="", flush=True, file=sys.stderr)

    source = mixable(model, of(model, inputs), per_channel=False)
    sensitivity = measure(source, run, score, show)
    wanted = run(source.model)
    int8 = source.build({layer.name: "int8" for layer in source.layers}).model
    made = {"float32": model, "int8": int8}
    for name, precisions, most in (*((f"mixed_{b:g}", NARROW, b) for b in BUDGETS), ("mixed_1.1_int16", ALL, 1.1)):
        limits = Limits(10 ** (-SQNR_DB / 10), most * len(int8))
        made[name] = mix(
            source,
            options_of(sensitivity, precisions),
            limits,
            lambda got: Measured(noise(wanted, run(got.model)), len(got.model)),
        ).model.model
    return made


def reference_cnn(images: int, *, samples: int, examples: int) -> Iterator[Figure]:
    """The reference CNN by the pass itself, judged on the first `images` of the test images."""
    from convert.load import describe
    from edgetool.conversion_worker import load_source
    from edgetool.passes import pass_from_settings
    from edgetool.recipe import TaskSource

    keras = describe(REPOSITORY / "recipes" / "models" / "fashion_mnist.keras")
    task = load_source(TaskSource("fashion_mnist"), keras)
    common = {"samples": samples, "examples": examples, "precisions": NARROW}
    passes: dict[str, tuple[str, dict[str, Any]]] = {
        "int8": ("quantize.int8", {"samples": samples}),
        "mixed_default": ("quantize.mixed", common),
        "mixed_35db": ("quantize.mixed", common | {"sqnr_db": 35.0}),
        "mixed_35db_int16": ("quantize.mixed", common | {"sqnr_db": 35.0, "precisions": ALL}),
    }

    def applied(name: str, settings: dict[str, Any], artifact: Artifact, folder: Path) -> Artifact:
        folder.mkdir()
        step = pass_from_settings(name, settings)
        return step(artifact, task, folder, seed=0, trust=False, progress=lambda *_: None).artifact

    made = {}
    with tempfile.TemporaryDirectory(prefix="edgetool-") as scratch:
        plain = applied("convert.litert", {}, keras, Path(scratch) / "float32")
        made["float32"] = plain.path.read_bytes()
        for name, (step, settings) in passes.items():
            made[name] = applied(step, settings, plain, Path(scratch) / name).path.read_bytes()
    _, _, x, y = fashion()
    rights = {name: classes(content, x[:images]) == y[:images] for name, content in made.items()}
    yield from compared("reference_cnn", rights, {name: len(content) for name, content in made.items()})
    if images == len(x):
        yield from speed("reference_cnn", made)


def compared(model: str, rights: Rights, sizes: dict[str, int]) -> Iterator[Figure]:
    """Accuracy of the float model; of each other its points lost, how much smaller its file is, and its budget kept."""
    yield accuracy(f"{model}.float32", rights["float32"])
    for name in list(rights)[1:]:
        budget = next((b for b in BUDGETS if name.startswith(f"mixed_{b:g}")), None)
        goal = "<= 1" if budget == max(BUDGETS) else "reported"
        yield drop(f"{model}.{name}.drop", rights["float32"], rights[name], goal)
        yield Figure(f"{model}.{name}.smaller", "reported", sizes["float32"] / sizes[name], "x", None, met=True)
        if budget is not None:
            used = sizes[name] / sizes["int8"]
            yield Figure(f"{model}.{name}.over_int8", f"<= {budget:g}", used, "x", None, met=used <= budget)


def speed(model: str, made: dict[str, bytes]) -> Iterator[Figure]:
    """Float over quantized time, one thread of LiteRT, in interleaved blocks."""
    from edgetool.verify.race import Entry, Settings, race

    OUT.mkdir(parents=True, exist_ok=True)
    entries = []
    for name, content in made.items():
        path = OUT / f"{model}-{name}.tflite"
        path.write_bytes(content)
        entries.append(Entry(name, path, "tflite", "litert", baseline=None if name == "float32" else "float32"))
    rows = race(entries, Settings()).rows
    for entry in entries[1:]:
        row, name = rows[entry.id], f"{model}.{entry.id}.speedup"
        if isinstance(row, Skipped) or row.ratio is None or row.ratio_ci95 is None:
            yield Figure(name, "reported", None, "x", None, met=False)
            continue
        ci95 = 1 / row.ratio_ci95[1], 1 / row.ratio_ci95[0]
        yield Figure(name, "reported", 1 / row.ratio, "x", ci95, met=True)


if __name__ == "__main__":
    sys.exit(main())
