"""`python -m edge bench`: the core figures of a model on this device, from the code that `edgetool bench` uses.

Several fresh processes one after the other, each warmed up until it is stationary: a process is faster or slower than
the next one for as long as it lives, so the intervals are over processes.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge import jetson, probe
from edge.bench_report import Memory
from edge.delegates import require_placement
from edge.energy import Energy
from edge.percentiles import Latency, latency
from edge.probe import Clocks
from edge.report import Environment, Placement, to_json
from edge.runtime_process import Loaded, RuntimeProcess
from edge.warm_up import warm_up

SCHEMA = "edgetool.device-bench/1"
LAUNCHES = 4
ENERGY_SECONDS, IDLE_SECONDS = 3.0, 1.0


@dataclass(frozen=True)
class DeviceBench:
    """What `python -m edge bench` prints. `first_ms` and `load_ms` are medians over the processes.

    `power_mode` is a Jetson's; `samples_s` every call by process, where they were asked for.
    """

    model: str
    engine: str
    delegate: str
    threads: int
    n: int
    load_ms: float
    first_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    peak_rss_bytes: int | None
    latency: Latency
    warmup_calls: int | None
    memory: Memory
    placement: Placement
    energy: Energy | None
    throttled: bool | None
    clocks: Clocks
    load_average: float
    environment: Environment
    power_mode: str | None = None
    samples_s: tuple[tuple[float, ...], ...] | None = None
    schema: str = SCHEMA

    def as_json(self) -> str:
        """All of it."""
        return to_json(self).rstrip()

    def as_text(self) -> str:
        """One figure a line; percentiles with their 95 % intervals."""
        at, n = self.placement, self.latency
        lines = [
            ("model", self.model),
            ("engine", self.engine),
            ("delegate", f"{self.delegate}, {at.ops_offloaded} of {at.ops_total} operations"),
            *(("emulated by", at.emulated_by) for _ in range(at.emulated_by is not None)),
            ("threads", str(self.threads)),
            ("n", f"{n.n} in {n.launches} processes"),
            ("load_ms", f"{self.load_ms:.4f}"),
            ("first_ms", f"{self.first_ms:.4f}"),
            *((f"p{p.percent}_ms", f"{p.ms:.4f} [{p.ci95[0]:.4f}, {p.ci95[1]:.4f}]") for p in n.percentiles),
            ("warm-up", "never stationary" if self.warmup_calls is None else f"{self.warmup_calls} calls"),
            ("peak_rss_bytes", _told(self.peak_rss_bytes)),
            ("over import", _told(self.memory.over_import_bytes)),
            ("mJ", "not measured" if self.energy is None else f"{self.energy.joules_per_inference * 1e3:.4g}"),
            ("temperature", _told(self.clocks.temperature_c)),
            ("throttled", _told(self.throttled)),
            *(("power mode", str(self.power_mode)) for _ in range(self.power_mode is not None)),
            ("load average", f"{self.load_average:.2f}"),
        ]
        return "\n".join(f"{key:<16}{value}" for key, value in lines)


def bench_device(
    model: Path,
    model_format: str,
    *,
    name: str,
    threads: int,
    delegate: str,
    settings: Mapping[str, str],
    seconds: float,
    launches: int = LAUNCHES,
    samples: bool = False,
) -> DeviceBench:
    """Time a model for about `seconds`, in `launches` fresh processes; `name` is what the report calls it.

    Raises:
        EdgetoolError: as `edge.engines.open_engine`; ProcessCrashed where the runtime ends the process.

    """
    times, loads, firsts, peaks, imported, warmed = [], [], [], [], [], []
    before, energy, loaded = probe.clocks(), None, None
    for launch in range(launches):
        with RuntimeProcess() as worker:
            worker.import_runtime(model_format)
            imported.append(worker.status().peak_rss_bytes)
            loaded = worker.load(model, model_format, threads=threads, delegate=delegate, settings=settings)
            warmed.append(warm_up(worker, stretch_seconds=0.02, min_calls=5, max_seconds=max(0.05, seconds / 8)))
            each = seconds / launches
            times.append(worker.time(seconds=each, min_calls=5, limit_s=each + 600))
            status = worker.status()
            if launch == launches - 1 and seconds >= 1:
                energy = worker.energy(seconds=ENERGY_SECONDS, idle_seconds=IDLE_SECONDS)
        loads.append(loaded.load_ms)
        firsts.append(status.first_ms)
        peaks.append(status.peak_rss_bytes)
    assert loaded is not None
    clocks = probe.clocks()
    return _summed_up(
        name, loaded, threads, latency(times), before, clocks, energy,
        load_ms=float(np.median(loads)),
        first_ms=float(np.median([first for first in firsts if first is not None])),
        memory=_memory(peaks, imported),
        warmup_calls=int(np.median([w.calls for w in warmed])) if all(w.stationary for w in warmed) else None,
        samples=tuple(tuple(float(call) for call in launch) for launch in times) if samples else None,
    )  # fmt: skip


def check_placement(found: DeviceBench, allowed: tuple[str, ...]) -> None:
    """Raise CheckFailed where an operation ran elsewhere than on the delegate, but those in `allowed`."""
    require_placement(found.placement, allowed)


def _memory(peaks: list[int | None], imported: list[int | None]) -> Memory:
    highest = max((peak for peak in peaks if peak is not None), default=None)
    before = max((peak for peak in imported if peak is not None), default=None)
    return Memory(highest, None if highest is None or before is None else highest - before)


def _summed_up(
    name: str,
    loaded: Loaded,
    threads: int,
    times: Latency,
    before: Clocks,
    clocks: Clocks,
    energy: Energy | None,
    *,
    load_ms: float,
    first_ms: float,
    memory: Memory,
    warmup_calls: int | None,
    samples: tuple[tuple[float, ...], ...] | None,
) -> DeviceBench:
    return DeviceBench(
        model=name,
        engine=loaded.engine,
        delegate=loaded.placement.actual,
        threads=threads,
        n=times.n,
        load_ms=load_ms,
        first_ms=first_ms,
        p50_ms=times.at(50).ms,
        p90_ms=times.at(90).ms,
        p95_ms=times.at(95).ms,
        p99_ms=times.at(99).ms,
        peak_rss_bytes=memory.peak_rss_bytes,
        latency=times,
        warmup_calls=warmup_calls,
        memory=memory,
        placement=loaded.placement,
        energy=energy,
        throttled=probe.throttled(before, clocks),
        clocks=clocks,
        load_average=os.getloadavg()[0],
        environment=probe.environment(),
        power_mode=jetson.power_mode(),
        samples_s=samples,
    )


def _told(value: float | bool | None) -> str:
    if value is None:
        return "not measured"
    return (
        ("yes" if value else "no")
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
