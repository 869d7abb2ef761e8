"""Channel pruning, distillation and int8 together on Fashion-MNIST: stored bytes, one-thread time, and the drop.

    python -m benchmarks.smaller_and_faster                   three seeds of both models, on the fits of channel_pruning
    python -m benchmarks.smaller_and_faster --models dscnn    the figures of the other model stay as they were
    python -m benchmarks.smaller_and_faster --validation      numbers of levels compared on the validation images
    python -m benchmarks.smaller_and_faster --slice           a few steps, for CI; writes nothing

Each seed's channel-pruned fit of benchmarks/channel_pruning.py (made here where it is not kept yet) becomes an int8
.tflite whose kernels have few levels, so that they code to fewer bits; it is packed as a bundle packs it, unpacked, and
run by LiteRT on the 10,000 test images. The drop from the float32 original is judged; that from `control`, the original
fitted in float32 for as long, stands beside, so that under-training is not sold as compression. Time is one thread of
LiteRT, the original and every seed in one race.
"""

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import channel_pruning
from benchmarks.channel_pruning import MAX_DROP, SEEDS, Data, Fitted
from benchmarks.deep_compression import outputs
from benchmarks.figures import Figure, table, write
from edge.report import Drop, Skipped

OUT = channel_pruning.REPOSITORY / "out" / "smaller_and_faster"
SMALLER = 10.0
FASTER = {"dscnn": 2.5, "resnet8": 5.0}
LEVELS = {"dscnn": 31, "resnet8": 127}  # of each kernel on either side of zero; the most that --validation leaves 10 x
TRIED = (127, 63, 31, 23, 15)
CALIBRATED_ON = 256

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Made:
    """One seed: the int8 file, its packed size, and its drop on the test images from the original and the control."""

    path: Path
    packed_bytes: int
    from_original: Drop
    from_control: Drop


def on_levels(kernel: Floats, levels: int) -> Floats:
    """Each weight on the nearest of 2 `levels` + 1 even steps between -m and m, m the largest of its output channel.

    The last axis of a kernel is its output channels. int8 with one scale a channel keeps those values apart, so a
    kernel has at most 2 `levels` + 1 different bytes; `levels` is odd, since half of m lies between two bytes.
    """
    largest = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1)), keepdims=True)
    step = np.where(largest > 0, largest, 1) / levels
    return np.asarray(np.round(kernel / step) * step, np.float32)


def int8_of(model: Any, data: Data, levels: int) -> bytes:
    """The int8 .tflite of a model whose convolution and dense kernels were put on levels; depthwise ones stay."""
    import keras

    from compress.prune.pruner import prunable
    from compress.quantize.litert_compact import compact
    from compress.quantize.litert_static import quantize_static
    from convert.to_litert import to_litert

    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for kernel in prunable(copy, "levels")[0]:
        kernel.assign(on_levels(kernel.numpy(), levels))

    def calibration() -> Iterator[dict[str, Floats]]:
        return ({"image": image[None]} for image in data.train[:CALIBRATED_ON])

    return compact(quantize_static(compact(to_litert(copy, "float32", None)), calibration).model)


def float32_of(model: Any) -> bytes:
    """The float32 .tflite, equal vectors stored once."""
    from compress.quantize.litert_compact import compact
    from convert.to_litert import to_litert

    return compact(to_litert(model, "float32", None))


def measure(original: Floats, fits: Sequence[Fitted], data: Data, levels: int, folder: Path) -> list[Made]:
    """The int8 file of every seed, and its answers against those of the original [n, 10] and of the seed's control."""
    from edge.packing import pack, unpack
    from edgetool.metrics import metric
    from edgetool.verify.accuracy_gate import drop

    accuracy, labels, made = metric("accuracy"), data.test_labels, []
    for seed, found in enumerate(fits):
        path = folder / f"seed{seed}.tflite"
        path.write_bytes(int8_of(found.models["pruned"], data, levels))
        packed = pack(path.read_bytes(), "tflite")
        answers = outputs(unpack(packed, path.stat().st_size), data.test)
        made.append(
            Made(
                path,
                len(packed),
                drop(accuracy, original, answers, labels, MAX_DROP),
                drop(accuracy, found.outputs["control"], answers, labels, MAX_DROP),
            )
        )
    return made


def compare_levels(original: Floats, model: Any, held_out: tuple[Floats, Any], data: Data, size: int) -> None:
    """Print for each number of levels how many times smaller than `size` the file is stored, and its drop."""
    from edge.packing import pack
    from edgetool.metrics import metric
    from edgetool.verify.accuracy_gate import drop

    images, labels = held_out
    for levels in TRIED:
        content = int8_of(model, data, levels)
        lost = drop(metric("accuracy"), original, outputs(content, images), labels, MAX_DROP)
        smaller = size / len(pack(content, "tflite"))
        print(f"{levels} levels: {smaller:.2f} x smaller, drop {100 * lost.value:.2f} points", flush=True)


def held_out() -> tuple[Floats, Any]:
    """The images [6000, 28, 28, 1] and labels that `channel_pruning.load` leaves out."""
    from edgetool.data.fashion_mnist import load_arrays
    from edgetool.data.split import stratified_split

    x_train, y_train, _, _ = load_arrays()
    _, drawn = stratified_split(y_train, 0.1, 0)
    return x_train[drawn][..., np.newaxis].astype(np.float32) / np.float32(255), y_train[drawn].astype(np.int64)


def figures_of(name: str, baseline: Path, made: Sequence[Made], fits: Sequence[Fitted], launches: int) -> list[Figure]:
    """Size and drops of every seed, and the original's time over the seed's."""
    from edgetool.verify.race import Entry, Settings, race

    entries = [Entry("original", baseline, "tflite", "litert")]
    entries += [
        Entry(f"seed{seed}", one.path, "tflite", "litert", baseline="original") for seed, one in enumerate(made)
    ]
    result = race(entries, Settings(launches=launches))
    others = result.conditions.others_cores
    print(f"{name}: other programs kept {'unknown' if others is None else f'{others:.2f}'} cores busy in the race")
    size, figures = baseline.stat().st_size, list[Figure]()
    figures.append(Figure(f"{name}.seeds", f">= {SEEDS}", len(made), "", None, len(made) >= SEEDS))
    for seed, (one, fit) in enumerate(zip(made, fits, strict=True)):
        smaller = size / one.packed_bytes
        figures += [
            Figure(f"{name}.smaller.seed{seed}", f">= {SMALLER:g}", smaller, "x", None, smaller >= SMALLER),
            Figure(f"{name}.stored_bytes.seed{seed}", "reported", one.packed_bytes, "B", None, met=True),
            _faster(f"{name}.faster.seed{seed}", FASTER[name], result.rows[entries[seed + 1].id]),
            _drop(f"{name}.drop_upper95.seed{seed}", one.from_original, judged=True),
            _drop(f"{name}.drop_upper95_from_control.seed{seed}", one.from_control, judged=False),
            Figure(f"{name}.macs.seed{seed}", "reported", fit.macs[1] / fit.macs[0], "", None, met=True),
        ]
    return figures


def _faster(name: str, goal: float, row: Any) -> Figure:
    if isinstance(row, Skipped) or row.ratio is None or row.ratio_ci95 is None:
        return Figure(name, f">= {goal}", None, "x", None, met=False)
    low, high = row.ratio_ci95
    return Figure(name, f">= {goal}", 1 / row.ratio, "x", (1 / high, 1 / low), 1 / row.ratio >= goal)


def _drop(name: str, found: Drop, *, judged: bool) -> Figure:
    low, high = found.ci95
    goal = f"<= {100 * MAX_DROP:g}" if judged else "reported"
    return Figure(
        name, goal, 100 * found.upper95, "points", (100 * low, 100 * high), not judged or found.verdict == "pass"
    )


def main() -> int:
    """Fit where that is not done, compress, compare, race; 1 where a figure is not met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", action="store_true", help="a few steps of one seed, for CI; writes nothing")
    parser.add_argument("--validation", action="store_true", help="compare levels on seed 0; writes nothing")
    parser.add_argument("--models", nargs="+", choices=sorted(FASTER), default=sorted(FASTER))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--cycles", type=int, default=channel_pruning.CYCLES, help="of every fit, as there")
    options = parser.parse_args()
    data, seeds, cycles, fits_in, folder = (
        channel_pruning.load(), options.seeds, options.cycles, channel_pruning.OUT, OUT,
    )  # fmt: skip
    if options.slice:
        few = slice(0, 10 * channel_pruning.BATCH)
        data = Data(data.train[few], data.train_labels[few], data.test[:500], data.test_labels[:500])
        seeds, cycles, fits_in, folder = 1, 1, fits_in / "slice", folder / "slice"
    figures: list[Figure] = []
    for name in ["dscnn"] if options.slice else options.models:
        original = channel_pruning.source(name, data, channel_pruning.SOURCE_EPOCHS, fits_in / name)
        if options.validation:
            model = channel_pruning.candidate(original, data, cycles, 0, fits_in / name)
            held, content = held_out(), float32_of(original)
            compare_levels(outputs(content, held[0]), model, held, data, len(content))
            continue
        fits = [channel_pruning.one_seed(original, data, cycles, seed, fits_in / name) for seed in range(seeds)]
        (folder / name).mkdir(parents=True, exist_ok=True)
        baseline = folder / name / "original.tflite"
        baseline.write_bytes(float32_of(original))
        made = measure(outputs(baseline.read_bytes(), data.test), fits, data, LEVELS[name], folder / name)
        found = figures_of(name, baseline, made, fits, 8)
        print(table([("smaller_and_faster", figure) for figure in found]), flush=True)
        figures += found
        if not options.slice:
            _save(figures)
    if options.slice:
        # ten steps show that it runs and gets small, not how well it learns: int8 and half the MACs alone give 8 x
        return 0 if all((figure.value or 0) > 9 for figure in figures if ".smaller" in figure.name) else 1
    return 1 if any(not figure.met for figure in figures) else 0


def _save(figures: list[Figure]) -> None:
    """Write these figures and keep those of the models that this run leaves out."""
    goals = {
        name: {
            "smaller": (f">= {SMALLER:g}", "x"),
            "faster": (f">= {goal}", "x"),
            "drop_upper95": (f"<= {100 * MAX_DROP:g}", "points"),
        }
        for name, goal in FASTER.items()
    }
    command = shlex.join(["python", "-m", "benchmarks.smaller_and_faster", *sys.argv[1:]])
    write("smaller_and_faster", command, channel_pruning.with_others("smaller_and_faster", figures, goals))


if __name__ == "__main__":
    sys.exit(main())
