"""report.json as types (schema edgetool.report/1). None means "not measured" and prints as that."""

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA = "edgetool.report/1"

Split = Literal["train", "val", "test"]
DropVerdict = Literal["pass", "fail", "unresolved"]
SpeedVerdict = Literal["faster", "not_slower", "slower", "inconclusive"]
Status = Literal["measured", "emulated", "estimated"]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Environment:
    """The machine a figure was measured on."""

    cpu: str
    cores: int
    load: float
    governor: str | None
    os: str
    python: str
    versions: dict[str, str]


@dataclass(frozen=True)
class TaskInfo:
    """The task a report is about; `sha256` covers every split and the preprocessing."""

    name: str
    metric: str
    direction: Literal["higher", "lower"]
    n_train: int
    n_val: int
    n_test: int
    sha256: str


@dataclass(frozen=True)
class Limits:
    """What a candidate must meet; None is no limit. `max_drop` is in the unit of the metric's drop
    (a fraction: 0.01 is one point, or one percent where the drop is relative).
    """

    max_drop: float | None = None
    max_size_bytes: int | None = None
    max_p95_ms: float | None = None
    max_rss_bytes: int | None = None


@dataclass(frozen=True)
class Accuracy:
    """The metric's value on one split with its two-sided 95 % interval."""

    metric: str
    value: float
    n: int
    split: Split
    ci95: Interval


@dataclass(frozen=True)
class Drop:
    """How much worse than the baseline, on the same examples. Positive is worse. `unit` is "points" (percentage
    points), "relative" (a fraction of the baseline's value) or "dB".

    `upper95` is the one-sided 95 % upper bound that the gate compares with the limit;
    `n_needed` is the number of examples at which these rates would pass, where `verdict` is unresolved.
    Where `confirmed` candidates are confirmed on the same examples, the gate compares `upper_of_all` instead: the
    bounds of all of them hold together with 95 %. None where there is one candidate.
    """

    value: float
    unit: str
    upper95: float
    ci95: Interval
    method: str
    n: int
    verdict: DropVerdict
    n_needed: int | None = None
    confirmed: int = 1
    upper_of_all: float | None = None


@dataclass(frozen=True)
class FallbackOp:
    """An operation that did not run where it was asked to, and why."""

    op: str
    reason: str


@dataclass(frozen=True)
class Placement:
    """Where the operations of a model really ran, from the runtime's own record.

    `partitions` is the number of pieces that the delegate took, `copies` how many tensors are copied between
    memories in one run; None where the runtime does not tell. `emulated_by` names the software that stands for the
    hardware (a Vulkan driver on the CPU, a simulator), None where the real unit ran. `device` is the device's own name,
    with its power mode where it has any; `compiled` what came of keeping the compiled model on disk ("built and kept",
    "from the cache", "rebuilt: …", "not kept: …"), None where that was not asked for.
    """

    requested: str
    actual: str
    ops_offloaded: int
    ops_total: int
    fallback_ops: tuple[FallbackOp, ...] = ()
    partitions: int | None = None
    copies: int | None = None
    emulated_by: str | None = None
    device: str | None = None
    compiled: str | None = None


@dataclass(frozen=True)
class Measurement:
    """Latency of one candidate on one engine, delegate and thread count.

    `ratio` is candidate time over baseline time on the same engine, delegate and threads
    (below 1 is faster), with a bootstrap interval over interleaved blocks.
    """

    engine: str
    delegate: str
    threads: int
    status: Status
    load_ms: float
    first_ms: float
    n: int
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p95_upper_ms: float
    p99_ms: float
    ratio: float | None
    ratio_ci95: Interval | None
    verdict: SpeedVerdict | None
    placement: Placement
    peak_rss_bytes: int | None = None
    arena_bytes: int | None = None
    joules_per_inference: float | None = None
    energy_method: str | None = None
    throttled: bool | None = None


@dataclass(frozen=True)
class RaceConditions:
    """The machine during a latency race. `others_cores` is how many cores all other processes kept busy on
    average; `throttled` is None where the machine does not tell.
    """

    seconds: float
    load_before: float
    load_after: float
    others_cores: float | None
    throttled: bool | None


@dataclass(frozen=True)
class Parity:
    """Outputs on golden vectors against a reference model. `first_divergence` names the first
    output that is out of tolerance, or None; `sqnr_db` is 10 log10(signal power / error power).
    """

    reference: str
    max_abs: float
    max_lsb: float | None
    sqnr_db: float | None
    argmax_agreement: float | None
    first_divergence: str | None
    n: int


@dataclass(frozen=True)
class Skipped:
    """Something that could not be done, and why."""

    what: str
    reason: str


@dataclass(frozen=True)
class Verdict:
    """Whether a candidate may ship; `failed_limits` are sentences, empty where it may."""

    ship: bool
    failed_limits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """One file that came out of a sequence of passes, and all that is known of it.

    `accuracy` and `drop` are on `test` where the candidate was confirmed there, else on `val`
    (`accuracy.split` says which); `val_accuracy` and `val_drop` are what it was chosen by.
    """

    id: str
    steps: tuple[str, ...]
    format: str
    file: str
    sha256: str
    size_bytes: int
    gzip_bytes: int
    stored_bytes: int | None = None
    params: int | None = None
    macs: int | None = None
    accuracy: Accuracy | None = None
    drop: Drop | None = None
    val_accuracy: Accuracy | None = None
    val_drop: Drop | None = None
    measurements: tuple[Measurement, ...] = ()
    parity: Parity | None = None
    skipped: tuple[Skipped, ...] = ()
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Trial:
    """One trial of a search: the passes, the fraction of their epochs that was trained, and what came of it.

    `drop` and `upper95` are on `val`, in the unit of the metric's drop; `latency` says how `p50_ms` (one thread) was
    found; `on_front` whether no other trial beats it. `failure` is why nothing came of it. `point` are the indices of
    its choices, one of every axis.
    """

    number: int
    steps: tuple[str, ...]
    epochs: float
    drop: float | None
    upper95: float | None
    stored_bytes: int | None
    p50_ms: float | None
    latency: str | None
    seconds: float
    on_front: bool
    failure: str | None = None
    point: tuple[int, ...] = ()
    size_bytes: int | None = None


@dataclass(frozen=True)
class SearchAxis:
    """One decision of a search with its choices in words, from mild to strong."""

    name: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Search:
    """All trials of a search, in order, how long this run of it took, and what there was to choose from.

    `latency_error` is that of the latency model where times are estimated: the median over networks that were left out
    of its fit of |estimated / measured - 1|.
    """

    trials: tuple[Trial, ...]
    seconds: float
    axes: tuple[SearchAxis, ...] = ()
    latency_error: float | None = None


@dataclass(frozen=True)
class Report:
    """Everything one run found out. `chosen` is the id of the candidate that ships, or None."""

    edgetool: str
    environment: Environment
    task: TaskInfo
    limits: Limits
    target: str
    seed: int
    baseline: Candidate
    candidates: tuple[Candidate, ...]
    chosen: str | None
    race: RaceConditions | None = None
    skipped: tuple[Skipped, ...] = ()
    search: Search | None = None
    schema: str = field(default=SCHEMA)


def to_json(value: Any) -> str:
    """Dataclasses and plain data, nested in any way, as indented JSON with a trailing newline."""
    return json.dumps(value, indent=2, allow_nan=False, default=dataclasses.asdict) + "\n"


def from_plain(kind: Any, data: Any) -> Any:
    """Rebuild a value of type `kind` (dataclass, tuple, dict, union, plain) from decoded JSON.

    Raises:
        TypeError: a dataclass lacks a field or has one that its type does not know.

    """
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        unknown = sorted(set(data) - set(hints))
        if unknown:
            raise TypeError(f"{kind.__name__} has no field {unknown[0]!r}")
        return kind(**{name: from_plain(hints[name], value) for name, value in data.items()})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if data is None:
            return None
        return from_plain(next(a for a in arguments if a is not type(None)), data)
    if origin is tuple:
        items = arguments[:1] * len(data) if arguments[-1] is Ellipsis else arguments
        return tuple(from_plain(item, value) for item, value in zip(items, data, strict=True))
    if origin is dict:
        return {name: from_plain(arguments[1], value) for name, value in data.items()}
    return data
