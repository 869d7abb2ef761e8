"""Channel pruning to half the MACs on Fashion-MNIST: what it buys in time, and what it costs in accuracy.

    python -m benchmarks.channel_pruning                    three seeds of both models; an hour of two cores
    python -m benchmarks.channel_pruning --models dscnn --seeds 1
    python -m benchmarks.channel_pruning --slice            a few steps, for CI; writes nothing

Models: the reference depthwise CNN of recipes/, and a ResNet-8 that is trained here first, whose batch normalization
is then folded as the reference's is. For every seed the same fit (same batches, same learning rate, as many epochs,
the original as teacher) goes over three models: the pruned one; `control`, the original, so that more training is not
sold as compression; and `anew`, the pruned one's shape from fresh weights, with batch normalization, without which it
would not learn in that time. A fit is cycles of two epochs (Loshchilov and Hutter, "SGDR", 2017), each of which is
kept below out/channel_pruning, so that a run goes on and a fit can be made longer; all see the same two augmented
versions of the images, over which the teacher ran once. Accuracy is on the 10,000 test images; time is one thread of
LiteRT, all files of a model in one race.
"""

import argparse
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.figures import RESULTS, Figure, read, table, write
from edge.report import Skipped

REPOSITORY = Path(__file__).resolve().parent.parent
OUT = REPOSITORY / "out" / "channel_pruning"
SPEEDUP = {"dscnn": 1.45, "resnet8": 1.6}
MAX_DROP = 0.01
SEEDS = 3
MACS = 0.5
EPOCHS, SOURCE_EPOCHS = 2, 3  # of a cycle of a fit, and of the ResNet-8 before
CYCLES = 3  # on the validation images a second cycle won back a tenth of a point, and more was to come
BATCH = 128
SOURCE_RATE, LEARNING_RATE = 3e-3, 2e-3
TEMPERATURE, LABEL_WEIGHT = 4.0, 0.3  # as distill.logits has them by itself
RANKED_ON = 4096  # examples of the importance, in batches of 64

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Outputs = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Data:
    """Images [n, 28, 28, 1] in 0..1 with labels [n]: what is trained on, and the test images."""

    train: Images
    train_labels: Labels
    test: Images
    test_labels: Labels

    def epoch(self, seed: int, epoch: int) -> Iterator[tuple[dict[str, Images], Labels]]:
        """Batches of one epoch, augmented as the reference model's own training was."""
        from recipes.train_fashion_mnist import augment

        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(len(self.train))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            yield {"image": augment(self.train[chosen], rng)}, self.train_labels[chosen]

    def seen_in(self, epoch: int) -> Images:
        """All images as every fit sees them in an epoch of a cycle, whatever its seed."""
        from recipes.train_fashion_mnist import augment

        rng = np.random.default_rng((len(self.train), epoch))
        parts = np.split(self.train, range(4096, len(self.train), 4096))
        return np.concatenate([augment(part, rng) for part in parts])

    def lessons(self, taught: list[Outputs], seed: int, epoch: int) -> Iterator[tuple[dict[str, Images], Labels]]:
        """Batches of one epoch, counted over all cycles, with what the teacher says about each image."""
        from compress.distill.logits import TARGET

        images, said = self.seen_in(epoch % len(taught)), taught[epoch % len(taught)]
        order = np.random.default_rng((seed, epoch)).permutation(len(images))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            yield {"image": images[chosen], TARGET: said[chosen]}, self.train_labels[chosen]

    def ranked_on(self, seed: int) -> Iterator[tuple[dict[str, Images], Labels]]:
        """The examples of the importance, as they are."""
        order = np.random.default_rng(seed).permutation(len(self.train))[:RANKED_ON]
        for start in range(0, len(order), 64):
            chosen = order[start : start + 64]
            yield {"image": self.train[chosen]}, self.train_labels[chosen]


@dataclass(frozen=True)
class Fitted:
    """One seed: the models after the fit, their outputs on the test images, and the MACs before and after."""

    models: dict[str, Any]
    outputs: dict[str, Outputs]
    macs: tuple[int, int]


def load() -> Data:
    """The split on which recipes/train_fashion_mnist.py trains; its validation images are left out."""
    from edgetool.data.fashion_mnist import load_arrays
    from edgetool.data.split import stratified_split

    x_train, y_train, x_test, y_test = load_arrays()
    rest, _ = stratified_split(y_train, 0.1, 0)
    scaled, tests = (x[..., np.newaxis].astype(np.float32) / np.float32(255) for x in (x_train, x_test))
    return Data(scaled[rest], y_train[rest].astype(np.int64), tests, y_test.astype(np.int64))


def source(name: str, data: Data, epochs: int, folder: Path) -> Any:
    """The trained model that is pruned; `epochs` are those of the ResNet-8."""
    import keras

    from benchmarks.resnet8 import folded, resnet8

    if name == "dscnn":
        return keras.models.load_model(REPOSITORY / "recipes" / "models" / "fashion_mnist.keras")
    keras.utils.set_random_seed(0)
    return folded(fitted(resnet8(), data, epochs, 0, folder / f"source-{epochs}.keras"))


def taught(teacher: Any, data: Data, folder: Path) -> list[Outputs]:
    """What the teacher says about the images of each epoch of a cycle, [n, 10] softened; kept for later runs."""
    from compress.distill.logits import logits_of, soft_labels

    said = []
    for epoch in range(EPOCHS):
        kept = folder / f"taught-{len(data.train)}-{epoch}.npy"
        if not kept.is_file():
            outputs = np.asarray(teacher.predict(data.seen_in(epoch), batch_size=500, verbose=0))
            soft = soft_labels([logits_of(outputs, "classes")], "classes", TEMPERATURE).astype(np.float32)
            kept.parent.mkdir(parents=True, exist_ok=True)
            beside = kept.with_suffix(".part")
            with beside.open("wb") as file:
                np.save(file, soft)
            beside.replace(kept)
        said.append(np.load(kept))
    return said


def fitted(
    model: Any, data: Data, epochs: int, seed: int, kept: Path, soft: list[Outputs] | None = None, first: int = 0
) -> Any:
    """`model` after `epochs`, or what an earlier run kept of it; from the labels alone where no teacher speaks.

    `first` epochs were before.
    """
    import keras

    from compress.distill.logits import LogitsObjective
    from compress.training import FineTune, fine_tune

    if kept.is_file():
        return keras.models.load_model(kept)

    def progress(done: int, total: int, loss: float) -> None:
        if done % 100 == 0 or done == total:
            print(f"{kept.stem}: step {done} of {total}, loss {loss:.3f}", file=sys.stderr, flush=True)

    def batches(epoch: int) -> Iterator[tuple[dict[str, Images], Labels]]:
        return data.epoch(seed, epoch) if soft is None else data.lessons(soft, seed, first + epoch)

    fine_tune(
        model,
        batches,
        len(data.train) // BATCH,
        "crossentropy",
        (),
        FineTune(epochs, SOURCE_RATE if soft is None else LEARNING_RATE, BATCH, seed),
        progress,
        objectives=[] if soft is None else [LogitsObjective("classes", TEMPERATURE, 1 - LABEL_WEIGHT)],
        label_weight=1.0 if soft is None else LABEL_WEIGHT,
        checkpoint=kept.with_suffix(""),
    )
    kept.parent.mkdir(parents=True, exist_ok=True)
    model.save(kept)
    return model


def in_cycles(model: Any, data: Data, cycles: int, seed: int, kept: Path, soft: list[Outputs]) -> Any:
    """`model` after the fit that all kinds of a seed go through; every cycle is kept as `kept`-<cycle>.keras."""
    for cycle in range(cycles):
        beside = kept.with_name(f"{kept.name}-{cycle}.keras")
        model = fitted(model, data, EPOCHS, seed, beside, soft, cycle * EPOCHS)
    return model


def one_seed(original: Any, data: Data, cycles: int, seed: int, folder: Path) -> Fitted:
    """Prune and fit; and the same fit of the original and of the pruned shape from fresh weights."""
    import keras

    from convert.cost import count_keras

    fit = candidate(original, data, cycles, seed, folder)
    begun = pruned(original, data, seed, folder / f"begun-{seed}.keras")
    keras.utils.set_random_seed(seed)
    control = keras.models.clone_model(original)
    control.set_weights(original.get_weights())
    soft = taught(original, data, folder)
    models = {"pruned": fit} | {
        kind: in_cycles(model, data, cycles, seed, folder / f"{kind}-{seed}", soft)
        for kind, model in {"anew": normalised(begun), "control": control}.items()
    }
    macs = [count_keras(model)[1] or 0 for model in (original, begun)]
    return Fitted(models, {kind: outputs(model, data) for kind, model in models.items()}, (macs[0], macs[1]))


def candidate(original: Any, data: Data, cycles: int, seed: int, folder: Path) -> Any:
    """The pruned model of one seed, fitted."""
    soft = taught(original, data, folder)
    begun = pruned(original, data, seed, folder / f"begun-{seed}.keras")
    return in_cycles(begun, data, cycles, seed, folder / f"pruned-{seed}", soft)


def pruned(original: Any, data: Data, seed: int, kept: Path) -> Any:
    """The original without its least important channels, not yet fitted, or what an earlier run kept of it."""
    import keras

    from compress.prune.channels.channel import ChannelPruning, prune_channels

    if not kept.is_file():
        made = prune_channels(original, ChannelPruning(MACS, "taylor"), data.ranked_on(seed))
        for group, (now, was) in made.left.items():
            print(f"seed {seed}: {group}: {now} of {was} channels", file=sys.stderr)
        kept.parent.mkdir(parents=True, exist_ok=True)
        made.model.save(kept)
    return keras.models.load_model(kept)


def normalised(model: Any) -> Any:
    """The same shape with fresh weights, and a batch normalization after every convolution where there is none."""
    import keras

    layers = keras.layers
    has_any = any(isinstance(layer, layers.BatchNormalization) for layer in model.layers)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        made = layer(*args, **kwargs)
        if has_any or not isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)):
            return made
        return layers.BatchNormalization(name=f"{layer.name}_norm")(made)

    return keras.models.clone_model(model, call_function=call)


def outputs(model: Any, data: Data) -> Outputs:
    """Class probabilities [n, 10] of the test images."""
    return np.asarray(model.predict(data.test, batch_size=500, verbose=0))


def accuracy_figures(name: str, before: Outputs, seeds: list[Fitted], data: Data) -> list[Figure]:
    """The drop against the original and against its control, and the gain over the narrow model trained anew."""
    from edgetool.metrics import metric
    from edgetool.verify.accuracy_gate import drop, interval

    accuracy, labels = metric("accuracy"), data.test_labels
    value, ci95 = interval(accuracy, before, labels)
    figures = [
        Figure(f"{name}.seeds", f">= {SEEDS}", len(seeds), "", None, len(seeds) >= SEEDS),
        Figure(f"{name}.accuracy.original", "reported", 100 * value, "%", _percent(ci95), met=True),
    ]
    for seed, found in enumerate(seeds):
        for kind, made in found.outputs.items():
            value, ci95 = interval(accuracy, made, labels)
            figures.append(
                Figure(f"{name}.accuracy.{kind}.seed{seed}", "reported", 100 * value, "%", _percent(ci95), met=True)
            )
        lost = drop(accuracy, before, found.outputs["pruned"], labels, MAX_DROP)
        figures.append(
            Figure(
                f"{name}.drop_upper95.seed{seed}", "<= 1", 100 * lost.upper95, "points", _percent(lost.ci95),
                met=lost.verdict == "pass",
            )
        )  # fmt: skip
    # One image is seen by all seeds, so images are what is resampled.
    truth, images = np.tile(labels, len(seeds)), np.tile(np.arange(len(labels)), len(seeds))
    pooled = {kind: np.concatenate([found.outputs[kind] for found in seeds]) for kind in seeds[0].outputs}
    gained = drop(accuracy, pooled["pruned"], pooled["anew"], truth, MAX_DROP, images)
    behind = drop(accuracy, pooled["control"], pooled["pruned"], truth, MAX_DROP, images)
    return [
        *figures,
        Figure(
            f"{name}.better_than_anew", "> 0, all of the interval", 100 * gained.value, "points",
            _percent(gained.ci95), met=gained.ci95[0] > 0,
        ),
        Figure(
            f"{name}.behind_control", "reported", 100 * behind.value, "points", _percent(behind.ci95), met=True
        ),
    ]  # fmt: skip


def speed_figures(name: str, original: Any, seeds: list[Fitted], folder: Path, launches: int) -> list[Figure]:
    """Original over pruned time, one thread of LiteRT."""
    from convert.to_litert import to_litert
    from edgetool.verify.race import Entry, Settings, race

    models = {"original": original} | {f"seed{i}": found.models["pruned"] for i, found in enumerate(seeds)}
    entries, figures = [], []
    for kind, model in models.items():
        path = folder / f"{kind}.tflite"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_litert(model, "float32", None))
        entries.append(Entry(kind, path, "tflite", "litert", baseline=None if kind == "original" else "original"))
    result = race(entries, Settings(launches=launches))
    others = result.conditions.others_cores
    print(f"{name}: other programs kept {'unknown' if others is None else f'{others:.2f}'} cores busy in the race")
    size = entries[0].path.stat().st_size
    for i, entry in enumerate(entries[1:]):
        row = result.rows[entry.id]
        goal = SPEEDUP[name]
        if isinstance(row, Skipped) or row.ratio is None or row.ratio_ci95 is None:
            figures.append(Figure(f"{name}.speedup.seed{i}", f">= {goal}", None, "x", None, met=False))
            continue
        low, high = row.ratio_ci95
        value = 1 / row.ratio
        figures.append(Figure(f"{name}.speedup.seed{i}", f">= {goal}", value, "x", (1 / high, 1 / low), value >= goal))
        smaller = size / entry.path.stat().st_size
        figures.append(Figure(f"{name}.smaller.seed{i}", "reported", smaller, "x", None, met=True))
        left, whole = seeds[i].macs[1], seeds[i].macs[0]
        figures.append(Figure(f"{name}.macs.seed{i}", f"<= {MACS}", left / whole, "", None, left / whole <= MACS))
    return figures


def _percent(interval: tuple[float, float]) -> tuple[float, float]:
    return 100 * interval[0], 100 * interval[1]


def main() -> int:
    """Fit, compare, race; 1 where a figure is not met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", action="store_true", help="a few steps of one seed, for CI; writes nothing")
    parser.add_argument("--models", nargs="+", choices=sorted(SPEEDUP), default=sorted(SPEEDUP))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--cycles", type=int, default=CYCLES, help=f"of every fit, {EPOCHS} epochs each")
    parser.add_argument("--source-epochs", type=int, default=SOURCE_EPOCHS, help="of the ResNet-8 before")
    options = parser.parse_args()
    data, seeds, cycles, folder, launches = load(), options.seeds, options.cycles, OUT, 8
    if options.slice:
        few = slice(0, 10 * BATCH)
        data = Data(data.train[few], data.train_labels[few], data.test[:1000], data.test_labels[:1000])
        seeds, cycles, folder = 1, 1, OUT / "slice"
    figures: list[Figure] = []
    for name in ["dscnn"] if options.slice else options.models:
        original = source(name, data, options.source_epochs, folder / name)
        fits = [one_seed(original, data, cycles, seed, folder / name) for seed in range(seeds)]
        found = accuracy_figures(name, outputs(original, data), fits, data)
        found += speed_figures(name, original, fits, folder / name, launches)
        print(table([("channel_pruning", figure) for figure in found]), flush=True)
        figures += found
        if not options.slice:
            _save(figures)
    if options.slice:
        # ten steps from fresh weights learn nothing: that pruned ones are far ahead is what a slice can show
        binding = [figure for figure in figures if figure.name.partition(".")[2].startswith(("better", "macs"))]
        return 1 if any(not figure.met for figure in binding) else 0
    return 1 if any(not figure.met for figure in figures) else 0


def _save(figures: list[Figure]) -> None:
    """Write these figures and keep those of the models that this run leaves out."""
    goals = {
        name: {"speedup": (f">= {goal}", "x"), "drop_upper95": ("<= 1", "points")} for name, goal in SPEEDUP.items()
    }
    command = shlex.join(["python", "-m", "benchmarks.channel_pruning", *sys.argv[1:]])
    write("channel_pruning", command, with_others("channel_pruning", figures, goals))


def with_others(
    program: str,
    figures: list[Figure],
    goals: Mapping[str, Mapping[str, tuple[str, str]]],
    results: Path = RESULTS,
) -> list[Figure]:
    """These figures, before them those of the other models as they were, and after them what no run measured.

    `goals` are (goal, unit) by model and figure.
    """
    models = {figure.name.partition(".")[0] for figure in figures}
    kept = [figure for of, figure in read(results) if of == program and figure.value is not None]
    others = [figure for figure in kept if figure.name.partition(".")[0] not in models]
    known = models | {figure.name.partition(".")[0] for figure in others}
    missing = [
        Figure(f"{name}.{figure}", goal, None, unit, None, met=False)
        for name in goals
        if name not in known
        for figure, (goal, unit) in goals[name].items()
    ]
    return [*others, *figures, *missing]


if __name__ == "__main__":
    sys.exit(main())
