"""Does pruning by gradients beat pruning by magnitude? LeNet-300-100 on Fashion-MNIST at 90 and 95 % sparsity.

    python -m benchmarks.gradient_pruning              three seeds; about 10 minutes of one processor
    python -m benchmarks.gradient_pruning --slice      one seed, a few steps, for CI; writes nothing

Three ways to say which weights go, in fits of the same length on the same batches with the same schedule:
magnitude (the pass prune.magnitude); movement, the sum of -w dL/dw over the fit, by which pruned weights may come back
(Sanh, Wolf and Rush, "Movement Pruning", NeurIPS 2020, arXiv:2005.07683, equation 5); and first-order Taylor, a moving
mean of |w dL/dw| (the pass prune.taylor). Both see the gradient of one more batch a step until pruning is done, and by
both pruned weights may come back. The gain over magnitude is paired on the 10,000 test images and pooled over the
seeds. Outputs are kept below out/gradient_pruning, so that a run goes on.
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.deep_compression import VALIDATION, build
from benchmarks.figures import Figure, table, write
from compress.prune.magnitude import magnitude_pruner, masks
from compress.prune.pruner import Mask, Schedule, Weights
from compress.prune.taylor import TaylorPruner
from compress.training import Batch, FineTune, WeightTransform, fine_tune
from edgetool.data.fashion_mnist import load_arrays
from edgetool.metrics import metric
from edgetool.verify.accuracy_gate import drop

SPARSITIES = (0.90, 0.95)
EPOCHS, FIT_EPOCHS, SEEDS, BATCH = 8, 4, 3, 256
OUT = Path(__file__).resolve().parent.parent / "out" / "gradient_pruning"
Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class MovementPruner(TaylorPruner):
    """Prunes one model while it is trained by what moves away from zero: S - w dL/dw, signed."""

    def _weighed(self, scores: Weights, weights: Weights, gradient: Weights) -> Weights:
        return np.asarray(scores - weights * gradient)

    def _largest(self, scores: Sequence[Weights], sparsity: float) -> list[Mask]:
        lowest = min(float(part.min()) for part in scores)
        return masks([part - lowest for part in scores], sparsity, "global")


class Fits:
    """A baseline of one seed and what each way of pruning makes of it."""

    def __init__(self, images: Floats, labels: Labels, seed: int, epochs: tuple[int, int]) -> None:
        self._images, self._labels, self._seed, self._epochs = images, labels, seed, epochs

    @cached_property
    def baseline(self) -> Any:
        """LeNet-300-100, trained anew."""
        import keras

        keras.utils.set_random_seed(self._seed)
        model = build("lenet_300_100")
        self._fit(model, (), self._epochs[0], 0)
        return model

    def pruned(self, way: str, sparsity: float) -> Any:
        """The baseline, pruned while it is trained on."""
        import keras

        model = keras.models.clone_model(self.baseline)
        model.set_weights(self.baseline.get_weights())
        schedule = Schedule(sparsity)
        transform: WeightTransform = magnitude_pruner(schedule)
        if way != "magnitude":
            kind = MovementPruner if way == "movement" else TaylorPruner
            transform = kind(schedule, self._one_more, "crossentropy")
        self._fit(model, (transform,), self._epochs[1], 1)
        zeros = [weights == 0 for weights in model.get_weights() if weights.ndim > 1]
        share = sum(map(np.count_nonzero, zeros)) / sum(map(np.size, zeros))
        if abs(share - sparsity) > 0.005:
            raise RuntimeError(f"{way} left {share:.3f} zeros, not {sparsity}")
        return model

    def _fit(self, model: Any, transforms: Sequence[WeightTransform], epochs: int, stage: int) -> None:
        settings = FineTune(epochs, 2e-3, BATCH, self._seed + stage)
        steps = len(self._labels) // BATCH
        fine_tune(
            model, lambda epoch: self._batches(stage, epoch), steps, "crossentropy", transforms, settings,
            lambda *_: None,
        )  # fmt: skip

    def _one_more(self, step: int) -> Batch:
        epoch, place = divmod(step - 1, len(self._labels) // BATCH)
        order = np.random.default_rng((self._seed, 2, epoch)).permutation(len(self._labels))
        rows = order[place * BATCH : (place + 1) * BATCH]
        return {"image": self._images[rows]}, self._labels[rows]

    def _batches(self, stage: int, epoch: int) -> Iterator[Batch]:
        order = np.random.default_rng((self._seed, stage, epoch)).permutation(len(self._labels))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            yield {"image": self._images[rows]}, self._labels[rows]


def measure(
    train: tuple[Floats, Labels], test: tuple[Floats, Labels], seeds: int, epochs: tuple[int, int], folder: Path | None
) -> list[Figure]:
    """Each way's drop from the baseline and the gain of the two over magnitude, at each sparsity.

    Outputs on the test images are kept in `folder`, where there is one.
    """
    answers: dict[tuple[str, float], list[Floats]] = {}
    baselines: list[Floats] = []
    for seed in range(seeds):
        fits = Fits(*train, seed, epochs)
        baselines.append(_kept(folder, f"{seed}-baseline", lambda: fits.baseline, test[0]))  # noqa: B023 - called at once
        for sparsity in SPARSITIES:
            for way in ("magnitude", "movement", "taylor"):
                made = _kept(folder, f"{seed}-{way}-{sparsity}", lambda: fits.pruned(way, sparsity), test[0])  # noqa: B023 - as above
                answers.setdefault((way, sparsity), []).append(made)
    accuracy, labels = metric("accuracy"), np.tile(test[1], seeds)
    images = np.tile(np.arange(len(test[1])), seeds)  # the same image under every seed is one
    figures = []
    for (way, sparsity), those in answers.items():
        found = drop(accuracy, np.concatenate(baselines), np.concatenate(those), labels, 0.0, images)
        ci95 = 100 * found.ci95[0], 100 * found.ci95[1]
        figures.append(Figure(f"{100 * sparsity:g}.{way}.drop", "reported", 100 * found.value, "points", ci95, True))
        if way != "magnitude":
            other = np.concatenate(answers["magnitude", sparsity])
            found = drop(accuracy, np.concatenate(those), other, labels, 0.0, images)
            ci95 = 100 * found.ci95[0], 100 * found.ci95[1]
            figures.append(
                Figure(f"{100 * sparsity:g}.{way}.gain", "reported", 100 * found.value, "points", ci95, True)
            )
    return figures


def _scaled(images: npt.NDArray[np.uint8]) -> Floats:
    return (images[..., None] / np.float32(255)).astype(np.float32)


def _kept(folder: Path | None, name: str, make: Callable[[], Any], images: Floats) -> Floats:
    """What the model that `make` gives answers to the images: [n, 10]."""
    path = None if folder is None else folder / f"{name}.npy"
    if path is not None and path.is_file():
        found: Floats = np.load(path)
        return found
    print(f"seed {name}", file=sys.stderr, flush=True)
    answers = np.asarray(make().predict(images, batch_size=1000, verbose=0))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, answers)
    return answers


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", action="store_true", help="one seed, a few steps; writes nothing")
    options = parser.parse_args()
    x_train, y_train, x_test, y_test = load_arrays()
    chosen = np.random.default_rng(0).permutation(len(x_train))[VALIDATION:]
    images, labels = _scaled(x_train[chosen]), y_train[chosen].astype(np.int64)
    test = _scaled(x_test), y_test.astype(np.int64)
    if options.slice:
        figures = measure((images[: 15 * BATCH], labels[: 15 * BATCH]), (test[0][:500], test[1][:500]), 1, (1, 1), None)
    else:
        figures = measure((images, labels), test, SEEDS, (EPOCHS, FIT_EPOCHS), OUT)
    print(table([("gradient_pruning", figure) for figure in figures]))
    if not options.slice:
        write("gradient_pruning", shlex.join(["python", "-m", "benchmarks.gradient_pruning", *sys.argv[1:]]), figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
