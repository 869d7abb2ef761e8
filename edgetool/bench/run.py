"""`edgetool bench`: start every row, hold its outputs against the CPU's, race what runs, then ask for the rest."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge import __version__, probe
from edge.bench_report import BenchReport, BenchRow, BenchVerdict, Difference, FailedRow, Memory, Start
from edge.delegates import require_placement
from edge.errors import BadInput, BadRecipe, CheckFailed, EdgetoolError, EnvironmentFailed
from edge.percentiles import latency
from edge.report import Environment, Measurement, RaceConditions, Skipped
from edgetool.bench.cases import Case, cases
from edgetool.bench.difference import difference
from edgetool.bench.extras import Extras, Wanted, measure
from edgetool.bench.start import Started, start
from edgetool.bench.subjects import Subject, subjects
from edgetool.progress import Progress
from edgetool.verify.race import LOCK, Entry, Launches, RaceResult, Settings, machine_to_itself, race

MAX_WAIT_S = 900.0
# An emulation's time says nothing about the device: it is timed just well enough to notice that it changed
EMULATED = Settings(blocks=1, block_seconds=0.02, min_calls=8, max_warmup_seconds=0.2)


@dataclass(frozen=True)
class Options:
    """What was asked for. `against` is the model that the others are compared with, None for the first of a format.

    `seconds` is how long every row is timed, over all launches.
    """

    models: tuple[Path, ...]
    delegates: tuple[str, ...] = ()
    settings: dict[str, str] = field(default_factory=dict)
    threads: tuple[int, ...] = (1,)
    against: Path | None = None
    allow_fallback: tuple[str, ...] = ()
    data: str | None = None
    seconds: float = 2.0
    wanted: Wanted = field(default_factory=Wanted)
    seed: int = 0
    lock: Path = LOCK

    def __post_init__(self) -> None:
        if not self.models:
            raise BadRecipe("there is no model to time", "give .tflite, .onnx or .edge files")
        if self.seconds <= 0:
            raise BadRecipe(f"no row can be timed for {self.seconds:g} s")


@dataclass(frozen=True, eq=False)
class Finished:
    """The report, every call by row, and what the command fails with."""

    report: BenchReport
    samples: dict[str, Launches]
    failure: EdgetoolError | None


@dataclass
class _Run:
    """What is known so far: cases that started, what each answered, and what failed."""

    started: dict[str, Started] = field(default_factory=dict)
    differences: dict[str, Difference | None] = field(default_factory=dict)
    failed: list[FailedRow] = field(default_factory=list)
    errors: list[EdgetoolError] = field(default_factory=list)

    def fail(self, case: Case, error: EdgetoolError) -> None:
        """A row that gives no figures."""
        row = FailedRow(case.subject.name, case.delegate.name, case.threads, case.asked, error.message, error.hint)
        self.failed.append(row)
        self.started.pop(case.id, None)
        if case.asked or case.is_reference:
            named = f"{case.id}: {error.message}"
            self.errors.append(_same_kind(error, named))


def bench(options: Options, progress: Progress) -> Finished:
    """Measure everything that was asked for; a failure of one row never costs another.

    Raises:
        BadInput: a model, a delegate's name, a setting or the data cannot be used at all.
        EnvironmentFailed: another race held the machine too long.

    """
    with tempfile.TemporaryDirectory() as scratch:
        files = dict.fromkeys((*((options.against,) if options.against is not None else ()), *options.models))
        everyone = subjects(tuple(files), options.data, options.seed, Path(scratch))
        against = everyone[0] if options.against is not None else None
        _require_comparable(against, everyone)
        planned, skipped = cases(everyone, options.delegates, options.settings, options.threads)
        progress.begin(("start", "race", "more figures"))
        run = _Run()
        progress.stage("start")
        _start_all(planned, run, options, progress)
        progress.stage("race")
        left = [case for case in planned if case.id in run.started]
        raced = _race_all(left, run, everyone, options, progress)
        progress.stage("more figures")
        rows = _rows(left, run, raced, everyone, options, progress)
    failures = [*run.errors, *_check(left, rows, options)]
    report = BenchReport(
        edgetool=__version__,
        environment=_environment(left),
        models=tuple(subject.model for subject in everyone),
        rows=tuple(rows.values()),
        failed=tuple(run.failed),
        skipped=skipped,
        race=_conditions(raced),
        clocks=probe.clocks(),
        failures=tuple(error.message for error in failures),
    )
    calls = {name: one for result in raced for name, one in result.launches.items()}
    samples = {name: calls[name] for name in rows}
    return Finished(report, samples, _worst(failures))


def _require_comparable(against: Subject | None, everyone: Sequence[Subject]) -> None:
    if against is None:
        return
    others = everyone[1:]
    if others and not any(one.model.format == against.model.format for one in others):
        raise BadRecipe(
            f"{others[0].name} cannot be compared with {against.name}: they run on two runtimes",
            "a ratio is between models on the same runtime: convert one of them",
        )


def _start_all(planned: Sequence[Case], run: _Run, options: Options, progress: Progress) -> None:
    with _quiet_machine(options, progress):
        for number, case in enumerate(planned):
            progress.at(number / len(planned), f"cold and cached start of {case.id}")
            try:
                run.started[case.id] = start(case, options.wanted.time_limit_s)
            except EdgetoolError as error:
                run.fail(case, error)
    for case in planned:
        reference = next((one for one in planned if one.is_reference and one.subject is case.subject), None)
        truth = run.started.get(reference.id) if reference is not None else None
        if case.id in run.started:
            found = None if truth is None else _difference(case, truth, run.started[case.id])
            if found is not None and case is reference:
                found = dataclasses.replace(found, is_reference=True)
            run.differences[case.id] = found


def _difference(case: Case, truth: Started, started: Started) -> Difference:
    subject = case.subject
    return difference(
        truth.outputs,
        started.outputs,
        started.loaded.outputs,
        case.delegate,
        told=subject.told,
        inner_steps=subject.steps_of_outputs,
        name=f"{truth.loaded.placement.requested} (CPU)",
    )


def _race_all(
    left: Sequence[Case], run: _Run, everyone: Sequence[Subject], options: Options, progress: Progress
) -> list[RaceResult]:
    """Two races: what is measured, and what is emulated, which is compared with nothing that is measured."""
    real = [case for case in left if run.started[case.id].loaded.placement.emulated_by is None]
    emulated = [case for case in left if case not in real]
    launches = Settings().launches
    blocks = Settings().blocks
    settings = Settings(
        block_seconds=options.seconds / (launches * blocks),
        max_load_seconds=options.wanted.time_limit_s,
        max_wait_seconds=MAX_WAIT_S,
        seed=options.seed,
    )
    slow = dataclasses.replace(EMULATED, max_load_seconds=options.wanted.time_limit_s, seed=options.seed)
    found = []
    for cast, how in ((real, settings), (emulated, slow)):
        if cast:
            entries = _entries(cast, run, everyone)
            found.append(race(entries, how, progress=lambda what, part: progress.at(part, what), lock=options.lock))
    for case in left:
        for result in found:
            row = result.rows.get(case.id)
            if isinstance(row, Skipped):
                run.fail(case, EnvironmentFailed(row.reason))
    return found


def _entries(cast: Sequence[Case], run: _Run, everyone: Sequence[Subject]) -> list[Entry]:
    ids = {case.id for case in cast}
    entries = []
    for case in cast:
        baseline = dataclasses.replace(case, subject=_baseline(case, everyone)).id
        emulated = run.started[case.id].loaded.placement.emulated_by is not None
        entries.append(
            Entry(
                id=case.id,
                path=case.subject.path,
                format=case.subject.model.format,
                engine=run.started[case.id].loaded.engine,
                threads=case.threads,
                delegate=case.delegate.name,
                baseline=baseline if baseline in ids and baseline != case.id and not emulated else None,
                settings=case.settings,
            )
        )
    return entries


def _baseline(case: Case, everyone: Sequence[Subject]) -> Subject:
    """The model that a case's model is compared with: the first of its format, `--against` before all."""
    return next(one for one in everyone if one.model.format == case.subject.model.format)


def _rows(
    left: Sequence[Case],
    run: _Run,
    raced: Sequence[RaceResult],
    everyone: Sequence[Subject],
    options: Options,
    progress: Progress,
) -> dict[str, BenchRow]:
    rows: dict[str, BenchRow] = {}
    measured = {name: row for result in raced for name, row in result.rows.items() if isinstance(row, Measurement)}
    launches = {name: one for result in raced for name, one in result.launches.items()}
    todo = [case for case in left if case.id in measured]
    with _quiet_machine(options, progress):
        for number, case in enumerate(todo):
            at = number / len(todo)
            row = measured[case.id]
            try:
                extras = measure(
                    case,
                    options.wanted,
                    emulated=row.status != "measured",
                    progress=lambda what, at=at: progress.at(at, what),  # type: ignore[misc]  # bound early on purpose
                )
            except EdgetoolError as error:
                run.fail(case, error)
                continue
            baseline = None if row.ratio is None else _baseline(case, everyone).name
            rows[case.id] = _row(case, run, row, launches[case.id], extras, baseline, options)
    return rows


def _row(
    case: Case, run: _Run, row: Measurement, launches: Launches, extras: Extras, baseline: str | None, options: Options
) -> BenchRow:
    times = latency(launches.seconds, options.seed)
    begun = run.started[case.id].start
    settled = all(one.stationary for one in launches.warmups)
    calls = int(np.median([one.calls for one in launches.warmups]))
    imported = [one for one in launches.imported_rss_bytes if one is not None]
    over = row.peak_rss_bytes - max(imported) if row.peak_rss_bytes is not None and imported else None
    first = begun.cold_first_ms / times.at(50).ms
    started: Start = dataclasses.replace(begun, first_over_p50=first, warmup_calls=calls if settled else None)
    verdict, reasons = _verdict(case, row, run.differences[case.id], options)
    return BenchRow(
        model=case.subject.name,
        delegate=case.delegate.name,
        settings=dict(case.settings),
        measurement=row,
        latency=times,
        start=started,
        memory=Memory(row.peak_rss_bytes, over, row.arena_bytes),
        difference=run.differences[case.id],
        verdict=verdict,
        reasons=reasons,
        baseline=baseline,
        **{field.name: getattr(extras, field.name) for field in dataclasses.fields(extras)},
    )


def _verdict(
    case: Case, row: Measurement, found: Difference | None, options: Options
) -> tuple[BenchVerdict, tuple[str, ...]]:
    if found is not None and not found.within:
        got = f"{found.max_lsb:.3g} LSB" if found.max_lsb is not None else f"{found.relative:.3g} of the range"
        return "wrong result", (f"outputs differ from {found.reference} by {got}, {found.allowed} is allowed",)
    if case.strict:
        try:
            require_placement(row.placement, options.allow_fallback)
        except CheckFailed as error:
            return "fallback", (error.message,)
    return "ok", ()


def _check(left: Sequence[Case], rows: dict[str, BenchRow], options: Options) -> Iterator[CheckFailed]:
    for case in left:
        row = rows.get(case.id)
        if row is None or row.verdict == "ok":
            continue
        if row.verdict == "fallback":
            try:
                require_placement(row.placement, options.allow_fallback)
            except CheckFailed as error:
                yield CheckFailed(f"fallback: {case.id}: {error.message}", error.hint)
        else:
            yield CheckFailed(
                f"wrong result: {case.id}: {row.reasons[0]}", "this delegate must not be used for this model"
            )


def _worst(failures: Sequence[EdgetoolError]) -> EdgetoolError | None:
    """What the command ends with: the first figure that is missing, else the first check that failed."""
    if not failures:
        return None
    first = next((one for one in failures if not isinstance(one, CheckFailed)), failures[0])
    more = f" (and {len(failures) - 1} more in the report)" if len(failures) > 1 else ""
    return _same_kind(first, first.message + more)


def _same_kind(error: EdgetoolError, message: str) -> EdgetoolError:
    kind = BadInput if isinstance(error, BadInput) else CheckFailed if isinstance(error, CheckFailed) else None
    return (kind or EnvironmentFailed)(message, error.hint)


def _conditions(raced: Sequence[RaceResult]) -> RaceConditions | None:
    return raced[0].conditions if raced else None


def _environment(left: Sequence[Case]) -> Environment:
    """The machine, with the packages that the delegates came from."""
    found = probe.environment()
    needs = {case.delegate.needs.split()[0].split("=")[0] for case in left}
    driver = probe.nvidia_driver()
    versions = {**found.versions, **probe.versions(needs), **({"nvidia driver": driver} if driver else {})}
    return dataclasses.replace(found, versions=versions)


@contextlib.contextmanager
def _quiet_machine(options: Options, progress: Progress) -> Iterator[None]:
    with machine_to_itself(options.lock, MAX_WAIT_S, lambda what, part: progress.at(part, what)):
        yield
