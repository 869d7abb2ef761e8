"""The latency race: every model in a process of its own, in interleaved blocks, one process active at a time.

Two runtimes timed one after the other see two machines: frequency, caches and neighbours drift within
seconds. Blocks of all entries in a fresh random order per round see the same one, so the ratio of medians
is of the models.

A process is faster or slower than another one with the same model for as long as it lives. Keyword spotting in
six interleaved processes differed by 0.8 % (standard deviation; 0.2 % in a second set of six), while each agreed
with itself within 0.07 % from round to round. So every entry is launched several times, and launches are the unit
that the interval resamples (`edgetool.verify.speed_gate`): an interval over the blocks of one launch would be a
narrow one around the wrong value.
"""

import contextlib
import fcntl
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge import probe
from edge.errors import BadRecipe, EdgetoolError, EnvironmentFailed, UnknownName
from edge.report import Measurement, RaceConditions, Skipped
from edge.runtime_process import LOAD_LIMIT_S, Loaded, RuntimeProcess, WorkerStatus
from edge.warm_up import WarmUp, warm_up
from edgetool.verify import speed_gate

Progress = Callable[[str, float], None]
Seconds = npt.NDArray[np.float64]

LOCK = Path(tempfile.gettempdir()) / "edgetool-race.lock"
# the largest of n calls is above p95 with 95 % from n = 59 on: 1 - 0.95^59 > 0.95
FEWEST_CALLS = 59


@dataclass(frozen=True)
class Entry:
    """One model to time. `baseline` is the id of the entry it is compared with, None for the baseline itself.

    `settings` are what the delegate is told. `slowdown` plants a known effect for calibration: that fraction is added
    to every run.
    """

    id: str
    path: Path
    format: str
    engine: str
    threads: int = 1
    delegate: str = "cpu"
    baseline: str | None = None
    slowdown: float = 0.0
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """How long to race: `launches` times a fresh process per entry, with `blocks` blocks each.

    A block is `block_seconds` of runs and at least `min_calls` of them, after `lead_in` runs that are not
    counted because the process before left them cold caches. Before its blocks a process runs until it is
    stationary, at most `max_warmup_seconds`; to load the model it has `max_load_seconds`.
    """

    launches: int = 8
    blocks: int = 5
    block_seconds: float = 0.02
    min_calls: int = 5
    lead_in: int = 2
    max_warmup_seconds: float = 0.5
    max_wait_seconds: float = 900.0
    max_load_seconds: float = LOAD_LIMIT_S
    seed: int = 0

    def __post_init__(self) -> None:
        if self.launches < speed_gate.FEWEST_BLOCKS or self.launches * self.blocks * self.min_calls < FEWEST_CALLS:
            raise BadRecipe(
                f"{self.launches} launches with {self.blocks} blocks of {self.min_calls} calls decide nothing",
                f"a race needs {speed_gate.FEWEST_BLOCKS} launches for a verdict and {FEWEST_CALLS} calls to bound p95",
            )
        if self.block_seconds <= 0 or self.lead_in < 0:
            raise BadRecipe(f"no block lasts {self.block_seconds} s after {self.lead_in} runs")


@dataclass(frozen=True, eq=False)
class Launches:
    """What a measurement sums up: the seconds of every call, [calls] a launch, in the order of the launches.

    `warmups` and `imported_rss_bytes` (the peak when the runtime was imported, before any model) are by launch too.
    """

    seconds: tuple[Seconds, ...]
    warmups: tuple[WarmUp, ...]
    imported_rss_bytes: tuple[int | None, ...]


@dataclass(frozen=True)
class RaceResult:
    """A measurement of every entry by id, or why there is none; and `launches` of those that have one."""

    rows: dict[str, Measurement | Skipped]
    conditions: RaceConditions
    launches: dict[str, Launches] = field(default_factory=dict)


@dataclass
class _Record:
    """What all launches of one entry have measured so far; `calls` per block are fixed by the first."""

    calls: int = 0
    launches: list[Seconds] = field(default_factory=list)
    loaded: list[Loaded] = field(default_factory=list)
    status: list[WorkerStatus] = field(default_factory=list)
    warmups: list[WarmUp] = field(default_factory=list)
    imported: list[int | None] = field(default_factory=list)


@dataclass
class _Runner:
    """One launch of one entry."""

    entry: Entry
    process: RuntimeProcess
    record: _Record
    limit_s: float
    blocks: list[Seconds] = field(default_factory=list)


def race(
    entries: Sequence[Entry],
    settings: Settings = Settings(),  # frozen
    *,
    progress: Progress = lambda what, fraction: None,
    lock: Path = LOCK,
) -> RaceResult:
    """Time all entries against their baselines. `progress` is told what goes on and the fraction done.

    An entry that cannot be loaded, crashes or hangs becomes a `Skipped`; the others go on.

    Raises:
        BadRecipe: two entries with one id, or a baseline on another engine, delegate or thread count.
        UnknownName: a baseline that is no entry.
        EnvironmentFailed: another race held the machine for longer than `max_wait_seconds`.

    """
    _check(entries)
    skipped: dict[str, Skipped] = {}
    records = {entry.id: _Record() for entry in entries}
    rng = np.random.default_rng(settings.seed)
    with machine_to_itself(lock, settings.max_wait_seconds, progress):
        load_before, clocks, started = os.getloadavg()[0], probe.clocks(), time.monotonic()
        busy, own = probe.busy_seconds(), time.process_time()
        for i in range(settings.launches):
            progress(f"racing, launch {i + 1} of {settings.launches}", i / settings.launches)
            _launch(entries, records, settings, skipped, rng)
        elapsed = time.monotonic() - started
        workers = sum(status.cpu_s for record in records.values() for status in record.status)
        conditions = RaceConditions(
            seconds=elapsed,
            load_before=load_before,
            load_after=os.getloadavg()[0],
            others_cores=_others(busy, probe.busy_seconds(), time.process_time() - own + workers, elapsed),
            throttled=probe.throttled(clocks, probe.clocks()),
        )
    progress("comparing", 1.0)
    rows: dict[str, Measurement | Skipped] = {}
    for entry in entries:
        if entry.id in skipped:
            rows[entry.id] = skipped[entry.id]
        else:
            baseline = None if entry.baseline is None or entry.baseline in skipped else records[entry.baseline]
            rows[entry.id] = _measurement(entry, records[entry.id], baseline, settings.seed, conditions.throttled)
    launches = {
        entry.id: Launches(tuple(record.launches), tuple(record.warmups), tuple(record.imported))
        for entry in entries
        if entry.id not in skipped
        for record in (records[entry.id],)
    }
    return RaceResult(rows, conditions, launches)


def _check(entries: Sequence[Entry]) -> None:
    by_id = {entry.id: entry for entry in entries}
    if len(by_id) != len(entries):
        raise BadRecipe("two entries of a race have the same id")
    for entry in entries:
        if entry.baseline is None:
            continue
        if entry.baseline not in by_id:
            raise UnknownName("baseline", entry.baseline, by_id)
        other = by_id[entry.baseline]
        if _place(entry) != _place(other):
            raise BadRecipe(
                f"{entry.id} ({entry.engine}, {entry.delegate}, {entry.threads} threads) cannot be compared with "
                f"{other.id} ({other.engine}, {other.delegate}, {other.threads} threads)",
                "a ratio is between models on the same engine, delegate and threads",
            )


def _place(entry: Entry) -> tuple[object, ...]:
    return entry.engine, entry.delegate, entry.threads, dict(entry.settings)


def _launch(
    entries: Sequence[Entry],
    records: dict[str, _Record],
    settings: Settings,
    skipped: dict[str, Skipped],
    rng: np.random.Generator,
) -> None:
    """A fresh process for every entry that still runs, warmed up one after the other, then interleaved."""
    left = [entry for entry in entries if entry.id not in skipped]
    with contextlib.ExitStack() as stack:
        processes = {entry.id: stack.enter_context(RuntimeProcess()) for entry in left}
        # what Python and the runtimes import is not timed, so here all cores may work
        with ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0)))) as pool:
            for _ in pool.map(lambda entry: _import(entry, processes[entry.id], skipped), left):
                pass
        runners = []
        for entry in left:
            with _or_skipped(entry, skipped):
                if entry.id not in skipped:
                    runners.append(_warm_up(entry, processes[entry.id], records[entry.id], settings))
        for _ in range(settings.blocks):
            for k in rng.permutation(len(runners)):
                with _or_skipped(runners[k].entry, skipped):
                    if runners[k].entry.id not in skipped:
                        _block(runners[k], settings)
        for runner in runners:
            with _or_skipped(runner.entry, skipped):
                if runner.entry.id not in skipped:
                    runner.record.status.append(runner.process.status())
                    runner.record.launches.append(np.concatenate(runner.blocks))


def _import(entry: Entry, process: RuntimeProcess, skipped: dict[str, Skipped]) -> None:
    with _or_skipped(entry, skipped):
        process.import_runtime(entry.format)


def _warm_up(entry: Entry, process: RuntimeProcess, record: _Record, settings: Settings) -> _Runner:
    """Load the model and run it until its median is stationary, or for `max_warmup_seconds`."""
    imported = process.status().peak_rss_bytes
    loaded = process.load(
        entry.path,
        entry.format,
        threads=entry.threads,
        delegate=entry.delegate,
        settings=entry.settings,
        limit_s=settings.max_load_seconds,
    )
    if loaded.engine != entry.engine:
        raise BadRecipe(f"{entry.path.name} runs on {loaded.engine}, not on {entry.engine}")
    record.loaded.append(loaded)
    warmed = warm_up(
        process,
        stretch_seconds=settings.block_seconds,
        min_calls=settings.min_calls,
        max_seconds=settings.max_warmup_seconds,
        slowdown=entry.slowdown,
    )
    record.warmups.append(warmed)
    record.imported.append(imported)
    # every launch has the same number of calls, so that each weighs the same in the percentiles
    record.calls = record.calls or max(settings.min_calls, math.ceil(settings.block_seconds / warmed.median_s))
    # a block that takes 20 times as long as in the warm-up, and half a minute more, hangs
    return _Runner(entry, process, record, 30 + 20 * record.calls * warmed.median_s)


def _block(runner: _Runner, settings: Settings) -> None:
    runner.blocks.append(
        runner.process.time(
            calls=runner.record.calls,
            lead_in=settings.lead_in,
            slowdown=runner.entry.slowdown,
            limit_s=runner.limit_s,
        )
    )


def _measurement(
    entry: Entry, record: _Record, baseline: _Record | None, seed: int, throttled: bool | None
) -> Measurement:
    latencies = np.concatenate(record.launches)
    p50, p90, p95, p99 = (float(p) * 1e3 for p in np.percentile(latencies, (50, 90, 95, 99)))
    compared = speed_gate.ratio(record.launches, baseline.launches, seed) if baseline is not None else None
    peaks = [status.peak_rss_bytes for status in record.status if status.peak_rss_bytes is not None]
    return Measurement(
        engine=entry.engine,
        delegate=entry.delegate,
        threads=entry.threads,
        status="measured" if record.loaded[0].placement.emulated_by is None else "emulated",
        load_ms=float(np.median([loaded.load_ms for loaded in record.loaded])),
        first_ms=float(np.median([status.first_ms for status in record.status if status.first_ms is not None])),
        n=len(latencies),
        p50_ms=p50,
        p90_ms=p90,
        p95_ms=p95,
        p95_upper_ms=speed_gate.p95_upper(latencies) * 1e3,
        p99_ms=p99,
        ratio=compared.value if compared else None,
        ratio_ci95=compared.ci95 if compared else None,
        verdict=compared.verdict if compared else None,
        placement=record.loaded[0].placement,
        peak_rss_bytes=max(peaks, default=None),
        throttled=throttled,
    )


@contextlib.contextmanager
def _or_skipped(entry: Entry, skipped: dict[str, Skipped]) -> Iterator[None]:
    """One entry's failure is its own: it is written down, and the race goes on."""
    try:
        yield
    except EdgetoolError as error:
        what = f"latency of {entry.id} on {entry.engine}, {entry.delegate}, {entry.threads} threads"
        skipped[entry.id] = Skipped(what, error.message)


@contextlib.contextmanager
def machine_to_itself(lock: Path, max_wait_seconds: float, progress: Progress) -> Iterator[None]:
    """Hold the lock that all races of this machine share; the system frees it when this process ends."""
    end = time.monotonic() + max_wait_seconds
    descriptor = _open_lock(lock)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise EnvironmentFailed(
                        f"another race has held {lock} for more than {max_wait_seconds:g} s",
                        "two races at once would slow each other down: wait for it, or stop it",
                    ) from None
            progress("waiting for another race to end", 0.0)
            time.sleep(0.2)
        yield
    finally:
        os.close(descriptor)


def _open_lock(lock: Path) -> int:
    # another user's file in a sticky folder may not be opened to create, but flock needs no more than to read
    try:
        return os.open(lock, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except PermissionError:
        return os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise EnvironmentFailed(f"cannot open the lock {lock}: {error.strerror}") from None


def _others(before: float | None, after: float | None, used: float, elapsed: float) -> float | None:
    if before is None or after is None or elapsed <= 0:
        return None
    return max(0.0, (after - before - used) / elapsed)
