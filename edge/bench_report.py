"""bench.json as types (schema edgetool.bench/1). None means "not measured" and prints as that."""

from dataclasses import dataclass, field
from typing import Literal

from edge.energy import Energy
from edge.percentiles import Latency
from edge.probe import Clocks
from edge.report import Environment, Interval, Measurement, Placement, RaceConditions, Skipped
from edge.tensors import TensorSpec

SCHEMA = "edgetool.bench/1"

BenchVerdict = Literal["ok", "fallback", "wrong result"]

# A first call that takes longer than this many usual ones is worth a word: serve one before the first user does
SLOW_FIRST = 10.0
SLOW_FIRST_MS = 5.0  # and is noticed at all


@dataclass(frozen=True)
class BenchModel:
    """One model file. `params`, `macs` and `precision` are None where the format does not tell."""

    name: str
    file: str
    format: str
    sha256: str
    size_bytes: int
    gzip_bytes: int
    params: int | None
    macs: int | None
    precision: str | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Start:
    """How a process comes to its first answers.

    `import_ms` is from the start of the process until the runtime is imported. `cold_load_ms` is a load in a fresh
    process with every compile cache empty, `cached_load_ms` the next one with what the first left behind; both
    without the import. The model's file is in memory. `warmup_calls` is how many calls it took until the median was
    stationary, None where it never was.
    """

    import_ms: float
    cold_load_ms: float
    cold_first_ms: float
    cached_load_ms: float | None
    cached_first_ms: float | None
    first_over_p50: float | None = None
    warmup_calls: int | None = None

    @property
    def slow_first(self) -> bool:
        """Whether the first call is slow enough to be named."""
        ratio = self.first_over_p50
        return ratio is not None and ratio > SLOW_FIRST and self.cold_first_ms > SLOW_FIRST_MS


@dataclass(frozen=True)
class Memory:
    """Of a process that does nothing else. `over_import_bytes` is the peak less what the runtime's import took."""

    peak_rss_bytes: int | None
    over_import_bytes: int | None
    arena_bytes: int | None = None


@dataclass(frozen=True)
class Difference:
    """Outputs against `reference` on the same `n` inputs, the worst over all outputs.

    `output_range` is the span of the reference's outputs, `relative` is `max_abs` over it: a difference means nothing
    without it. `is_reference` marks the row that the others are held against. `max_lsb` counts steps of a quantized
    output. `within` says whether the delegate's tolerance holds.
    """

    reference: str
    inputs: str
    n: int
    max_abs: float
    output_range: float
    relative: float
    max_lsb: float | None
    argmax_agreement: float | None
    allowed: str
    within: bool
    is_reference: bool = False


@dataclass(frozen=True)
class Throughput:
    """Inferences a second of `streams` engines that run at the same time, `batch` examples a call."""

    streams: int
    batch: int
    inferences_per_s: float
    ci95: Interval
    seconds: float


@dataclass(frozen=True)
class OpTime:
    """One operation, or all of one type: microseconds in one inference and their share."""

    op: str
    name: str
    us: float
    share: float


@dataclass(frozen=True)
class Profile:
    """Where the time goes, and how that was found out."""

    method: str
    total_us: float
    ops: tuple[OpTime, ...]


@dataclass(frozen=True)
class Moment:
    """One second of a sustained run."""

    at_s: float
    p50_ms: float
    inferences_per_s: float
    mhz: float | None
    temperature_c: float | None


@dataclass(frozen=True)
class Sustained:
    """A run without a pause. `last_over_first` is the median of the last 30 s over that of the first 30 s."""

    seconds: float
    trace: tuple[Moment, ...]
    last_over_first: float
    throttled: bool | None
    verdict: str


@dataclass(frozen=True)
class SingleStream:
    """MLPerf Inference's single-stream scenario: one query after the other; the figure is p90.

    `valid` says whether both minima were met: 1,024 queries and 60 s.
    """

    queries: int
    seconds: float
    p90_ms: float
    ci95: Interval
    valid: bool


@dataclass(frozen=True)
class NotMeasured:
    """A figure that is missing in a row, and why."""

    what: str
    reason: str


@dataclass(frozen=True)
class BenchRow:
    """One model on one delegate with one thread count. `verdict` is about the row alone, `measurement.verdict` about
    the pair with `baseline`.
    """

    model: str
    delegate: str
    settings: dict[str, str]
    measurement: Measurement
    latency: Latency
    start: Start
    memory: Memory
    difference: Difference | None
    verdict: BenchVerdict
    reasons: tuple[str, ...] = ()
    baseline: str | None = None
    end_to_end: Latency | None = None
    end_to_end_from: str | None = None
    throughput: tuple[Throughput, ...] = ()
    profile: Profile | None = None
    single_stream: SingleStream | None = None
    sustained: Sustained | None = None
    energy: Energy | None = None
    not_measured: tuple[NotMeasured, ...] = ()

    @property
    def placement(self) -> Placement:
        """Where the operations ran."""
        return self.measurement.placement


@dataclass(frozen=True)
class FailedRow:
    """A delegate that was asked for and gave no figures: what it was doing, and why."""

    model: str
    delegate: str
    threads: int
    asked: bool
    reason: str
    hint: str | None = None


@dataclass(frozen=True)
class BenchReport:
    """Everything one run of `edgetool bench` found out. `samples` names the file with every call, None where none is
    written. `failures` are sentences; empty is exit code 0.
    """

    edgetool: str
    environment: Environment
    models: tuple[BenchModel, ...]
    rows: tuple[BenchRow, ...]
    failed: tuple[FailedRow, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    race: RaceConditions | None = None
    clocks: Clocks | None = None
    samples: str | None = None
    failures: tuple[str, ...] = ()
    schema: str = field(default=SCHEMA)
