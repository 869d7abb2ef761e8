"""How near a search comes to an exhaustive grid: the hypervolume of what it finds with a quarter of the evaluations.

    python -m benchmarks.search_front                 four pairs; the grids take about an hour of one core, once
    python -m benchmarks.search_front --slice         six points of a table, for CI; writes nothing
    python -m benchmarks.search_front --development   the pair that the way of searching was chosen on; writes nothing

A pair is a model and its task. Its grid is a space of at most 48 points, three axes as `edgetool compress` has them:
how far channels are pruned, how sparse the rest becomes, how it is quantized for LiteRT. Every point is made once and
kept below out/search_front (remove that folder after changing a pair). Objectives are the drop on val and the bytes in
a bundle, both the same in every run. The search is the one of the product, with a budget of trials and no other limit:
its first trials are the quantizations that need no training, and they count like any other.

Hypervolume is relative to the grid's, below the worst of all points of the grid in each objective. Beside it stands, as
it is harder, the same below the worst of the grid's own front plus a tenth of its extent: there, points that nobody
would choose are worth nothing. Search seeds differ in what is asked; the interval is of the median over seeds.

Data: scikit-learn's tables; 3,000 training and 2,000 validation pictures of Fashion-MNIST, so that no point takes more
than 20 s; the free spoken digits of the shared data, all four speakers on both sides.
"""

import argparse
import dataclasses
import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import Figure, table, write
from edgetool.search.front import hypervolume, nondominated
from edgetool.search.space import Axis, Choice, Point, Space
from edgetool.search.trial import Job, Tried

REPOSITORY = Path(__file__).resolve().parent.parent
OUT = REPOSITORY / "out" / "search_front"
MODELS = REPOSITORY / "recipes" / "models"
SHARE = 4  # the search may evaluate one in so many points of the grid
GOAL = 0.98
SEEDS = 20
LITERT = ("quantize.float16", "quantize.dynamic", "quantize.int8", "quantize.int4")
RECURRENT = ("quantize.float16", "quantize.dynamic", "quantize.lsq")


@dataclass(frozen=True)
class Pair:
    """A model and its task as `edgetool compress` is told of them, and how fits are made in its grid."""

    model: Path
    data: str
    metric: str | None
    epochs: int
    batch_size: int
    quantizations: tuple[str, ...] = LITERT


def tables() -> dict[str, Callable[[Path], Pair]]:
    """The two reference tables, with the fits that their recipes have."""
    return {
        "breast_cancer": lambda _: Pair(MODELS / "breast_cancer.keras", "breast_cancer", "f1", 20, 32),
        "diabetes": lambda _: Pair(MODELS / "diabetes.keras", "diabetes", "mae", 20, 32),
    }


def pictures(folder: Path) -> Pair:
    """The reference CNN, on a part of its data."""
    from edgetool.conversion_worker import describe_model, load_source
    from edgetool.recipe import TaskSource

    model, kept = MODELS / "fashion_mnist.keras", folder / "data.npz"
    if not kept.is_file():
        source, *_ = describe_model(model, False, progress=lambda *_: None)
        task = load_source(TaskSource("fashion_mnist"), source)
        parts = {}
        for side, examples, n in (("train", task.train, 3000), ("val", task.val, 2000), ("test", task.test, 500)):
            inputs, parts[f"y_{side}"] = examples.take(np.arange(n))
            (parts[f"x_{side}"],) = inputs.values()
        np.savez(kept, **parts)
    return Pair(model, str(kept), None, 2, 64)


def spoken(kind: str, units: int) -> Callable[[Path], Pair]:
    """A small recurrent model of spoken digits, trained here."""

    def made(folder: Path) -> Pair:
        from benchmarks.keyword_rnn import QUIET, build, load
        from compress.training import FineTune
        from edgetool.passes.recovery import recover

        model, kept = folder / "float.keras", folder / "data.npz"
        if not kept.is_file():
            clips = load(folder, 2)
            sides = {
                "train": clips.takes >= 15,
                "val": clips.takes < 10,
                "test": (clips.takes >= 10) & (clips.takes < 15),
            }
            parts = {}
            for side, which in sides.items():
                versions = (1, 2) if side == "train" else (0,)
                parts[f"x_{side}"] = np.concatenate([clips.features[version, which] for version in versions])
                parts[f"y_{side}"] = np.tile(clips.digits[which], len(versions))
            np.savez(kept, **parts)
        if not model.is_file():
            network = build(kind, units)
            network.save(folder / "fresh.keras")
            task = _task_of(folder / "fresh.keras", str(kept))
            recover(network, task, FineTune(12, 3e-3, 64, 0), folder / "fit", QUIET)
            network.save(model)
        return Pair(model, str(kept), None, 3, 64, RECURRENT)

    return made


def digits(kind: str) -> Callable[[Path], Pair]:
    """For development: 8 x 8 digits of scikit-learn, by a small CNN or as a table of 64 columns."""

    def made(folder: Path) -> Pair:
        import keras
        from sklearn.datasets import load_digits

        from compress.training import FineTune
        from edgetool.passes.recovery import recover

        model, kept = folder / "float.keras", folder / "data.npz"
        x, y = load_digits(return_X_y=True)
        shape = (-1, 8, 8, 1) if kind == "cnn" else (-1, 64)
        x = (x / 16).astype(np.float32).reshape(shape)
        np.savez(kept, x_train=x[:1000], y_train=y[:1000], x_val=x[1000:1700], y_val=y[1000:1700],
                 x_test=x[1700:], y_test=y[1700:])  # fmt: skip
        if not model.is_file():
            keras.utils.set_random_seed(0)
            layers: list[Any] = [keras.Input(x.shape[1:])]
            if kind == "cnn":
                layers += [keras.layers.Conv2D(units, 3, activation="relu", padding="same") for units in (16, 24)]
                layers += [
                    keras.layers.MaxPooling2D(),
                    keras.layers.Conv2D(48, 3, activation="relu"),
                    keras.layers.Flatten(),
                ]
            else:
                layers += [keras.layers.Dense(units, activation="relu") for units in (64, 32)]
            network = keras.Sequential([*layers, keras.layers.Dense(10, activation="softmax")])
            network.save(folder / "fresh.keras")
            task = _task_of(folder / "fresh.keras", str(kept))
            recover(network, task, FineTune(30, 3e-3, 64, 0), folder / "fit", lambda *_: None)
            network.save(model)
        return Pair(model, str(kept), None, 8, 64)

    return made


JUDGED: dict[str, Callable[[Path], Pair]] = {**tables(), "fashion_mnist": pictures, "spoken_gru": spoken("gru", 48)}
DEVELOPMENT = {"digits_table": digits("table")}


def space_of(pair: Pair) -> Space:
    """The grid of a pair."""
    from edgetool.passes import pass_from_settings

    fit = {"epochs": pair.epochs, "batch_size": pair.batch_size}

    def one(name: str, **settings: Any) -> Choice:
        trains = fit if name.startswith("prune") or name.endswith("lsq") else {}
        return (pass_from_settings(name, {**trains, **settings}),)

    return Space(
        "keras",
        (
            Axis("shrink", ((), *(one("prune.channel", macs=macs) for macs in (0.75, 0.5, 0.35)))),
            Axis("sparsify", ((), *(one("prune.magnitude", sparsity=sparsity) for sparsity in (0.5, 0.8)))),
            Axis("quantize", tuple(one(name) for name in pair.quantizations)),
        ),
    )


def _task_of(model: Path, data: str) -> Any:
    from edgetool.conversion_worker import describe_model, load_source
    from edgetool.recipe import TaskSource

    source, *_ = describe_model(model, False, progress=lambda *_: None)
    return load_source(TaskSource(data), source)


def _tried(number: int, read: dict[str, Any]) -> Tried:
    return Tried(
        number,
        tuple(read["point"]),
        1.0,
        (),
        read["s"],
        drop=read["drop"],
        stored_bytes=read["bytes"],
        failure=read["failure"],
    )


def grid(pair: Pair, folder: Path, part: Space | None = None) -> dict[Point, Tried]:
    """Every point of a pair's space as a trial makes it, kept in the folder as soon as it is done."""
    from edge.target import target
    from edgetool.candidates import make
    from edgetool.conversion_worker import ConversionWorker, describe_model, load_source
    from edgetool.passes.conversions import ConvertLiteRT
    from edgetool.progress import Silent
    from edgetool.recipe import Recipe, TaskSource, limits_for
    from edgetool.results import Results
    from edgetool.search.trial import attempt

    kept = folder / "grid.jsonl"
    found: dict[Point, Tried] = {}
    for line in kept.read_text(encoding="utf-8").splitlines() if kept.is_file() else ():
        read = _tried(len(found), json.loads(line))
        found[read.point] = read
    space = space_of(pair) if part is None else part
    missing = [point for point in space.points() if point not in found]
    if not missing:
        return found
    recipe = Recipe(pair.model, TaskSource(pair.data, pair.metric), target("generic-x86_64"))
    results = Results(folder / "work")
    with ConversionWorker() as worker:
        source, *_ = worker.call(describe_model, pair.model, False)
        task = load_source(recipe.task, source)
        limit = limits_for(recipe, task.metric).max_drop
        assert limit is not None
        made = make("float32", (ConvertLiteRT(),), source, recipe, task.sha256, results, worker, Silent())
        for point in missing:
            job = Job(0, point, 1.0, space.sequence(point), recipe, source, made.artifact, task.sha256, limit)
            one = attempt(job, results, worker)
            line = json.dumps(
                {"point": point, "drop": one.drop, "bytes": one.stored_bytes, "s": one.seconds, "failure": one.failure}
            )
            with kept.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")
            found[point] = _tried(len(found), json.loads(line))
            print(f"{folder.name} {len(found)} of {space.size}: {line}", flush=True)
    return found


def asked(space: Space, made: dict[Point, Tried], seed: int, evaluations: int) -> list[Tried]:
    """The trials of one search, as `edgetool.search.run` asks for them, with their results read from the grid."""
    from edgetool.search.order import Asked, known_to, next_trial

    trials: list[Tried] = []
    tried: list[Asked] = []
    while len(trials) < evaluations:
        known = [trials[number] for number in known_to(len(trials))]
        following = next_trial(space, known, tried, f"seed {seed}", halve=False)
        if following is None:
            break
        tried.append(following)
        trials.append(made[following.point])
    return trials


def volumes(found: Sequence[Tried], whole: Sequence[Tried]) -> tuple[float, float]:
    """The hypervolume of some trials over that of the grid: below the grid's worst, and below its front's own worst."""
    values = np.array([one.objectives() for one in whole if one.objectives() is not None], float)
    some = np.array([one.objectives() for one in found if one.objectives() is not None], float).reshape(-1, 2)
    front = values[nondominated(values)]
    worst = values.max(axis=0) * (1 + 1e-9) + 1e-12
    ends = front.max(axis=0) + 0.1 * (front.max(axis=0) - front.min(axis=0)) + 1e-12
    first, second = (hypervolume(some, reference) / hypervolume(front, reference) for reference in (worst, ends))
    return first, second


def measure(name: str, space: Space, made: dict[Point, Tried], seeds: int) -> list[Figure]:
    """What searches with these many seeds find of a grid."""
    whole = list(made.values())
    evaluations = space.size // SHARE
    shares = np.array([volumes(asked(space, made, seed, evaluations), whole) for seed in range(seeds)])
    picks = np.random.default_rng(0).integers(0, seeds, (2000, seeds))
    figures = []
    for column, (kind, goal) in enumerate((("hypervolume", f">= {GOAL}"), ("hypervolume_of_front", "reported"))):
        middle = float(np.median(shares[:, column]))
        low, high = np.percentile(np.median(shares[picks, column], axis=1), (2.5, 97.5))
        met = goal == "reported" or middle >= GOAL
        figures.append(Figure(f"{name}.{kind}", goal, middle, "of the grid's", (float(low), float(high)), met))
    values = np.array([one.objectives() for one in whole if one.objectives() is not None], float)
    longest = max(one.seconds for one in whole)
    counts = {
        "grid": space.size,
        "grid_made": len(values),
        "grid_front": int(nondominated(values).sum()),
        "evaluations": evaluations,
    }
    figures += [Figure(f"{name}.{what}", "reported", n, "points", None, met=True) for what, n in counts.items()]
    figures.append(Figure(f"{name}.longest_point", "reported", longest, "s", None, met=True))
    return figures


def main() -> int:
    """Make the grids, search them; 1 where the goal is missed or a grid is not whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", action="store_true", help="six points of one table, for CI; writes nothing")
    parser.add_argument("--development", action="store_true", help="the development pair; writes nothing")
    parser.add_argument("--as-far-as", action="store_true", help="a grid that is not whole is not made, but not met")
    options = parser.parse_args()
    if options.slice:
        return _slice()
    figures = []
    for name, pair in (DEVELOPMENT if options.development else JUDGED).items():
        folder = OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        if options.as_far_as and not _whole(folder):
            missing = (None, "of the grid's", None, False)
            figures.append(Figure(f"{name}.hypervolume", f">= {GOAL}", *missing))
            continue
        made = pair(folder)
        figures += measure(name, space_of(made), grid(made, folder), SEEDS)
    print(table([("search_front", figure) for figure in figures]))
    if not options.development:
        write("search_front", shlex.join(["python", "-m", "benchmarks.search_front", *sys.argv[1:]]), figures)
    return 1 if any(not figure.met for figure in figures) else 0


def _whole(folder: Path) -> bool:
    kept = folder / "grid.jsonl"
    return kept.is_file() and len(kept.read_text(encoding="utf-8").splitlines()) >= 36


def _slice() -> int:
    """A grid of six points of a table, and a search of half of them: the front of what was found is not beaten."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pair = dataclasses.replace(tables()["breast_cancer"](folder), epochs=2, quantizations=LITERT[::2])
        whole = space_of(pair)
        space = Space("keras", (Axis("sparsify", whole.axes[1].choices), whole.axes[2]))
        made = grid(pair, folder, space)
        found = asked(space, made, 0, space.size // 2)
        share, _ = volumes(found, list(made.values()))
        print(f"{len(found)} of {len(made)} points have {share:.3f} of the hypervolume")
        return 0 if 0 < share <= 1 and volumes(list(made.values()), list(made.values()))[0] == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
