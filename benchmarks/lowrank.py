"""Low-rank factorization of the reference CNN on Fashion-MNIST: accuracy, bytes and time at two budgets.

    python -m benchmarks.lowrank             0.7 and 0.5 of the MACs, 4 epochs each; about half an hour on two cores
    python -m benchmarks.lowrank --slice     ten steps at one budget, for CI; writes nothing

Data, steps and learning rate are those of benchmarks.channel_pruning, whose figures at half the MACs are what these are
to be read beside; but that program's fits have the original as teacher, these learn from the labels alone.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from benchmarks.channel_pruning import BATCH, MAX_DROP, REPOSITORY, Data, fitted, load, outputs, source
from benchmarks.figures import Figure, table, write
from edge.report import Skipped

OUT = REPOSITORY / "out" / "lowrank"
BUDGETS: tuple[float, ...] = (0.7, 0.5)


def main() -> int:
    """Factorize, fit, compare, race; 1 where a budget is not met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", action="store_true", help="a few steps at one budget, for CI; writes nothing")
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()
    data, budgets, epochs, folder = load(), BUDGETS, options.epochs, OUT
    if options.slice:
        few = slice(0, 10 * BATCH)
        data = Data(data.train[few], data.train_labels[few], data.test[:1000], data.test_labels[:1000])
        budgets, epochs, folder = BUDGETS[:1], 1, OUT / "slice"
    figures = measure(data, budgets, epochs, folder)
    print(table([("lowrank", figure) for figure in figures]))
    if not options.slice:
        write("lowrank", shlex.join(["python", "-m", "benchmarks.lowrank", *sys.argv[1:]]), figures)
    return 1 if any(not figure.met for figure in figures) else 0


def measure(data: Data, budgets: tuple[float, ...], epochs: int, folder: Path) -> list[Figure]:
    """The figures of every budget, with the original's fit of the same length as control."""
    from compress.lowrank.factorize import LowRank, factorize
    from edgetool.metrics import metric
    from edgetool.verify.accuracy_gate import drop

    original = source("dscnn", data, epochs, folder)
    control = fitted(source("dscnn", data, epochs, folder), data, epochs, 0, folder / f"control-{epochs}-0.keras")
    accuracy, labels = metric("accuracy"), data.test_labels
    before, beside = outputs(original, data), outputs(control, data)
    figures, models = [], {}
    for budget in budgets:
        made = factorize(original, LowRank(budget))
        share = made.macs[1] / made.macs[0]
        model = fitted(made.model, data, epochs, 0, folder / f"thin{budget:g}-{epochs}-0.keras")
        models[f"macs{budget:g}"] = model
        after = outputs(model, data)
        figures.append(Figure(f"macs{budget:g}.macs", f"<= {budget:g}", share, "", None, share <= budget))
        for name, reference in (("drop", before), ("behind_control", beside)):
            lost = drop(accuracy, reference, after, labels, MAX_DROP)
            ci95 = 100 * lost.ci95[0], 100 * lost.ci95[1]
            figures.append(Figure(f"macs{budget:g}.{name}", "reported", 100 * lost.value, "points", ci95, met=True))
    return figures + speed(original, models, folder)


def speed(original: Any, models: dict[str, Any], folder: Path) -> list[Figure]:
    """Original over thin time, one thread of LiteRT, and how much smaller the file is."""
    from convert.to_litert import to_litert
    from edgetool.verify.race import Entry, Settings, race

    entries = []
    for kind, model in {"original": original, **models}.items():
        path = folder / f"{kind}.tflite"
        path.write_bytes(to_litert(model, "float32", None))
        entries.append(Entry(kind, path, "tflite", "litert", baseline=None if kind == "original" else "original"))
    rows = race(entries, Settings()).rows
    figures = []
    for entry in entries[1:]:
        row = rows[entry.id]
        if isinstance(row, Skipped) or row.ratio is None or row.ratio_ci95 is None:
            figures.append(Figure(f"{entry.id}.speedup", "reported", None, "x", None, met=False))
            continue
        ci95 = 1 / row.ratio_ci95[1], 1 / row.ratio_ci95[0]
        figures.append(Figure(f"{entry.id}.speedup", "reported", 1 / row.ratio, "x", ci95, met=True))
        smaller = entries[0].path.stat().st_size / entry.path.stat().st_size
        figures.append(Figure(f"{entry.id}.smaller", "reported", smaller, "x", None, met=True))
    return figures


if __name__ == "__main__":
    sys.exit(main())
