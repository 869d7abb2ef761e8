"""What a row is asked beyond its latency: throughput, energy, whole inferences, a profile, queries, endurance."""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge import probe
from edge.audio import AudioInput
from edge.bench_report import (
    Moment,
    NotMeasured,
    OpTime,
    Profile,
    SingleStream,
    Sustained,
    Throughput,
)
from edge.energy import Energy
from edge.errors import EdgetoolError, EnvironmentFailed
from edge.image import ImageInput
from edge.percentiles import Latency, latency
from edge.preprocess import Preprocess
from edge.profile import RanOp
from edge.runtime_process import RuntimeProcess
from edge.tensors import Array
from edge.warm_up import warm_up
from edgetool.bench.cases import Case
from edgetool.bench.start import load

# MLPerf Inference rules, section "Scenarios": single stream needs 1,024 queries and, in Mobile, 60 s
MIN_QUERIES, MIN_SECONDS = 1024, 60.0
THROUGHPUT_REPEATS, THROUGHPUT_SECONDS = 8, 0.15
END_TO_END_SECONDS = 0.5
PROFILE_RUNS = 30
ENERGY_SECONDS, IDLE_SECONDS = 5.0, 2.0
# the first and the last stretch of a sustained run that are compared, as AI-Benchmark's throttling test does
ENDS_S = 30.0
# a clock that is this much slower at the end is throttled, whoever says so
SLOWED = 1.10
CAMERA = (480, 640, 3)

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What to measure beyond latency. `single_stream_seconds` and `sustained_seconds` are 0 where it is not asked."""

    streams: Sequence[int] = ()
    profile: bool = False
    single_stream_seconds: float = 0.0
    single_stream_queries: int = MIN_QUERIES
    sustained_seconds: float = 0.0
    time_limit_s: float = 120.0


@dataclass(frozen=True)
class Extras:
    """The fields of a `BenchRow` of the same names."""

    end_to_end: Latency | None = None
    end_to_end_from: str | None = None
    throughput: tuple[Throughput, ...] = ()
    profile: Profile | None = None
    single_stream: SingleStream | None = None
    sustained: Sustained | None = None
    energy: Energy | None = None
    not_measured: tuple[NotMeasured, ...] = ()


def measure(case: Case, wanted: Wanted, *, emulated: bool, progress: Progress) -> Extras:
    """Everything of `wanted`, one after the other, in one process that does nothing else.

    What cannot be measured is in `not_measured` with its reason; so is what means nothing for an emulation.

    Raises:
        EnvironmentFailed: the process crashed or gave no answer.

    """
    missing: list[NotMeasured] = []
    found: dict[str, Any] = {}

    def part(what: str, field: str, measured: Callable[[], Any]) -> None:
        progress(f"{case.id}: {what}")
        try:
            found[field] = measured()
        except EnvironmentFailed:
            raise  # the delegate crashed or hung: that is no missing figure but a failed row
        except EdgetoolError as error:
            missing.append(NotMeasured(what, error.message))

    with RuntimeProcess() as process:
        load(process, case, wanted.time_limit_s)
        warm_up(process, stretch_seconds=0.02, min_calls=3, max_seconds=0.5)
        if case.subject.preprocess:
            part("end to end", "end_to_end", lambda: _end_to_end(process, case))
            found["end_to_end_from"] = ", ".join(_raw_words(step) for step in case.subject.preprocess.values())
        if emulated:
            missing.append(NotMeasured("throughput and energy", "an emulation's say nothing about the device"))
        else:
            part("throughput", "throughput", lambda: tuple(_throughput(process, n) for n in wanted.streams))
            part("energy", "energy", lambda: process.energy(seconds=ENERGY_SECONDS, idle_seconds=IDLE_SECONDS))
            if found.get("energy") is None:
                missing.append(NotMeasured("energy", "no meter: neither RAPL, INA219/226/260/3221 nor tegrastats"))
        missing.append(NotMeasured("throughput by batch", "engines run a dynamic batch one example at a time"))
        if wanted.profile:
            part("profile", "profile", lambda: _profile(process, case))
        if wanted.single_stream_seconds:
            part("single stream", "single_stream", lambda: _single_stream(process, wanted, progress))
        if wanted.sustained_seconds:
            part("sustained run", "sustained", lambda: _sustained(process, wanted.sustained_seconds, progress))
    return Extras(**found, not_measured=tuple(missing))


def _end_to_end(process: RuntimeProcess, case: Case) -> Latency:
    steps = {name: dataclasses.asdict(step) for name, step in case.subject.preprocess.items()}  # type: ignore[call-overload]  # every Preprocess is a dataclass, which a Protocol cannot say
    raw = {name: _raw(step, case.subject.examples[name][0]) for name, step in case.subject.preprocess.items()}
    return latency([process.end_to_end(steps, raw, seconds=END_TO_END_SECONDS, min_calls=20)])


def _raw(step: Preprocess, example: Array) -> npt.NDArray[Any]:
    """A raw example of the kind that the step takes: a camera's picture, a microphone's samples, else the input's."""
    rng = np.random.default_rng(0)
    if isinstance(step, ImageInput):
        return rng.integers(0, 256, CAMERA, np.uint8, endpoint=False)
    if isinstance(step, AudioInput):
        return rng.uniform(-1, 1, step.samples).astype(np.float32)
    return np.asarray(example)


def _raw_words(step: Preprocess) -> str:
    if isinstance(step, ImageInput):
        return f"a picture of {CAMERA[1]} x {CAMERA[0]}"
    if isinstance(step, AudioInput):
        return f"{step.samples} samples of sound"
    return "a row of numbers" if step.kind == "table" else "an array"


def _throughput(process: RuntimeProcess, streams: int) -> Throughput:
    process.throughput(streams=streams, seconds=THROUGHPUT_SECONDS)  # opens the engines and warms them up
    rates = np.array(
        [process.throughput(streams=streams, seconds=THROUGHPUT_SECONDS) for _ in range(THROUGHPUT_REPEATS)]
    )
    drawn = np.random.default_rng(0).integers(0, len(rates), (1000, len(rates)))
    low, high = (float(q) for q in np.quantile(np.median(rates[drawn], axis=1), (0.025, 0.975)))
    return Throughput(streams, 1, float(np.median(rates)), (low, high), THROUGHPUT_REPEATS * THROUGHPUT_SECONDS)


def _profile(process: RuntimeProcess, case: Case) -> Profile:
    ran = process.profile(runs=PROFILE_RUNS)
    if ran is not None:
        return _of_runtime(ran)
    from edgetool.bench.litert_ops import time_alone

    with tempfile.TemporaryDirectory() as folder:
        return time_alone(case.subject.path, case.threads, Path(folder))


def _of_runtime(ran: Sequence[RanOp]) -> Profile:
    total = sum(op.us for op in ran)
    ops = tuple(OpTime(op.op, f"{op.name} ({op.provider})", op.us, op.us / (total or 1.0)) for op in ran)
    return Profile(f"ONNX Runtime's profiler, median of {PROFILE_RUNS} runs", total, ops)


def _single_stream(process: RuntimeProcess, wanted: Wanted, progress: Progress) -> SingleStream:
    """Queries one after the other until both minima are met."""
    chunks: list[npt.NDArray[np.float64]] = []
    begun = time.monotonic()
    queries = 0
    while (
        elapsed := time.monotonic() - begun
    ) < wanted.single_stream_seconds or queries < wanted.single_stream_queries:
        left = wanted.single_stream_seconds - elapsed
        chunks.append(process.time(seconds=max(0.01, min(1.0, left)), min_calls=1))
        queries += len(chunks[-1])
        progress(f"single stream, {elapsed:.0f} s, {queries} queries")
    p90 = latency([np.concatenate(chunks)]).at(90)
    valid = queries >= MIN_QUERIES and elapsed >= MIN_SECONDS
    return SingleStream(queries, elapsed, p90.ms, p90.ci95, valid)


def _sustained(process: RuntimeProcess, seconds: float, progress: Progress) -> Sustained:
    """One second of work after the other, with the clocks between; no pause."""
    trace: list[Moment] = []
    before = process.clocks()
    begun = time.monotonic()
    while (at := time.monotonic() - begun) < seconds:
        calls = process.time(seconds=min(1.0, max(0.05, seconds - at)))
        clocks = process.clocks()
        rate = len(calls) / float(calls.sum())
        trace.append(Moment(at, float(np.median(calls)) * 1e3, rate, clocks.current_mhz, clocks.temperature_c))
        progress(f"sustained run, {at:.0f} of {seconds:.0f} s")
    return sustained(trace, probe.throttled(before, process.clocks()))


def sustained(trace: Sequence[Moment], throttled: bool | None) -> Sustained:
    """The verdict on a trace: the median of its last 30 s over that of its first, or halves where it is shorter."""
    seconds = trace[-1].at_s
    ends = min(ENDS_S, seconds / 2)
    first = [one.p50_ms for one in trace if one.at_s <= ends]
    last = [one.p50_ms for one in trace if one.at_s >= seconds - ends]
    ratio = float(np.median(last) / np.median(first))
    if throttled:
        verdict = f"throttled: the machine says so; the end takes {ratio:.2f} x the time of the beginning"
    elif ratio > SLOWED:
        verdict = f"slows down: the end takes {ratio:.2f} x the time of the beginning"
    else:
        verdict = f"steady: the end takes {ratio:.2f} x the time of the beginning"
    return Sustained(seconds, tuple(trace), ratio, throttled, verdict)
