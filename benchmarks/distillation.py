"""A student of a tenth of the teacher's MACs on Fashion-MNIST: trained alone, and by the teacher.

    python -m benchmarks.distillation                 three seeds, 30 epochs each; hours on two cores
    python -m benchmarks.distillation --slice         one seed, a few steps, for CI; writes nothing

The teacher is the reference depthwise CNN of recipes/; the student is its graph with the width at which a tenth of the
multiply-accumulates is left. Both fits of a seed start from the same weights and see the same images in the same order
for as long: each image in eight versions (shift, flip, erasing, as the teacher was trained), of which the teacher says
once what they show. `closed` is (distilled - alone) / (teacher - alone) in accuracy on the 10,000 test images, with a
bootstrap over images. An interrupted run goes on from its last epoch (out/distillation).
"""

import argparse
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import channel_pruning
from benchmarks.figures import Figure, table, write

REPOSITORY = Path(__file__).resolve().parent.parent
TEACHER = REPOSITORY / "recipes" / "models" / "fashion_mnist.keras"
OUT = REPOSITORY / "out" / "distillation"
MACS = 0.1
CLOSED = 0.5
BATCH = 128
LEARNING_RATE = 3e-3
VERSIONS = 8
# Hinton et al., section 3: high temperatures for large students, 2.5 to 4 for those with few units.
TEMPERATURE = 4.0
LABEL_WEIGHT = 0.1
RESAMPLES = 2000

Images = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Data(channel_pruning.Data):
    """The images of benchmarks/channel_pruning.py, in versions."""

    def version(self, number: int, chosen: npt.NDArray[np.int64]) -> Images:
        """Some images as they look in one of the versions: the same at every call."""
        from recipes.train_fashion_mnist import augment

        whole: list[Images] = []
        for start in range(0, len(chosen), BATCH):
            part = chosen[start : start + BATCH]
            whole.append(augment(self.train[part], np.random.default_rng((number, start))))
        return np.concatenate(whole)


def load(n: int | None) -> Data:
    """The split on which recipes/train_fashion_mnist.py trains; `n` images of each half are enough for a slice."""
    whole = channel_pruning.load()
    return Data(whole.train[:n], whole.train_labels[:n], whole.test[:n], whole.test_labels[:n])


def student_width(macs: float) -> tuple[float, float]:
    """The largest width, in hundredths, that leaves at most this part of the MACs, and the part that it leaves."""
    from compress.distill.narrow import narrow
    from convert.cost import count_keras
    from recipes.train_fashion_mnist import build

    teacher = build(normalised=False)
    _, whole = count_keras(teacher)
    assert whole is not None
    for percent in range(99, 0, -1):
        _, left = count_keras(narrow(teacher, percent / 100))
        if left is not None and left <= macs * whole:
            return percent / 100, left / whole
    raise AssertionError("a hundredth of the width has less than a tenth of the MACs")


def taught(data: Data, versions: int) -> list[npt.NDArray[np.float32]]:
    """What the teacher says about every version of every image: soft labels [n, 10] each."""
    from compress.distill.logits import logits_of, soft_labels
    from convert.load import load_keras

    teacher, everyone = load_keras(TEACHER), np.arange(len(data.train))
    said = []
    for number in range(versions):
        kept = OUT / f"taught-{len(everyone)}-{number}.npy"
        if not kept.is_file():
            outputs = teacher.predict(data.version(number, everyone), batch_size=500, verbose=0)
            soft = soft_labels([logits_of(outputs, "classes")], "classes", TEMPERATURE)
            beside = kept.with_suffix(".part")
            with beside.open("wb") as file:
                np.save(file, soft.astype(np.float32))
            beside.replace(kept)
        said.append(np.load(kept, mmap_mode="r"))
    return said


def trained(data: Data, soft: list[npt.NDArray[np.float32]] | None, width: float, seed: int, epochs: int) -> Any:
    """A student, from fresh weights; alone where no teacher speaks."""
    from compress.distill.logits import TARGET, LogitsObjective
    from compress.distill.narrow import narrow
    from compress.training import FineTune, fine_tune
    from recipes.train_fashion_mnist import build

    student = narrow(build(normalised=True), width, seed)
    everyone = np.arange(len(data.train))
    n_versions = min(VERSIONS, epochs)

    def epoch_of(epoch: int) -> Iterator[Any]:
        number = epoch % n_versions
        images = data.version(number, everyone)
        order = np.random.default_rng((seed, epoch)).permutation(len(everyone))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            inputs = {"image": images[chosen]}
            if soft is not None:
                inputs[TARGET] = np.asarray(soft[number][chosen])
            yield inputs, data.train_labels[chosen]

    name = f"{'alone' if soft is None else 'distilled'}-{len(everyone)}-{epochs}-{seed}"
    fine_tune(
        student, epoch_of, len(everyone) // BATCH, "crossentropy", [], FineTune(epochs, LEARNING_RATE, BATCH, seed),
        lambda done, total, loss: _say(name, done, total, loss),
        objectives=[] if soft is None else [LogitsObjective("classes", TEMPERATURE, 1 - LABEL_WEIGHT)],
        label_weight=1.0 if soft is None else LABEL_WEIGHT,
        checkpoint=OUT / name,
    )  # fmt: skip
    return student


def _say(name: str, done: int, total: int, loss: float) -> None:
    if done % 100 == 0 or done == total:
        print(f"{name}: step {done} of {total}, loss {loss:.3f}", file=sys.stderr)


def right(model: Any, data: Data) -> npt.NDArray[np.float64]:
    """1 for each test image that is named as it is, else 0."""
    said = model.predict(data.test, batch_size=500, verbose=0).argmax(axis=1)
    return (said == data.test_labels).astype(np.float64)


def closed(teacher: Any, alone: Any, distilled: Any) -> float:
    """The part of the gap between a student alone and the teacher that distillation closes, from mean accuracies."""
    return float((distilled.mean() - alone.mean()) / (teacher.mean() - alone.mean()))


def main() -> None:
    """Train, test and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--slice", action="store_true", help="one seed, a few steps; writes nothing")
    given = parser.parse_args()
    seeds, epochs = (1, 1) if given.slice else (given.seeds, given.epochs)
    OUT.mkdir(parents=True, exist_ok=True)
    from convert.load import load_keras

    data = load(1280 if given.slice else None)
    width, macs = student_width(MACS)
    soft = taught(data, min(VERSIONS, epochs))
    teacher = right(load_keras(TEACHER), data)
    # a row for each seed
    alone, distilled = (
        np.array([right(trained(data, labels, width, seed, epochs), data) for seed in range(seeds)])
        for labels in (None, soft)
    )
    rng = np.random.default_rng(0)
    resampled = [
        closed(teacher[drawn], alone[:, drawn], distilled[:, drawn])
        for drawn in rng.integers(0, len(teacher), (RESAMPLES, len(teacher)))
    ]
    low, high = np.quantile(resampled, (0.025, 0.975))
    value = closed(teacher, alone, distilled)
    figures = [
        Figure("distilled.gap_closed", f">= {CLOSED:g}", value, "of the gap", (low, high), value >= CLOSED),
        Figure("distilled.macs", f"<= {MACS:g}", macs, "of the teacher's", None, macs <= MACS),
        Figure("student.width", "reported", width, "of the teacher's", None, True),
        Figure("teacher.accuracy", "reported", teacher.mean(), "", None, True),
    ]
    for name, rows in (("alone", alone), ("distilled", distilled)):
        figures += [
            Figure(f"{name}.accuracy.seed{seed}", "reported", row.mean(), "", None, True)
            for seed, row in enumerate(rows)
        ]
    print(table([("distillation", figure) for figure in figures]))
    if not given.slice:
        write("distillation", f"python -m benchmarks.distillation {shlex.join(sys.argv[1:])}".rstrip(), figures)


if __name__ == "__main__":
    main()
