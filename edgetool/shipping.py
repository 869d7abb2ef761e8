"""From what was measured to what ships: the candidates to confirm, the verdict on `test`, the files and the bundle."""

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from edge.artifact import Artifact
from edge.bundle import REPORT, Golden, write_bundle
from edge.durable import write_whole
from edge.errors import CheckFailed
from edge.report import Candidate, Drop, Limits, Report, Verdict, to_json
from edgetool.bundling.origin import Origin, documents
from edgetool.bundling.parts import requirements
from edgetool.candidates import Made
from edgetool.choose import choose, failed_limits, reasons_against
from edgetool.judge import run_on
from edgetool.render.page import page
from edgetool.render.words import corrected_words, drop_words
from edgetool.search.binding import binding
from edgetool.task import Task
from edgetool.workspace import Workspace


def wanted(
    candidates: Sequence[Candidate],
    baselines: Mapping[str, Candidate],
    limits: Limits,
    preferred: str | None = None,
) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """The ids to confirm on `test`, the one to bundle first, then the best of every other format; and for the
    other candidates why they are not among them.

    Where nothing that was tried may ship, the float32 baseline stands if it meets the limits: it is what the
    others had to be proven better than. (A drop that `val` cannot resolve goes on to `test`, and may end there.)
    `preferred` is the id that wins wherever it may ship.
    """
    choice = choose(tuple(candidates), limits, preferred=preferred)
    first_format = next(iter(baselines))
    if choice.chosen is None:
        baseline = baselines[first_format]
        if _against_baseline(baseline, limits):
            return [], choice.rejected
        ids = [baseline.id]
    else:
        ids = [choice.chosen]
    primary = next(row.format for row in (*candidates, *baselines.values()) if row.id == ids[0])
    for file_format, baseline in baselines.items():
        if file_format == primary:
            continue
        other = choose(tuple(candidates), limits, file_format).chosen
        if other is not None:
            ids.append(other)
        elif not _against_baseline(baseline, limits):
            ids.append(baseline.id)
    return ids, {name: reasons for name, reasons in choice.rejected.items() if name not in ids}


def locked(
    rows: Mapping[str, Candidate], made: Sequence[str], ships: Sequence[str], limits: Limits
) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """The ids that a lock ships, and why the others of `made` do not; none where its first cannot."""
    against = {name: _against_baseline(rows[name], limits) for name in ships if name in rows}
    ids = [name for name in ships if against.get(name) == ()]
    if ids[:1] != list(ships[:1]):
        ids = []
    return ids, {name: against.get(name) or ("it is not what was locked",) for name in made if name not in ids}


def _against_baseline(baseline: Candidate, limits: Limits) -> tuple[str, ...]:
    diverged = baseline.parity is not None and baseline.parity.first_divergence is not None
    return (*(("parity",) if diverged else ()), *failed_limits(baseline, limits))


def confirmed(row: Candidate, limits: Limits) -> Candidate:
    """The row with its verdict by the gate on `test`."""
    if row.drop is None or row.drop.verdict == "pass":
        return dataclasses.replace(row, verdict=Verdict(ship=True))
    return dataclasses.replace(row, verdict=Verdict(False, (_gate_words(row.drop, limits),)))


def _gate_words(drop: Drop, limits: Limits) -> str:
    needed = "" if drop.n_needed is None else f"; these rates would pass with n = {drop.n_needed:,}"
    return (
        f"accuracy {drop.verdict}: drop {drop_words(drop)} on test (n = {drop.n:,}){corrected_words(drop)}, "
        f"limit {limits.max_drop:g}{needed}"
    )


def failure_of(report: Report) -> CheckFailed | None:
    """Why nothing ships, in one line, with the nearest candidate; None where something does."""
    if report.chosen is not None:
        return None
    rows = [row for row in report.candidates if row.verdict is not None and row.verdict.failed_limits]
    if not rows:
        return CheckFailed("nothing ships: no candidate could be made", "see `skipped` in the report")
    near = min(rows, key=lambda row: (len(reasons_against(row, report.limits)), row.size_bytes))
    assert near.verdict is not None
    binds = None if report.search is None else binding(report.search, report.limits)
    return CheckFailed(
        f"nothing ships; {binds or f'nearest is {near.id}: ' + '; '.join(near.verdict.failed_limits)}",
        "loosen the limit that binds, add test examples where it says unresolved, or try other passes",
    )


def write_run(
    report: Report,
    shipped: Sequence[Made],
    task: Task,
    golden: Mapping[str, npt.NDArray[Any]],
    source: Artifact,
    workspace: Workspace,
) -> Report:
    """Write the shipped files, the bundle of the first, report.json and report.html; earlier ones go.

    They have the name of `source`, the model that came in. Returns the report with the shipped files' names in it.
    """
    out, name = workspace.out, source.path.stem
    workspace.clear_shipped()
    files = {}
    for one in shipped:
        path = out / f"{name}.{one.artifact.format}"
        shutil.copyfile(one.artifact.path, path)
        files[one.id] = path.name
    rows = {row.id: dataclasses.replace(row, file=files.get(row.id, _within(row.file, out))) for row in _rows(report)}
    report = dataclasses.replace(
        report, baseline=rows[report.baseline.id], candidates=tuple(rows[row.id] for row in report.candidates)
    )
    text = to_json(report)
    if shipped:
        _bundle(report, text, shipped[0], task, golden, out / f"{name}.edge", source)
    write_whole(out / "report.json", text.encode())
    write_whole(out / "report.html", page(report).encode())
    return report


def _rows(report: Report) -> tuple[Candidate, ...]:
    return (report.baseline, *report.candidates)


def _within(file: str, out: Path) -> str:
    path = Path(file)
    return path.relative_to(out).as_posix() if path.is_relative_to(out) else path.name


def _bundle(
    report: Report,
    text: str,
    one: Made,
    task: Task,
    golden: Mapping[str, npt.NDArray[Any]],
    path: Path,
    source: Artifact,
) -> None:
    artifact, name = one.artifact, source.path.stem
    versions = {"edgetool": report.edgetool, **report.environment.versions}
    limits = {key: value for key, value in dataclasses.asdict(report.limits).items() if value is not None}
    row = next(row for row in _rows(report) if row.id == one.id)
    origin = Origin(
        command="compress",
        source=source,
        task=task.name,
        task_sha256=task.sha256,
        settings={"target": report.target, "limits": limits, "seed": report.seed},
        versions=versions,
        accuracy=row.accuracy,
        requires=requirements(artifact.format),
    )
    write_bundle(
        path,
        artifact,
        Golden(dict(golden), run_on(artifact, golden)),
        name=name,
        target=report.target,
        task=task.name,
        preprocess=task.preprocess,
        labels=task.labels,
        versions=versions,
        requires=origin.requires,
        documents={REPORT: text, **documents(name, artifact, origin)},
    )
