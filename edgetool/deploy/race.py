"""The race of a run on the device that it is for: `compress --device`.

`python -m edge bench` runs there, one fresh process for every file in every round, in a random order in each round, as
`edgetool.verify.race` does it here; the same interval over launches decides. An emulated device is timed in one round:
its times say nothing about a real one, so they get no ratio, no verdict and meet no limit.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge.bench import DeviceBench
from edge.errors import BadInput, EdgetoolError
from edge.report import Measurement, RaceConditions, Skipped
from edgetool.candidates import Made
from edgetool.deploy import plan
from edgetool.deploy.bench import Bench, DeviceRun, bench_session
from edgetool.deploy.facts import Facts
from edgetool.deploy.transport import Address, Login, connect
from edgetool.progress import At
from edgetool.verify import speed_gate

ROUNDS = 8  # as many as a verdict needs (speed_gate.FEWEST_BLOCKS)
SECONDS = 0.5  # of each file in each round
TRIES = 3  # for a round in which the device throttles


@dataclass(frozen=True)
class DeviceRace:
    """Where to race: a device that was seen to fit (`facts`)."""

    address: Address
    login: Login
    facts: Facts
    wheels: Path | None = None
    rounds: int = ROUNDS
    seconds: float = SECONDS

    def __call__(
        self, everyone: Sequence[Made], baselines: Mapping[str, Made], seed: int, at: At
    ) -> tuple[dict[str, tuple[Measurement, ...]], list[Skipped], RaceConditions]:
        """The measurement of every file by id, what could not be timed and why, and the device meanwhile.

        Raises:
            EnvironmentFailed: the device or the line failed.

        """
        records = {one.id: _Record() for one in everyone}
        for model_format in dict.fromkeys(one.artifact.format for one in everyone):
            cast = [one for one in everyone if one.artifact.format == model_format]
            asyncio.run(self._race(cast, model_format, records, np.random.default_rng(seed), at))
        rows: dict[str, tuple[Measurement, ...]] = {}
        skipped = []
        for one in everyone:
            record = records[one.id]
            if record.failed is not None:
                skipped.append(Skipped(f"latency of {one.id} on {self.address}", record.failed))
                continue
            base = baselines[one.artifact.format]
            against = None if one is base or records[base.id].failed is not None else records[base.id]
            rows[one.id] = (_measurement(record, against, seed),)
        return rows, skipped, _conditions([run for record in records.values() for run in record.runs])

    async def _race(
        self, cast: Sequence[Made], model_format: str, records: "dict[str, _Record]", rng: np.random.Generator, at: At
    ) -> None:
        rounds = 1 if self.facts.emulated else self.rounds
        async with bench_session(self.address, self.login, model_format, self.wheels, at) as bench:
            for number in range(rounds):
                for k in rng.permutation(len(cast)):
                    one, record = cast[k], records[cast[k].id]
                    at(number / rounds, f"round {number + 1} of {rounds} on the device: {one.id}")
                    if record.failed is None:
                        await self._time(bench, one, record)

    async def _time(self, bench: Bench, one: Made, record: "_Record") -> None:
        words = ["--seconds", f"{self.seconds:g}", "--launches", "1", "--samples"]
        model = one.artifact.path.read_bytes()
        for _ in range(TRIES):
            try:
                run = await bench.run(one.artifact.path.name, model, words, lambda _part, _what: None)
            except EdgetoolError as error:
                record.failed = error.message
                return
            if run.void is None:
                record.runs.append(run)
                return
        record.failed = f"void {TRIES} times: {run.void}"


@dataclass
class _Record:
    """The runs of one file by round, and why there are no more."""

    runs: list[DeviceRun] = field(default_factory=list)
    failed: str | None = None


async def seen(address: Address, login: Login, arch: str | None) -> Facts:
    """What a device is that a model is to be compressed for; `arch` is the target's where one was named.

    Raises:
        BadInput: nothing of this toolkit runs there, or it is of another kind than the target.
        EnvironmentFailed: it cannot be reached.

    """
    async with connect(address, login) as device:
        facts = await device.facts()
    for error in plan.problems(facts, None, 0):
        raise error
    if arch is not None and facts.machine != arch:
        raise BadInput(
            f"the target is {arch}, {address} is {facts.machine}", "leave out --target, or name the device's"
        )
    return facts


def _measurement(record: _Record, baseline: _Record | None, seed: int) -> Measurement:
    benches = [run.bench for run in record.runs]
    emulated = record.runs[0].emulated
    times = [_calls(one) for one in benches]
    calls = np.concatenate(times)
    p50, p90, p95, p99 = (float(p) * 1e3 for p in np.percentile(calls, (50, 90, 95, 99)))
    compared = None
    if baseline is not None and not emulated:
        compared = speed_gate.ratio(times, [_calls(run.bench) for run in baseline.runs], seed)
    peaks = [one.peak_rss_bytes for one in benches if one.peak_rss_bytes is not None]
    return Measurement(
        engine=benches[0].engine,
        delegate=benches[0].delegate,
        threads=benches[0].threads,
        status="emulated" if emulated else "measured",
        load_ms=float(np.median([one.load_ms for one in benches])),
        first_ms=float(np.median([one.first_ms for one in benches])),
        n=len(calls),
        p50_ms=p50,
        p90_ms=p90,
        p95_ms=p95,
        # an emulated time is held against no limit: of the few calls of its one round the slowest stands here
        p95_upper_ms=float(calls.max()) * 1e3 if emulated else speed_gate.p95_upper(calls) * 1e3,
        p99_ms=p99,
        ratio=compared.value if compared else None,
        ratio_ci95=compared.ci95 if compared else None,
        verdict=compared.verdict if compared else None,
        placement=benches[0].placement,
        peak_rss_bytes=max(peaks, default=None),
        throttled=benches[-1].throttled,
    )


def _calls(bench: DeviceBench) -> speed_gate.Seconds:
    assert bench.samples_s is not None, "they were asked for"
    return np.concatenate([np.asarray(launch) for launch in bench.samples_s])


def _conditions(runs: Sequence[DeviceRun]) -> RaceConditions:
    loads = [run.bench.load_average for run in runs] or [0.0]
    told = [run.bench.throttled for run in runs if run.bench.throttled is not None]
    seconds = sum(float(_calls(run.bench).sum()) for run in runs)
    return RaceConditions(seconds, loads[0], loads[-1], None, any(told) if told else None)
