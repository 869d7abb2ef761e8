"""The main job: model and recipe in, verified bundle and report out. Every step is a file; finished ones are kept."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt

from edge import __version__
from edge.artifact import Artifact, Format, gzip_bytes
from edge.bundle import stored_bytes
from edge.durable import write_whole
from edge.errors import BadInput, BadModel, BadRecipe, CheckFailed, ProcessCrashed
from edge.probe import environment
from edge.report import Accuracy, Candidate, Limits, Report, Skipped, TaskInfo, Verdict
from edgetool.candidates import ENGINE_OF_FORMAT, Made, baseline_sequences, identify, make, make_all
from edgetool.conversion_worker import (
    ConversionWorker,
    describe_model,
    load_source,
    model_operations,
    reference_outputs,
)
from edgetool.data.load import require_data
from edgetool.deploy.race import DeviceRace
from edgetool.judge import Outputs, doubt_about, golden_inputs, outputs_on, paired_drop, parity_of, run_on
from edgetool.latency import elsewhere, race_all
from edgetool.lock import NAME as LOCK
from edgetool.lock import lock_text, other_versions, require_same
from edgetool.metrics import metric as metric_named
from edgetool.passes import check_sequence, default_sequences
from edgetool.passes.step import KERAS, Pass, label
from edgetool.progress import Progress
from edgetool.recipe import Recipe, limits_for
from edgetool.search.run import Searched
from edgetool.search.start import HERE, Machines, reported, searched
from edgetool.shared_store import SharedStore
from edgetool.shipping import confirmed, failure_of, locked, wanted, write_run
from edgetool.task import Task
from edgetool.workspace import Workspace, require_usable

READ, BASELINE, SEARCH, COMPRESS, PARITY, ACCURACY, RACE, CONFIRM, WRITE = STAGES = (
    "read the model and the data",
    "convert the float32 baseline",
    "search",
    "compress",
    "check parity",
    "measure accuracy on val",
    "race for latency",
    "confirm on test",
    "write the bundle and the report",
)


@dataclass(frozen=True)
class Finished:
    """A run that came to its end: its report, and the failure to exit with where nothing may ship."""

    report: Report
    failure: CheckFailed | None


@dataclass(frozen=True)
class _Job:
    """What the model and its data turned out to be, and what will be tried."""

    recipe: Recipe
    limits: Limits
    source: Artifact
    params: int | None
    macs: int | None
    task: Task
    baselines: dict[str, tuple[Pass, ...]]
    sequences: tuple[tuple[Pass, ...], ...]
    formats: tuple[Format, ...]


def plan(recipe: Recipe, out: Path, progress: Progress) -> str:
    """What `run` would do, after all the checks it would make; nothing is written."""
    progress.begin(STAGES[:1])
    with ConversionWorker() as worker:
        job = _read(recipe, worker, progress)
    task = job.task
    ids = identify(list(zip(job.formats, job.sequences, strict=True)))
    width = max(map(len, [*ids, "baseline"])) + 2
    said = [
        ("model", f"{recipe.model} ({job.source.format}, {job.params or 'an unknown number of'} parameters)"),
        ("task", f"{task.name}: {task.metric.name}; {task.train.n} train, {task.val.n} val, {task.test.n} test"),
        ("target", recipe.target.name),
        ("limits", json.dumps({k: v for k, v in dataclasses.asdict(job.limits).items() if v is not None})),
        *(("baseline", " -> ".join(map(label, steps)) or "the model as it is") for steps in job.baselines.values()),
        *((name, " -> ".join(map(label, steps))) for name, steps in zip(ids, job.sequences, strict=True)),
        ("output", str(out)),
    ]
    return "\n".join(f"{what:<{width}}{text}" for what, text in said)


def run(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool,
    progress: Progress,
    machines: Machines = HERE,
    device: DeviceRace | None = None,
) -> Finished:
    """Compress, verify, choose, confirm and bundle; the race is run on `device`, where there is one.

    Raises:
        BadInput: the model, the data or the recipe cannot be used; `out` is as it was before.
        EnvironmentFailed: finished work is kept in `out`, `resume=True` goes on with it.

    """
    require_usable(out)
    shared = None if machines.store is None else SharedStore(machines.store, lambda what: progress.at(0.0, what))
    progress.begin([stage for stage in STAGES if stage != SEARCH or recipe.search is not None])
    with ConversionWorker() as worker:
        job = _read(recipe, worker, progress)
        workspace = Workspace(out, resume=resume, shared=shared)
        try:
            return _run(job, workspace, worker, machines, device, progress)
        except BadInput:
            workspace.discard()
            raise
        finally:
            workspace.close()


def _read(recipe: Recipe, worker: ConversionWorker, progress: Progress) -> _Job:
    progress.stage(READ)
    # What can be refused in a moment is refused before TensorFlow is loaded.
    require_data(recipe.task.data)
    if recipe.task.metric is not None:
        limits_for(recipe, metric_named(recipe.task.metric))
    source, params, macs = worker.call(describe_model, recipe.model, recipe.trust, progress=progress.at)
    if recipe.search is not None:
        sequences: tuple[tuple[Pass, ...], ...] = ()  # they are looked for
    else:
        sequences = default_sequences(source.format) if recipe.sequences is None else recipe.sequences
    formats = tuple(check_sequence(source.format, sequence) for sequence in sequences)
    for sequence, made in zip(sequences, formats, strict=True):
        if made not in ENGINE_OF_FORMAT:
            raise BadRecipe(
                f"the passes {' -> '.join(map(label, sequence))} end in a {made} model, which no engine runs",
                "add convert.litert, convert.onnx or a quantize pass at the end",
            )
    progress.at(0.5, f"reading {recipe.task.data}")
    task = load_source(recipe.task, source)
    limits = limits_for(recipe, task.metric)
    if recipe.lock is not None:
        require_same(recipe.lock, source, task.sha256)
    baselines = baseline_sequences(source, recipe.target.engines, sequences)
    return _Job(recipe, limits, source, params, macs, task, baselines, sequences, formats)


def _run(
    job: _Job,
    workspace: Workspace,
    worker: ConversionWorker,
    machines: Machines,
    device: DeviceRace | None,
    progress: Progress,
) -> Finished:
    recipe, task = job.recipe, job.task
    progress.stage(BASELINE)
    baselines, skipped = _baselines(job, workspace, worker, progress)
    first = next(iter(baselines.values()))

    found: Searched | None = None
    if recipe.search is not None:
        progress.stage(SEARCH)
        layers = worker.call(model_operations, job.source, recipe.trust, progress=progress.at)
        files = {key: one.artifact for key, one in baselines.items()}
        found = searched(recipe, job.limits, job.source, layers, task.sha256, files, workspace, machines, progress)
        formats = tuple(check_sequence(job.source.format, sequence) for sequence in found.sequences)
        job = dataclasses.replace(job, sequences=found.sequences, formats=formats)

    progress.stage(COMPRESS)
    made, not_made = make_all(
        job.sequences, job.formats, baselines, job.source, recipe, task.sha256, workspace, worker, progress
    )

    progress.stage(PARITY)
    golden = golden_inputs(task.val, recipe.seed)
    rows, not_run = _described([*baselines.values(), *made], job, golden, worker, progress)
    baselines = {key: one for key, one in baselines.items() if one.id in rows}
    made = [one for one in made if one.id in rows and one.artifact.format in baselines]
    everyone = [*baselines.values(), *made]
    by_id = {one.id: one for one in everyone}

    progress.stage(ACCURACY)
    rows = _judged(rows, everyone, first, job, "val", workspace, progress)

    known = rows[first.id].accuracy
    doubt = None if known is None else doubt_about(task.metric, known, task.val.labels())

    progress.stage(RACE)
    if device is None:
        measured, not_raced, conditions = race_all(everyone, baselines, workspace, recipe.seed, progress.at)
    else:
        measured, not_raced, conditions = device(everyone, baselines, recipe.seed, progress.at)
    rows = {name: dataclasses.replace(row, measurements=measured.get(name, ())) for name, row in rows.items()}

    progress.stage(CONFIRM)
    if recipe.lock is None:
        ids, rejected = wanted(
            [rows[one.id] for one in made],
            {key: rows[one.id] for key, one in baselines.items()},
            job.limits,
            _preferred(job, found, made),
        )
    else:
        ids, rejected = locked(rows, [one.id for one in made], recipe.lock.ships, job.limits)
    if doubt is not None:
        # A float32 model that knows nothing cannot lose anything: every drop would pass.
        ids, rejected = [], {one.id: (doubt,) for one in made}
    rows |= {name: dataclasses.replace(rows[name], verdict=Verdict(False, why)) for name, why in rejected.items()}
    if ids:
        finalists = [by_id[name] for name in dict.fromkeys([first.id, *ids])]
        rows = _judged(rows, finalists, first, job, "test", workspace, progress)
        rows |= {name: confirmed(rows[name], job.limits) for name in ids}
    shipped = [by_id[name] for name in ids if (verdict := rows[name].verdict) is not None and verdict.ship]
    chosen = ids[0] if shipped and shipped[0].id == ids[0] else None

    progress.stage(WRITE)
    metric = task.metric
    report = Report(
        edgetool=__version__,
        environment=environment(),
        task=TaskInfo(task.name, metric.name, metric.direction, task.train.n, task.val.n, task.test.n, task.sha256),
        limits=job.limits,
        target=recipe.target.name,
        seed=recipe.seed,
        baseline=rows[first.id],
        candidates=tuple(rows[one.id] for one in everyone if one is not first),
        chosen=chosen,
        race=conditions,
        skipped=(*skipped, *not_made, *not_run, *not_raced, *elsewhere(recipe.target, device), *_unlike(recipe)),
        search=None if found is None else reported(found),
    )
    report = write_run(report, shipped if chosen else [], task, golden, job.source, workspace)
    _write_lock(job, report, shipped if chosen else [], {one.id: one for one in baselines.values()}, workspace)
    return Finished(report, failure_of(report))


def _preferred(job: _Job, found: Searched | None, made: list[Made]) -> str | None:
    """The id of the front's knee, where a search had no limits of size, time or memory to decide by."""
    limits = job.limits
    if found is None or (limits.max_size_bytes, limits.max_p95_ms, limits.max_rss_bytes) != (None, None, None):
        return None
    knee = identify(list(zip(job.formats, job.sequences, strict=True)))[0]
    return next((one.id for one in made if one.id == knee), None)


def _write_lock(
    job: _Job, report: Report, shipped: list[Made], baselines: dict[str, Made], workspace: Workspace
) -> None:
    path = workspace.out / LOCK
    if not shipped:
        path.unlink(missing_ok=True)
        return
    passes = dict(zip(identify(list(zip(job.formats, job.sequences, strict=True))), job.sequences, strict=True))
    kept = [one for one in shipped if one.id not in baselines]
    # the ids that these few have when they are all there is
    again = identify([(one.artifact.format, passes[one.id]) for one in kept])
    names = dict(zip([one.id for one in kept], again, strict=True))
    text = lock_text(
        job.recipe,
        report,
        job.source,
        [passes[one.id] for one in kept],
        [names.get(one.id, one.id) for one in shipped],
        job.task.metric.drop_unit,
        workspace.out,
    )
    write_whole(path, text.encode())


def _unlike(recipe: Recipe) -> tuple[Skipped, ...]:
    if recipe.lock is None:
        return ()
    here = environment()
    return other_versions(recipe.lock, {"edgetool": __version__, "python": here.python, **here.versions})


def _baselines(
    job: _Job, workspace: Workspace, worker: ConversionWorker, progress: Progress
) -> tuple[dict[str, Made], list[Skipped]]:
    """The float32 model of every engine that can have one; raises where none can."""
    made: dict[str, Made] = {}
    skipped = []
    failure: BadInput | CheckFailed | ProcessCrashed | None = None
    for file_format, steps in job.baselines.items():
        name = identify([(file_format, steps)])[0]
        try:
            made[file_format] = make(name, steps, job.source, job.recipe, job.task.sha256, workspace, worker, progress)
        except (BadInput, CheckFailed, ProcessCrashed) as error:
            failure = error
            skipped.append(Skipped(name, error.message))
    if not made:
        assert failure is not None
        raise failure
    return made, skipped


def _described(
    models: list[Made], job: _Job, golden: dict[str, npt.NDArray[Any]], worker: ConversionWorker, progress: Progress
) -> tuple[dict[str, Candidate], list[Skipped]]:
    """A row for every file, with its parity against its reference model on the golden inputs.

    A file that its runtime refuses, or that crashes it, is skipped; the first baseline has to run.
    """
    references: dict[str, Outputs] = {}
    rows: dict[str, Candidate] = {}
    skipped = []
    for number, one in enumerate(models):
        progress.at(number / len(models), one.id)
        artifact, reference = one.artifact, one.reference
        if reference.sha256 not in references:
            if reference.format in KERAS:
                references[reference.sha256] = worker.call(reference_outputs, reference, golden, job.recipe.trust)
            else:
                references[reference.sha256] = run_on(reference, golden)
        try:
            outputs = run_on(artifact, golden)
        except (BadModel, ProcessCrashed) as error:
            if not rows:
                raise
            skipped.append(Skipped(one.id, error.message))
            continue
        rows[one.id] = Candidate(
            id=one.id,
            steps=artifact.steps,
            format=artifact.format,
            file=str(artifact.path),
            sha256=artifact.sha256,
            size_bytes=artifact.size_bytes,
            gzip_bytes=gzip_bytes(artifact.path),
            stored_bytes=stored_bytes(artifact.path, artifact.format),
            params=job.params,
            macs=job.macs,
            parity=parity_of(artifact, references[reference.sha256], outputs, reference.format),
            skipped=one.skipped,
        )
    return rows, skipped


def _judged(
    rows: dict[str, Candidate],
    models: list[Made],
    first: Made,
    job: _Job,
    split: Literal["val", "test"],
    workspace: Workspace,
    progress: Progress,
) -> dict[str, Candidate]:
    """The rows with accuracy and drop of `models` on a split; on `val` also kept as what they are chosen by."""
    from edgetool.verify.accuracy_gate import interval

    recipe, metric = job.recipe, job.task.metric
    examples = job.task.val if split == "val" else job.task.test
    labels = examples.labels()
    judged = dict(rows)
    baseline: npt.NDArray[Any] | None = None
    assert models[0] is first, "the baseline is judged first: the others' drops refer to it"
    for number, one in enumerate(models):

        def at(fraction: float, what: str, number: int = number, name: str = one.id) -> None:
            progress.at((number + fraction) / len(models), f"{name} on {what}")

        outputs = outputs_on(one.artifact, examples, job.task.sha256, workspace, split, at)
        baseline = outputs if baseline is None else baseline
        value, ci95 = interval(metric, outputs, labels, groups=examples.groups, seed=recipe.seed)
        accuracy = Accuracy(metric.name, value, examples.n, split, ci95)
        lost = None
        if one is not first:
            assert job.limits.max_drop is not None, "limits_for always sets it"
            # val only chooses; on test the gate is for all that are confirmed there
            others = len(models) - 1 if split == "test" else 1
            lost = paired_drop(metric, baseline, outputs, examples, job.limits.max_drop, recipe.seed, others)
        row = dataclasses.replace(rows[one.id], accuracy=accuracy, drop=lost)
        judged[one.id] = dataclasses.replace(row, val_accuracy=accuracy, val_drop=lost) if split == "val" else row
    return judged
