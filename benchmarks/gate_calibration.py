"""How often the gates are wrong: the accuracy gate on simulated pairs of models, the speed gate on real races.

    python -m benchmarks.gate_calibration            both in full (hours); writes results/gate_calibration.json
    python -m benchmarks.gate_calibration --slice    a hundredth of it, for CI; writes nothing
    … --part accuracy | speed                        one half; the other's figures in the result file are kept

Accuracy: a model whose true drop equals the limit may pass at most 6 % of the time; power is how often a model that is
as good as the baseline, and differs from it as much, passes. Every simulation calls the product's own `drop`.
Speed: the same file raced against itself may be called faster or slower at most 2 % of the time; the file with 10 %
added to each call must be called slower at least 90 % of the time.
"""

import argparse
import multiprocessing
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

# One thread a process: the arrays are small, and BLAS threads of several workers would fight for the cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt

from benchmarks.figures import Figure, read, table, write
from edge.errors import EnvironmentFailed
from edge.report import Measurement
from edgetool.metrics import metric
from edgetool.verify import accuracy_gate, score_interval

Array = npt.NDArray[Any]
# (baseline outputs, candidate outputs, labels)
Pair = tuple[Array, Array, Array]

MOST_PASSES = 0.06
LIMITS = {200: 0.05, 1000: 0.02, 10000: 0.01}
SIMULATIONS = 20000
POWER_SIMULATIONS = 2000
CHUNK = 100

MOST_FALSE_ALARMS, FEWEST_FOUND = 0.02, 0.9
RACES = 200
PLANTED = 0.1
# Its calls last long enough (0.1 ms) that the clock readings of the planted slow-down do not add to it.
REFERENCE = Path(__file__).parent.parent / "recipes" / "models" / "fashion_mnist.keras"


@dataclass(frozen=True)
class Outcomes:
    """0/1 outcomes of a baseline with 90 % accuracy; `churn` is the share that gets better and worse alike."""

    churn: float
    metric: str = "accuracy"

    @property
    def name(self) -> str:
        """As it stands in the figures."""
        return f"accuracy.churn{self.churn * 100:g}pc"

    def __call__(self, rng: np.random.Generator, n: int, drop: float) -> Pair:
        """[n] outputs; wrong ones that become right are as many as right ones that become wrong, plus `drop`."""
        right, u = rng.random(n) < 0.9, rng.random(n)
        after = np.where(right, u >= (self.churn + drop) / 0.9, u < self.churn / 0.1)
        return right.astype(np.float64), after.astype(np.float64), np.ones(n, np.int64)


@dataclass(frozen=True)
class Detection:
    """A binary detector judged by F1; `churn` is the share of decisions of each kind that flips and is made up for."""

    prevalence: float
    recall: float
    false_alarms: float
    churn: float
    metric: str = "f1"

    @property
    def name(self) -> str:
        """As it stands in the figures."""
        return f"f1.prevalence{self.prevalence * 100:g}pc.churn{self.churn * 100:g}pc"

    def _lost(self, drop: float) -> float:
        """The share of hits that the candidate misses for a true drop of F1 by `drop`."""
        hits, called, actual = self.prevalence * self.recall, self._called(), self.prevalence
        # F1' = 2 (hits - x) / (called - x + actual) = F1 - drop, solved for x.
        target = 2 * hits / (called + actual) - drop
        return (2 * hits - target * (called + actual)) / (2 - target) / hits

    def _called(self) -> float:
        return self.prevalence * self.recall + (1 - self.prevalence) * self.false_alarms

    def __call__(self, rng: np.random.Generator, n: int, drop: float) -> Pair:
        """[n] outputs: misses grow by what `drop` needs, false alarms stay as many."""
        actual, u = rng.random(n) < self.prevalence, rng.random(n)
        rate = np.where(actual, self.recall, self.false_alarms)
        before = rng.random(n) < rate
        lost = np.where(actual, self.churn + self._lost(drop), self.churn)
        after = np.where(before, u >= lost, u < self.churn * rate / (1 - rate))
        return before.astype(np.float64), after.astype(np.float64), actual.astype(np.int64)


@dataclass(frozen=True)
class Regression:
    """Gaussian errors judged by MAE; the candidate's are the baseline's plus noise, or scaled one by one."""

    scaled: bool
    metric: str = "mae"

    @property
    def name(self) -> str:
        """As it stands in the figures."""
        return "mae.laplace" if self.scaled else "mae.gauss"

    def __call__(self, rng: np.random.Generator, n: int, drop: float) -> Pair:
        """[n] outputs around labels 0, so that E|candidate| = (1 + drop) E|baseline|."""
        if self.scaled:
            before, factor = rng.laplace(size=n), np.exp(0.2 * rng.standard_normal(n) - 0.02)
            return before, before * factor * (1 + drop), np.zeros(n)
        shared, own = rng.standard_normal(n), np.sqrt(0.1) * rng.standard_normal((2, n))
        before, after = shared + own[0], shared + own[1]
        # On top of equal noise, so that both models differ as much where the true drop is 0.
        more = np.sqrt(1.1 * ((1 + drop) ** 2 - 1)) * rng.standard_normal(n)
        return before, after + more, np.zeros(n)


Setting = Outcomes | Detection | Regression

SETTINGS: tuple[tuple[Setting, tuple[int, ...]], ...] = (
    (Outcomes(0.0), (200, 1000, 10000)),
    (Outcomes(0.01), (200, 1000, 10000)),
    (Outcomes(0.05), (200, 1000, 10000)),
    (Regression(scaled=False), (200, 1000, 10000)),
    (Regression(scaled=True), (200, 1000)),
    (Detection(0.5, 0.9, 0.1, 0.0), (200, 1000)),
    (Detection(0.5, 0.9, 0.1, 0.03), (200, 1000, 10000)),
    (Detection(0.3, 0.85, 0.05, 0.06), (200, 1000)),
    (Detection(0.1, 0.8, 0.02, 0.02), (200, 1000)),
)


def passes(setting: Setting, n: int, true_drop: float, limit: float, simulations: int, seed: int) -> int:
    """How many of the simulated pairs pass the product's gate."""
    rng = np.random.default_rng((seed, n, round(true_drop * 1e6)))
    judged = metric(setting.metric)
    passed = 0
    for _ in range(simulations):
        baseline, candidate, labels = setting(rng, n, true_drop)
        passed += accuracy_gate.drop(judged, baseline, candidate, labels, limit, seed=seed).verdict == "pass"
    return passed


def accuracy_figures(simulations: int, power_simulations: int, workers: int) -> Iterator[Figure]:
    """Level and power of the accuracy gate for every setting."""
    jobs = [(setting, n, LIMITS[n], what) for setting, sizes in SETTINGS for n in sizes for what in ("level", "power")]
    with ProcessPoolExecutor(workers) as pool:
        for setting, n, limit, what in jobs:
            started = time.monotonic()
            total = simulations if what == "level" else power_simulations
            sizes = [min(CHUNK, total - start) for start in range(0, total, CHUNK)]
            # Every chunk has a seed of its own, and with it bootstrap weights of its own.
            chunks = [
                pool.submit(passes, setting, n, limit if what == "level" else 0.0, limit, size, seed)
                for seed, size in enumerate(sizes)
            ]
            passed = sum(chunk.result() for chunk in chunks)
            share, ci95 = passed / total, score_interval.wilson(passed, total)
            name = f"accuracy_gate.{setting.name}.n{n}.limit{limit * 100:g}pc.{what}"
            goal, met = (f"<= {MOST_PASSES}", share <= MOST_PASSES) if what == "level" else ("reported", True)
            print(f"{name}: {share:.4f} ({time.monotonic() - started:.0f} s)", file=sys.stderr, flush=True)
            yield Figure(name, goal, share, "of models pass", ci95, met)


def speed_figures(races: int, model: Path) -> Iterator[Figure]:
    """False alarms on the model against itself, and how often 10 % added to each call is found, in real races."""
    from edgetool.verify.race import Entry, Settings, race

    same: list[Measurement] = []
    planted: list[Measurement] = []
    for number in range(races):
        # All three race in the same rounds; the order within a round is drawn anew in every race.
        entries = [
            Entry("baseline", model, "tflite", "litert"),
            Entry("same", model, "tflite", "litert", baseline="baseline"),
            Entry("planted", model, "tflite", "litert", baseline="baseline", slowdown=PLANTED),
        ]
        result = race(entries, Settings(seed=number))
        for name, rows in (("same", same), ("planted", planted)):
            row = result.rows[name]
            if not isinstance(row, Measurement):
                raise EnvironmentFailed(f"race {number}: {row.what}: {row.reason}")
            rows.append(row)
            print(
                f"race {number + 1} of {races}, {name}: {row.verdict} {row.ratio:.4f}"
                f" (others busy: {result.conditions.others_cores})",
                file=sys.stderr,
                flush=True,
            )
    wrong = sum(row.verdict in ("faster", "slower") for row in same)
    found = sum(row.verdict == "slower" for row in planted)
    undecided = sum(row.verdict == "inconclusive" for row in same)
    yield _share("speed_gate.same.false_alarms", wrong, races, MOST_FALSE_ALARMS, at_most=True)
    yield _share("speed_gate.planted_10pc.found", found, races, FEWEST_FOUND, at_most=False)
    share, ci95 = undecided / races, score_interval.wilson(undecided, races)
    yield Figure("speed_gate.same.inconclusive", "reported", share, "of races", ci95, met=True)
    for name, rows in (("same", same), ("planted_10pc", planted)):
        ratios = [row.ratio for row in rows if row.ratio is not None]
        for what, ratio in (("least", min(ratios)), ("median", float(np.median(ratios))), ("largest", max(ratios))):
            yield Figure(f"speed_gate.{name}.{what}_ratio", "reported", ratio, "x", None, met=True)


def raced(races: int, model: Path | None) -> Iterator[Figure]:
    """`speed_figures` of a model, or of the reference model."""
    if model is not None:
        yield from speed_figures(races, model)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reference.tflite"
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            pool.submit(convert_reference, path).result()
        yield from speed_figures(races, path)


def convert_reference(path: Path) -> None:
    """Write the reference model as float32 .tflite; in a process of its own, since TensorFlow's threads stay."""
    from convert.load import load_keras
    from convert.to_litert import to_litert

    path.write_bytes(to_litert(load_keras(REFERENCE), "float32", None))


def _share(name: str, count: int, total: int, goal: float, *, at_most: bool) -> Figure:
    share = count / total
    met = share <= goal if at_most else share >= goal
    sign = "<=" if at_most else ">="
    return Figure(name, f"{sign} {goal}", share, "of races", score_interval.wilson(count, total), met)


def main() -> int:
    """Run the parts asked for; 1 where a figure is not met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("accuracy", "speed", "all"), default="all")
    parser.add_argument("--slice", action="store_true", help="a hundredth of the work, for CI; writes nothing")
    parser.add_argument("--model", type=Path, help="the .tflite that races; else the reference model is converted")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    share = 100 if arguments.slice else 1
    parts: list[Iterator[Figure]] = []
    if arguments.part in ("accuracy", "all"):
        parts.append(accuracy_figures(SIMULATIONS // share, POWER_SIMULATIONS // share, arguments.workers))
    if arguments.part in ("speed", "all"):
        parts.append(raced(RACES // share, arguments.model))
    figures: list[Figure] = []
    for figure in chain(*parts):
        figures.append(figure)
        if not arguments.slice:
            _save(figures)
    print(table([("gate_calibration", figure) for figure in figures]))
    if arguments.slice:
        # 200 simulations cannot tell 5 % from 6 %: a slice only shows that a gate is not grossly wrong.
        return 1 if any(_grossly_wrong(figure) for figure in figures) else 0
    return 1 if any(not figure.met for figure in figures) else 0


def _save(figures: list[Figure]) -> None:
    """Write these figures and keep the others of the file, so that hours of work survive an interruption."""
    made = {figure.name for figure in figures}
    kept = [figure for program, figure in read() if program == "gate_calibration" and figure.name not in made]
    write(
        "gate_calibration", shlex.join(["python", "-m", "benchmarks.gate_calibration", *sys.argv[1:]]), figures + kept
    )


def _grossly_wrong(figure: Figure) -> bool:
    if figure.ci95 is None:
        return False
    if figure.goal.startswith("<="):
        return figure.ci95[0] > float(figure.goal[2:])
    return figure.goal.startswith(">=") and figure.ci95[1] < float(figure.goal[2:])


if __name__ == "__main__":
    sys.exit(main())
