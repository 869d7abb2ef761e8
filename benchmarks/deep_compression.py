"""LeNet-300-100 and LeNet-5 on Fashion-MNIST by the pass cluster.entropy: what they take in a bundle, and the drop.

python -m benchmarks.deep_compression [--seeds N] [--net NAME]... [--slice]
    about 3 minutes of one processor a seed for LeNet-300-100, about 20 for LeNet-5;
    writes results/deep_compression.json.
    --slice: 4,000 images and two epochs, to see that it runs (30 s); nothing is written.
    With --net the figures of the other net stay as they were.

The nets are those of Caffe (266,610 and 431,080 parameters), which Deep Compression measured (Han et al., 2016). A
baseline is trained on 55,000 images; the other 5,000 are the ones that settings were tried on. Then the baseline is
compressed and, as a control, trained on for as many epochs in float32. Every net becomes a float32 .tflite, is packed
as a bundle packs it, unpacked, and run by LiteRT on the 10,000 test images, once. The drop from the
baseline is judged, that from the control stands beside. With several seeds the worst of them counts.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.figures import Figure, read, table, write
from compress.cluster.entropy import EntropyConstraint, fit_to_budget
from compress.quantize.litert_compact import compact
from compress.training import Batch, FineTune, fine_tune
from edge.packing import pack, unpack
from edge.report import Drop
from edgetool.data.fashion_mnist import load_arrays
from edgetool.metrics import metric
from edgetool.verify.accuracy_gate import drop

Floats = npt.NDArray[np.float32]
BATCH = 128
VALIDATION = 5_000
MAX_DROP = 0.01
GOAL = 60.0


@dataclass(frozen=True)
class Net:
    """One net with how long it is trained and how small it is made.

    12 epochs at a ratio of 64 cost LeNet-300-100 0.4 points on the validation images; more epochs are more of the same.
    """

    epochs: int
    fine_tune_epochs: int
    least_accuracy: float
    constraint: EntropyConstraint
    rate: float = 1e-3


NETS = {
    "lenet_300_100": Net(15, 24, 0.89, EntropyConstraint(ratio=66)),
    "lenet_5": Net(10, 12, 0.905, EntropyConstraint(ratio=66)),
}


def build(name: str) -> Any:
    """A net by name: [N, 28, 28, 1] in 0 … 1 -> probabilities [N, 10]."""
    import keras

    layers = keras.layers
    image = keras.Input((28, 28, 1), name="image")
    x = image
    if name == "lenet_5":
        x = layers.MaxPooling2D(2)(layers.Conv2D(20, 5, activation="relu", name="conv1")(x))
        x = layers.MaxPooling2D(2)(layers.Conv2D(50, 5, activation="relu", name="conv2")(x))
    x = layers.Flatten()(x)
    for units in (500,) if name == "lenet_5" else (300, 100):
        x = layers.Dense(units, activation="relu", name=f"dense_{units}")(x)
    return keras.Model(image, layers.Dense(10, activation="softmax", name="classes")(x), name=name)


class Fits:
    """Three fits of one net on the same images: the baseline, the control and the candidate."""

    def __init__(self, net: Net, images: Floats, labels: npt.NDArray[np.int64], seed: int) -> None:
        self._net, self._images, self._labels, self._seed = net, images, labels, seed
        self._steps = len(labels) // BATCH

    def baseline(self, name: str) -> Any:
        """Trained anew."""
        import keras

        keras.utils.set_random_seed(self._seed)
        model = build(name)
        self._fine_tune(model, self._net.epochs)
        return model

    def control(self, baseline: Any) -> Any:
        """The baseline trained on in float32 as long as the candidate."""
        model = _copied(baseline)
        self._fine_tune(model, self._net.fine_tune_epochs)
        return model

    def candidate(self, baseline: Any) -> Any:
        """The baseline compressed."""
        model = _copied(baseline)
        settings = FineTune(self._net.fine_tune_epochs, self._net.rate, BATCH, self._seed + 1)
        fit_to_budget(
            model, self._batches(1), self._steps, "crossentropy", self._net.constraint, settings, lambda *_: None
        )
        return model

    def _fine_tune(self, model: Any, epochs: int) -> None:
        settings = FineTune(epochs, self._net.rate, BATCH, self._seed)
        fine_tune(model, self._batches(0), self._steps, "crossentropy", (), settings, lambda *_: None)

    def _batches(self, stage: int) -> Any:
        def train(epoch: int) -> Iterator[Batch]:
            order = np.random.default_rng((self._seed, stage, epoch)).permutation(len(self._labels))
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                yield {"image": self._images[rows]}, self._labels[rows]

        return train


def _copied(model: Any) -> Any:
    import keras

    made = keras.models.clone_model(model)
    made.set_weights(model.get_weights())
    return made


def to_tflite(model: Any) -> bytes:
    """The float32 .tflite, equal vectors stored once."""
    import tensorflow as tf

    return compact(tf.lite.TFLiteConverter.from_keras_model(model).convert())


def outputs(content: bytes, images: Floats) -> Floats:
    """What LiteRT answers to each image alone: [n, 28, 28, 1] -> [n, 10]."""
    from edge.engines import open_engine, predict

    engine = open_engine(content, "tflite")
    try:
        (name,) = (spec.name for spec in engine.inputs)
        return np.concatenate([next(iter(predict(engine, {name: image[None]}).values())) for image in images])
    finally:
        engine.close()


@dataclass(frozen=True)
class Measured:
    """One net with one seed. Drops are those of the candidate."""

    ratio: float
    packed_bytes: int
    accuracies: dict[str, float]
    from_baseline: Drop
    from_control: Drop


def measure(net: Net, name: str, seed: int, images: int | None) -> Measured:
    """Train the three, store the candidate, and run all of them on the test images (or `images` of each kind)."""
    x_train, y_train, x_test, y_test = load_arrays()
    chosen = np.random.default_rng(0).permutation(len(x_train))[VALIDATION:][:images]
    fits = Fits(net, _scaled(x_train[chosen]), y_train[chosen].astype(np.int64), seed)
    baseline = fits.baseline(name)
    files = {
        "baseline": to_tflite(baseline),
        "control": to_tflite(fits.control(baseline)),
        "candidate": to_tflite(fits.candidate(baseline)),
    }
    packed = pack(files["candidate"], "tflite")
    files["candidate"] = unpack(packed, len(files["candidate"]))
    answers = {who: outputs(content, _scaled(x_test[:images])) for who, content in files.items()}
    accuracy, labels = metric("accuracy"), y_test[:images].astype(np.int64)
    return Measured(
        len(files["baseline"]) / len(packed),
        len(packed),
        {who: float(accuracy.value(answer, labels)) for who, answer in answers.items()},
        drop(accuracy, answers["baseline"], answers["candidate"], labels, MAX_DROP),
        drop(accuracy, answers["control"], answers["candidate"], labels, MAX_DROP),
    )


def figures_of(name: str, net: Net, found: Sequence[Measured]) -> list[Figure]:
    """The worst of the seeds for each figure that has a goal."""
    ratio = min(one.ratio for one in found)
    worst = max(found, key=lambda one: one.from_baseline.upper95)
    beside = max(found, key=lambda one: one.from_control.upper95)
    least = min(one.accuracies["baseline"] for one in found)
    return [
        Figure(f"{name}.stored_ratio", f">= {GOAL:g}", ratio, "x", None, ratio >= GOAL),
        Figure(f"{name}.stored_bytes", "reported", max(one.packed_bytes for one in found), "B", None, True),
        _drop_figure(f"{name}.drop_upper95", worst.from_baseline, f"<= {100 * MAX_DROP:g}"),
        _drop_figure(f"{name}.drop_upper95_from_control", beside.from_control, "reported"),
        Figure(
            f"{name}.baseline_accuracy", f">= {100 * net.least_accuracy:g}", 100 * least, "%", None,
            least >= net.least_accuracy,
        ),
        *(
            Figure(
                f"{name}.{who}_accuracy_mean", "reported", 100 * float(np.mean([one.accuracies[who] for one in found])),
                "%", None, True,
            )
            for who in ("baseline", "control", "candidate")
        ),
        Figure(f"{name}.seeds", "reported", len(found), "", None, True),
    ]  # fmt: skip


def _drop_figure(name: str, found: Drop, goal: str) -> Figure:
    low, high = found.ci95
    met = goal == "reported" or found.upper95 <= MAX_DROP
    return Figure(name, goal, 100 * found.upper95, "points", (100 * low, 100 * high), met)


def _scaled(images: npt.NDArray[np.uint8]) -> Floats:
    scaled: Floats = images.astype(np.float32)[..., None]
    scaled /= 255
    return scaled


def main() -> None:
    """Measure the nets that were asked for and print their figures; write them where all were measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=tuple(NETS), action="append")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--slice", action="store_true")
    options = parser.parse_args()
    figures: list[Figure] = []
    for name in options.net or NETS:
        net = replace(NETS[name], epochs=2, fine_tune_epochs=2) if options.slice else NETS[name]
        found = []
        for seed in range(options.seeds):
            found.append(measure(net, name, seed, 4_000 if options.slice else None))
            print(name, "seed", seed, found[-1], flush=True)
        figures += figures_of(name, net, found)
    print(table([("deep_compression", figure) for figure in figures]))
    if not options.slice:
        kept = [figure for program, figure in read() if program == "deep_compression"]
        new = {figure.name for figure in figures}
        asked = f" --seeds {options.seeds}" if options.seeds > 1 else ""
        write(
            "deep_compression",
            f"python -m benchmarks.deep_compression{asked}",
            [*figures, *(figure for figure in kept if figure.name not in new)],
        )


if __name__ == "__main__":
    main()
