"""From a model and its limits to a finished search: what the pipeline calls."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from edge.artifact import Artifact, sha256_of
from edge.errors import BadRecipe
from edge.probe import environment
from edge.report import Limits, Search, SearchAxis, Trial
from edge.target import this_machine
from edgetool.progress import Progress
from edgetool.recipe import Recipe
from edgetool.results import Results
from edgetool.search.cluster import Needs, RayWorkers
from edgetool.search.latency_model import LatencyModel, estimated_ms
from edgetool.search.latency_model import read as read_latency_model
from edgetool.search.local import LocalWorkers
from edgetool.search.order import WAY, front_of
from edgetool.search.record import Record, study_name
from edgetool.search.run import Clock, Searched, search
from edgetool.search.space import label_of, space_for
from edgetool.search.timing import milliseconds
from edgetool.search.trial import Job


@dataclass(frozen=True)
class Machines:
    """Where a search runs and keeps its trials; nothing of it changes what is found.

    `workers` is how many trials run at a time, None one here and as many as a cluster holds; `storage` a database's URL
    for the trials, None a journal in the output folder; `store` an fsspec address where results of passes are shared
    between searches, None the output folder; `cluster` a Ray cluster's address, None this machine; `needs` what a trial
    takes of a cluster's node.
    """

    workers: int | None = None
    storage: str | None = None
    store: str | None = None
    cluster: str | None = None
    needs: Needs = Needs()  # noqa: RUF009 - frozen, so one for all is fine


HERE = Machines()


def searched(
    recipe: Recipe,
    limits: Limits,
    source: Artifact,
    layers: Mapping[str, int],
    task_sha256: str,
    baselines: Mapping[str, Artifact],
    results: Results,
    machines: Machines,
    progress: Progress,
) -> Searched:
    """Search the space of a model. `baselines` are its float32 files by format, the first the one drops refer to."""
    assert recipe.search is not None
    assert limits.max_drop is not None, "limits_for always sets it"
    estimates = _latency_model(recipe)
    # a latency model knows LiteRT's operations only
    target = recipe.target if estimates is None else dataclasses.replace(recipe.target, engines=("litert",))
    space = space_for(source.format, layers, target)
    baseline = next(iter(baselines.values()))
    template = Job(0, (), 1.0, (), recipe, source, baseline, task_sha256, limits.max_drop)
    # a file is timed only where the target is of this machine's kind
    timed = recipe.target.arch == this_machine().arch
    axes = [[label_of(choice) for choice in axis.choices] for axis in space.axes]
    study = study_name(
        {
            "model": source.sha256,
            "task": task_sha256,
            "axes": axes,
            "seed": recipe.seed,
            "timed": timed if estimates is None else estimates.sha256,
            "order": [WAY, recipe.search.seconds is not None],
            "versions": environment().versions,
        }
    )
    known: dict[str, float] = {}
    record = Record(
        machines.storage or str(results.work / "study.journal"),
        study,
        space,
        3 if timed or estimates is not None else 2,
        lambda what: progress.at(0.0, what),
    )
    with _executor(machines, results) as executor:
        clock = Clock(lambda one, said: milliseconds(one, baselines, known, said), "measured") if timed else None
        if estimates is not None:
            fitted = estimates.model.estimator()
            clock = Clock(lambda one, _: estimated_ms(one, fitted), "estimated")
        found = search(space, template, study, recipe.search, limits, executor, record, clock, progress)
        return dataclasses.replace(found, latency_error=None if estimates is None else estimates.model.error)


@dataclass(frozen=True)
class _Estimates:
    model: LatencyModel
    sha256: str


def _latency_model(recipe: Recipe) -> _Estimates | None:
    """What times are estimated by, where the recipe names it.

    Raises BadRecipe: the target is of this machine's kind, or of another than the model's, or does not run LiteRT.
    """
    assert recipe.search is not None
    path, target = recipe.search.latency_model, recipe.target
    if path is None:
        return None
    if target.arch == this_machine().arch:
        raise BadRecipe(f"{target.name} is of this machine's kind: its times are measured", "leave the model out")
    model = read_latency_model(path)
    if model.arch != target.arch or "litert" not in target.engines:
        raise BadRecipe(
            f"{path} was fitted for LiteRT on {model.arch}; {target.name} is {target.arch} and runs "
            f"{' and '.join(target.engines) or 'nothing'}",
            "fit one there: edgetool latency fit",
        )
    return _Estimates(model, sha256_of(path))


def _executor(machines: Machines, results: Results) -> LocalWorkers | RayWorkers:
    if machines.cluster is None:
        return LocalWorkers(machines.workers or 1, results)
    return RayWorkers(machines.cluster, machines.workers, machines.needs, results)


def reported(found: Searched) -> Search:
    """The search as report.json has it."""
    front = {one.number for one in front_of(found.trials)}
    trials = tuple(
        Trial(
            number=one.number,
            steps=one.steps,
            epochs=one.epochs,
            drop=one.drop,
            upper95=one.upper95,
            stored_bytes=one.stored_bytes,
            p50_ms=one.p50_ms,
            latency=one.latency,
            seconds=one.seconds,
            on_front=one.number in front,
            failure=one.failure,
            point=one.point,
            size_bytes=None if one.artifact is None else one.artifact.size_bytes,
        )
        for one in found.trials
    )
    axes = tuple(SearchAxis(axis.name, tuple(map(label_of, axis.choices))) for axis in found.space.axes)
    return Search(trials, found.seconds, axes, found.latency_error)
