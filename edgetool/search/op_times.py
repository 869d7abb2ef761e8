"""What a latency model is fitted on: every operation of some LiteRT models timed alone, and the models whole.

Times are the least of the calls of several rounds, so that other work on the machine counts for as little as it can.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from convert.census import Operation, census
from convert.flatbuffer import read_flatbuffer
from edge.artifact import sha256_of
from edge.errors import BadModel, EdgetoolError
from edge.runtime_process import RuntimeProcess
from edgetool.bench.litert_ops import write_alone
from edgetool.progress import At
from edgetool.verify.race import LOCK, machine_to_itself

SECONDS = 0.015  # of each stretch; an operation is timed in one stretch a round
MIN_CALLS, LEAD_IN = 10, 3
WAIT_S = 1800.0


@dataclass(frozen=True)
class Work:
    """What is known of an operation without running it.

    `kind` is the builtin's name and `dtype` that of its first output. Counts are of elements, batch 1; `kernel` is the
    area of a filter, `channels_in` and `channels_out` the last axes of data and output. Bytes are those of all tensors.
    """

    kind: str
    dtype: str
    macs: int
    elements_in: int
    elements_out: int
    weight_bytes: int
    channels_in: int
    channels_out: int
    kernel: int
    stride: int


@dataclass(frozen=True)
class TimedOp:
    """An operation and its microseconds alone; None where it cannot be run alone."""

    work: Work
    us: float | None


@dataclass(frozen=True)
class TimedModel:
    """A model, its operations in order, and its microseconds as a whole, one thread.

    Models of one `family` (one network at several precisions) are left out together.
    """

    name: str
    family: str
    sha256: str
    us: float
    operations: tuple[TimedOp, ...]


def works(path: Path) -> tuple[Work, ...]:
    """The operations of a .tflite in their order.

    Raises:
        BadModel: the file cannot be read, or has loops or branches, which run an unknown number of times.

    """
    if len(read_flatbuffer(path).subgraphs) > 1:
        raise BadModel(
            f"the time of {path.name} cannot be estimated: it has loops or branches",
            "quantize.lsq writes recurrent layers without them",
        )
    return tuple(map(_work, census(path, "tflite").operations))


def _work(operation: Operation) -> Work:
    data = operation.data
    shapes = [one.shape or () for one in operation.outputs]
    out = shapes[0] if shapes else ()
    given = (data.shape or ()) if data is not None else ()
    weights = [one for one in operation.inputs if one.constant]
    filters = [one.shape for one in weights if one.shape is not None and len(one.shape) == 4]
    pooled = int(operation.attributes.get("filterHeight", 1)) * int(operation.attributes.get("filterWidth", 1))
    return Work(
        kind=operation.kind,
        dtype=operation.outputs[0].dtype if operation.outputs else "",
        macs=operation.macs or 0,
        elements_in=sum(prod(n or 1 for n in one.shape or ()) for one in operation.inputs if not one.constant),
        elements_out=sum(prod(n or 1 for n in shape) for shape in shapes),
        weight_bytes=sum(one.size_bytes for one in weights),
        channels_in=int(given[-1] or 1) if given else 1,
        channels_out=int(out[-1] or 1) if out else 1,
        kernel=int((filters[0][1] or 1) * (filters[0][2] or 1)) if filters else max(1, pooled),
        stride=int(operation.attributes.get("strideH", 1)),
    )


def time_models(
    models: Sequence[tuple[str, str, Path]], rounds: int, progress: At, lock: Path = LOCK
) -> tuple[TimedModel, ...]:
    """Each (name, family, .tflite) timed on this machine, one thread, while no race runs.

    Raises:
        BadModel: a file cannot be read, or has loops or branches.
        EnvironmentFailed: the machine was never free.

    """
    found = []
    with RuntimeProcess() as process:
        for number, (name, family, path) in enumerate(models):
            does = works(path)
            least: list[float | None] = [None] * (1 + len(does))
            with tempfile.TemporaryDirectory(prefix="edgetool-") as folder:
                files = [path, *(Path(folder) / f"op{index}.tflite" for index in range(len(does)))]
                for index, scratch in enumerate(files[1:]):
                    write_alone(path, index, scratch)
                for turn in range(rounds):
                    at = (number + turn / rounds) / len(models)
                    with machine_to_itself(lock, WAIT_S, lambda what, _, at=at: progress(at, what)):  # type: ignore[misc]  # a default is no parameter of the call
                        progress(at, f"{name}: round {turn + 1} of {rounds}")
                        least = [_least(us, _timed(process, one)) for us, one in zip(least, files, strict=True)]
            whole, *alone = least
            if whole is None:
                raise BadModel(f"LiteRT does not run {path.name}", "leave it out")
            operations = tuple(TimedOp(work, us) for work, us in zip(does, alone, strict=True))
            found.append(TimedModel(name, family, sha256_of(path), whole, operations))
    return tuple(found)


def _timed(process: RuntimeProcess, path: Path) -> float | None:
    """The least microseconds of a file; None where it does not run."""
    try:
        process.load(path, "tflite", threads=1, limit_s=30.0)
        seconds = process.time(seconds=SECONDS, min_calls=MIN_CALLS, lead_in=LEAD_IN, limit_s=120.0)
    except EdgetoolError:
        return None
    return float(np.min(seconds)) * 1e6


def _least(one: float | None, other: float | None) -> float | None:
    known = [us for us in (one, other) if us is not None]
    return min(known, default=None)
