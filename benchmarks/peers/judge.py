"""One judge for all files, ours and the peers': outputs on the test examples, bytes, one race a model."""

import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.peers.front import Comparison, Outside, outside
from benchmarks.peers.models import all_of
from edge.artifact import gzip_bytes, sha256_of
from edge.errors import EdgetoolError
from edge.report import Interval, Skipped
from edge.runtime_process import RuntimeProcess
from edgetool.candidates import ENGINE_OF_FORMAT
from edgetool.judge import BATCH
from edgetool.metrics import Metric
from edgetool.task import Task
from edgetool.verify import accuracy_gate, speed_gate
from edgetool.verify.race import Entry, Settings, race

COSTS = ("bytes", "gzip", "time")


@dataclass(frozen=True)
class File:
    """A model file to judge. `maker` is "ours" or the peer's name."""

    id: str
    maker: str
    path: Path
    format: str


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What is judged on: inputs [n, ...] of the one input, labels [n], and who belongs together [n]."""

    metric: Metric
    inputs: npt.NDArray[Any]
    labels: npt.NDArray[Any]
    groups: npt.NDArray[np.int64] | None


def held_out(task: Task, most: int | None = None) -> HeldOut:
    """The test examples of a task, or the first ones."""
    inputs, labels = all_of(task.test)
    groups = task.test.groups
    return HeldOut(task.metric, inputs[:most], labels[:most], None if groups is None else groups[:most])


@dataclass(frozen=True, eq=False)
class Judged:
    """A file with what was found: accuracy, its outputs, bytes, and time over float32 on the same engine."""

    file: File
    outputs: npt.NDArray[Any]
    accuracy: float
    accuracy_ci95: Interval
    size_bytes: int
    gzip_bytes: int
    time: float | None = None
    time_ci95: Interval | None = None
    launches: tuple[npt.NDArray[np.float64], ...] = ()


def judge(
    files: Sequence[File], floats: Mapping[str, str], test: HeldOut, settings: Settings | None, kept: Path
) -> tuple[list[Judged], list[Skipped]]:
    """Every file that runs, and those that do not. `floats` is the id of the float32 file by format.

    No time is measured without `settings`. Outputs are kept in the folder `kept` by the hash of their file.
    """
    ran: dict[str, npt.NDArray[Any]] = {}
    failed: list[Skipped] = []
    for file in files:
        try:
            ran[file.id] = _outputs(file, test.inputs, kept)
        except EdgetoolError as error:
            failed.append(Skipped(file.id, error.message))
    alive = [file for file in files if file.id in ran]
    entries = [
        Entry(
            file.id, file.path, file.format, ENGINE_OF_FORMAT[file.format],
            baseline=None if floats[file.format] == file.id else floats[file.format],
        )
        for file in alive
    ]  # fmt: skip
    raced = None if settings is None else race(entries, settings, progress=_say)
    if raced is not None:
        print(f"raced in {raced.conditions.seconds:.0f} s", file=sys.stderr, flush=True)
    judged = []
    for file in alive:
        value, ci95 = accuracy_gate.interval(test.metric, ran[file.id], test.labels, test.groups)
        row = None if raced is None else raced.rows[file.id]
        seconds = raced.launches[file.id].seconds if raced is not None and file.id in raced.launches else ()
        if isinstance(row, Skipped):
            failed.append(row)
        measured = None if isinstance(row, Skipped) else row
        is_float = file.id == floats[file.format]
        judged.append(
            Judged(
                file, ran[file.id], value, ci95, file.path.stat().st_size, gzip_bytes(file.path),
                1.0 if is_float and measured else measured.ratio if measured else None,
                (1.0, 1.0) if is_float and measured else measured.ratio_ci95 if measured else None,
                seconds,
            )
        )  # fmt: skip
    return judged, failed


def peers_outside(judged: Sequence[Judged], test: HeldOut) -> dict[tuple[str, str], Outside]:
    """By (peer's file, cost) what is outside our front; on each engine by itself, since a file runs on one engine."""
    found = {}
    ours = [one for one in judged if one.file.maker == "ours"]
    for peer in judged:
        same = [one for one in ours if one.file.format == peer.file.format]
        if peer.file.maker == "ours" or not same:
            continue
        drops = [
            accuracy_gate.drop(test.metric, peer.outputs, one.outputs, test.labels, 0.0, test.groups) for one in same
        ]
        for cost in COSTS:
            compared = [
                Comparison(one.file.id, 100 * drop.value, (100 * drop.ci95[0], 100 * drop.ci95[1]), *ratio)
                for one, drop in zip(same, drops, strict=True)
                if (ratio := _cost(cost, one, peer)) is not None
            ]
            if compared and (lack := outside(compared)) is not None:
                found[peer.file.id, cost] = lack
    return found


def _cost(cost: str, one: Judged, peer: Judged) -> tuple[float, Interval] | None:
    if cost == "time":
        if not one.launches or not peer.launches:
            return None
        ratio = speed_gate.ratio(one.launches, peer.launches)
        return ratio.value, ratio.ci95
    sizes = (one.size_bytes, peer.size_bytes) if cost == "bytes" else (one.gzip_bytes, peer.gzip_bytes)
    exact = sizes[0] / sizes[1]
    return exact, (exact, exact)


def _outputs(file: File, inputs: npt.NDArray[Any], kept: Path) -> npt.NDArray[Any]:
    path = kept / f"{sha256_of(file.path)}-{len(inputs)}.npy"
    if path.is_file():
        found: npt.NDArray[Any] = np.load(path)
        return found
    parts = []
    with RuntimeProcess() as process:
        loaded = process.load(file.path, file.format)
        for start in range(0, len(inputs), BATCH):
            answer = process.predict({loaded.inputs[0].name: inputs[start : start + BATCH]})
            parts.append(answer[loaded.outputs[0].name])
    kept.mkdir(parents=True, exist_ok=True)
    outputs = np.concatenate(parts)
    np.save(path, outputs)
    return outputs


_said = itertools.count()


def _say(what: str, fraction: float) -> None:
    del fraction
    if not what.startswith("waiting") or next(_said) % 50 == 0:
        print(what, file=sys.stderr, flush=True)
