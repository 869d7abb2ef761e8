"""What a search costs beside its trials, what more workers bring, and what a second search costs after a first.

    python -m benchmarks.search_overhead           all of it; about a quarter of an hour on two idle cores
    python -m benchmarks.search_overhead --slice   the overhead of a few local trials, for CI; writes nothing
    python -m benchmarks.search_overhead --only workers   one part; the figures of the others are kept as they were

Overhead is the time of a search whose passes are all cached, over its trials, minus what judging them takes by itself:
the outputs that are kept are read, compared, and the file is weighed.

The study of the workers is the breast cancer model's as a user gets it, trainings included. Intervals are the smallest
and the largest of the rounds, not 95 %: there are two or three.

The load that the machine had beside this program is a figure, since it makes all of them worse.
"""

import argparse
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.figures import RESULTS, Figure, read, table, write

REPOSITORY = Path(__file__).resolve().parent.parent
PARTS = ("overhead", "workers")
WORKERS = 3
REPEATS = 3
ROUNDS = 2
TRIALS = 12
# one thread for each worker, before anything that reads them is loaded
THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OPENBLAS_NUM_THREADS")


def main() -> int:
    """Measure; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", action="store_true", help="the overhead of a few local trials, for CI")
    parser.add_argument("--only", choices=PARTS, help="one part")
    options = parser.parse_args()
    os.environ.update(dict.fromkeys(THREADS, "1"))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    load = os.getloadavg()[0]
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.slice:
            figures += overhead(folder, 4, on_ray=False)
        else:
            if options.only in {None, "overhead"}:
                figures += overhead(folder, 12, on_ray=True)
            if options.only in {None, "workers"}:
                figures += workers(folder)
    part = options.only or "all"
    figures.append(Figure(f"{part}.load_before", "reported", load, "", None, met=True))
    print(table([("search_overhead", figure) for figure in figures]))
    if not options.slice:
        measured = {figure.name for figure in figures}
        kept = [one for program, one in read(RESULTS) if program == "search_overhead" and one.name not in measured]
        write(
            "search_overhead", shlex.join(["python", "-m", "benchmarks.search_overhead", *sys.argv[1:]]), kept + figures
        )
    # a machine that does something else beside says nothing by a slice
    return 1 if not options.slice and any(not figure.met for figure in figures) else 0


def overhead(folder: Path, trials: int, *, on_ray: bool) -> list[Figure]:
    """Milliseconds of a trial beside its work, here and on a cluster of one node."""
    from edgetool.results import Results
    from edgetool.search.cluster import Needs, RayWorkers
    from edgetool.search.local import LocalWorkers
    from edgetool.shared_store import SharedStore

    space, job = quantizations(folder / "model")
    store = SharedStore(str(folder / "store"))
    results = Results(folder / "work", store)
    with LocalWorkers(1, results, folder / "lock") as executor:
        cold = timed_search(space, job, trials, executor, folder / "cold")
    work = [judging(job, one, results) for one in cold[0].trials]
    rounds = []
    for number in range(REPEATS):
        with LocalWorkers(1, results, folder / "lock") as executor:
            rounds.append(timed_search(space, job, trials, executor, folder / f"local{number}")[1] / trials)
    figures = _overhead("local", rounds, median(work), 0.050)
    if not on_ray:
        return figures
    with one_node(folder / "node") as address, RayWorkers(address, 1, Needs(), results) as executor:
        timed_search(space, job, trials, executor, folder / "first")  # the node fetches what is in the store
        rounds = [
            timed_search(space, job, trials, executor, folder / f"ray{number}")[1] / trials for number in range(REPEATS)
        ]
    return figures + _overhead("ray", rounds, median(work), 0.250)


def _overhead(where: str, rounds: list[float], work: float, goal: float) -> list[Figure]:
    left = sorted(1000 * (seconds - work) for seconds in rounds)
    value = median(left)
    return [
        Figure(
            f"{where}.overhead_per_trial", f"<= {1000 * goal:g}", value, "ms", (left[0], left[-1]), value <= 1000 * goal
        ),
        Figure(f"{where}.judging_per_trial", "reported", 1000 * work, "ms", None, met=True),
    ]


def judging(job: Any, one: Any, results: Any) -> float:
    """Seconds of judging a trial whose outputs are kept."""
    from edge.bundle import stored_bytes
    from edgetool.search.trial import _lost

    began = time.monotonic()
    _lost(job, one.artifact, results)
    stored_bytes(one.artifact.path, one.artifact.format)
    return time.monotonic() - began


def workers(folder: Path) -> list[Figure]:
    """The same study by one worker and by three, each with one thread, without in-loop timing, in turns; and then a
    second search under tighter limits on another machine that has the store alone.
    """
    from edgetool.results import Results
    from edgetool.search.local import LocalWorkers
    from edgetool.shared_store import SharedStore

    space, job = trainings(folder / "trained")
    ratios, shares, anew = [], [], 0
    for number in range(ROUNDS):
        seconds = {}
        for many in (1, WORKERS) if number % 2 == 0 else (WORKERS, 1):
            place = folder / f"workers{many}-{number}"
            results = Results(place / "work", SharedStore(str(place / "store")))
            with LocalWorkers(many, results, folder / "lock") as executor:
                seconds[many] = timed_search(space, job, TRIALS, executor, place)[1]
            print(f"{many} worker(s): {seconds[many]:.1f} s, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
        ratios.append(seconds[1] / seconds[WORKERS])
        store = folder / f"workers1-{number}" / "store"
        before = len(list(store.glob("*.tar")))
        results = Results(folder / f"second{number}" / "work", SharedStore(str(store)))
        with LocalWorkers(1, results, folder / "lock") as executor:
            second = timed_search(space, job, TRIALS, executor, folder / f"second{number}", max_drop=0.5)[1]
        print(f"warm: {second:.1f} s", file=sys.stderr)
        shares.append(second / seconds[1])
        anew += len(list(store.glob("*.tar"))) - before
    value, share = median(ratios), median(shares)
    return [
        Figure(f"workers{WORKERS}.speedup", ">= 1.5", value, "x", (min(ratios), max(ratios)), value >= 1.5),
        Figure("warm.share_of_cold_search", "<= 0.1", share, "", (min(shares), max(shares)), share <= 0.1),
        Figure("warm.passes_made_anew", "<= 0", float(anew), "", None, anew <= 0),
    ]


def timed_search(
    space: Any, job: Any, trials: int, executor: Any, folder: Path, max_drop: float = 1.0
) -> tuple[Any, float]:
    """What a search from nothing finds, and its seconds."""
    from edge.report import Limits
    from edgetool.progress import Silent
    from edgetool.recipe import Budget
    from edgetool.search.record import Record
    from edgetool.search.run import search

    record = Record(str(folder / "journal"), "study", space, 2, lambda _: None)
    began = time.monotonic()
    found = search(space, job, "study", Budget(trials), Limits(max_drop=max_drop), executor, record, None, Silent())
    seconds = time.monotonic() - began
    failed = [one.failure for one in found.trials if one.failure is not None]
    if failed:
        raise SystemExit(f"{len(failed)} of {trials} trials failed: {failed[0]}")
    return found, seconds


def quantizations(folder: Path) -> tuple[Any, Any]:
    """Twelve quantizations of the diabetes model: nothing is trained."""
    from edgetool.passes.post_training import Dynamic, Float16, Int8, Int16x8
    from edgetool.search.space import Axis, Space

    choices = [(Float16(),), (Dynamic(),), *((Int8(samples=n),) for n in (8, 16, 32, 64, 128, 256))]
    choices += [(Int16x8(samples=n),) for n in (8, 16, 32, 64)]
    return Space("keras", (Axis("quantize", tuple(choices)),)), job("diabetes", folder)


def trainings(folder: Path) -> tuple[Any, Any]:
    """The space of the breast cancer model, as a user gets it."""
    from edge.target import target
    from edgetool.search.space import space_for

    return space_for("keras", {"Dense": 2}, target("raspberrypi5")), job("breast_cancer", folder)


def job(name: str, folder: Path) -> Any:
    """A trial's job for a model of recipes/models."""
    from edge.target import target
    from edgetool.candidates import baseline_sequences, make
    from edgetool.conversion_worker import ConversionWorker, describe_model, load_source
    from edgetool.progress import Silent
    from edgetool.recipe import Recipe, TaskSource
    from edgetool.results import Results
    from edgetool.search.trial import Job

    recipe = Recipe(REPOSITORY / f"recipes/models/{name}.keras", TaskSource(name), target("raspberrypi5"))
    with ConversionWorker() as worker:
        source, _, _ = worker.call(describe_model, recipe.model, False)
        task = load_source(recipe.task, source)
        passes = baseline_sequences(source, ("litert",))["tflite"]
        made = make("float32", passes, source, recipe, task.sha256, Results(folder), worker, Silent())
    return Job(0, (), 1.0, (), recipe, source, made.artifact, task.sha256, 1.0)


@contextmanager
def one_node(folder: Path) -> Iterator[str]:
    """A Ray cluster of one node of one core on this machine."""
    from ray.cluster_utils import Cluster

    settings: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    folder.mkdir()
    own = {"XDG_CACHE_HOME": str(folder), "TMPDIR": str(folder)}  # with a race lock of its own
    cluster = Cluster(initialize_head=True, head_node_args={**settings, "env_vars": own})
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    sys.exit(main())
