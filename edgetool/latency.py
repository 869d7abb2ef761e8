"""The race of a run: every file on its engine, with one thread and with all, against that engine's float32 file."""

import json
from collections.abc import Mapping, Sequence

from edge.probe import environment
from edge.report import Measurement, RaceConditions, Skipped, from_plain, to_json
from edge.target import Target, this_machine
from edgetool.candidates import ENGINE_OF_FORMAT, Made
from edgetool.deploy.race import DeviceRace
from edgetool.progress import At
from edgetool.results import key_of
from edgetool.verify.race import Entry, Settings, race
from edgetool.workspace import Workspace


def race_all(
    everyone: Sequence[Made], baselines: Mapping[str, Made], workspace: Workspace, seed: int, at: At
) -> tuple[dict[str, tuple[Measurement, ...]], list[Skipped], RaceConditions]:
    """The measurements of every file by id, what could not be raced, and the machine meanwhile.

    A finished race is kept for `--resume`.
    """
    entries = _entries(everyone, baselines)
    settings = Settings(seed=seed)
    identity = key_of([entry.id for entry in entries], [one.artifact.sha256 for one in everyone], str(settings))

    def run() -> bytes:
        result = race(entries, settings, progress=lambda what, fraction: at(fraction, what))
        rows = {name: row for name, row in result.rows.items() if isinstance(row, Measurement)}
        skipped = [row for row in result.rows.values() if isinstance(row, Skipped)]
        return to_json({"rows": rows, "skipped": skipped, "conditions": result.conditions}).encode()

    kept = json.loads(workspace.cached_file(f"race-{identity}.json", run, of_this_machine=True))
    rows: dict[str, Measurement] = from_plain(dict[str, Measurement], kept["rows"])
    skipped: tuple[Skipped, ...] = from_plain(tuple[Skipped, ...], kept["skipped"])
    found = {
        one.id: tuple(rows[entry.id] for entry in entries if entry.path == one.artifact.path and entry.id in rows)
        for one in everyone
    }
    conditions: RaceConditions = from_plain(RaceConditions, kept["conditions"])
    return found, list(skipped), conditions


def _entries(everyone: Sequence[Made], baselines: Mapping[str, Made]) -> list[Entry]:
    def name(one: Made, threads: int) -> str:
        return f"{one.id}, {threads} thread{'s' if threads > 1 else ''}"

    return [
        Entry(
            id=name(one, threads),
            path=one.artifact.path,
            format=one.artifact.format,
            engine=ENGINE_OF_FORMAT[one.artifact.format],
            threads=threads,
            baseline=None if one is baselines[one.artifact.format] else name(baselines[one.artifact.format], threads),
        )
        for one in everyone
        for threads in sorted({1, environment().cores})
    ]


def elsewhere(target: Target, device: DeviceRace | None) -> tuple[Skipped, ...]:
    """What a target of another architecture leaves open when no device is at hand, or only an emulated one."""
    if device is not None:
        why = "not measured: the device is emulated, and its times say nothing about a real one"
        return (Skipped(f"latency on {target.name}", why),) if device.facts.emulated else ()
    here = this_machine()
    if target.arch == here.arch:
        return ()
    return (
        Skipped(
            f"latency on {target.name}",
            f"not measured: the race ran on this {here.arch} machine, the target is {target.arch}",
        ),
    )
