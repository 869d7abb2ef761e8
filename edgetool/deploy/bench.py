"""Models timed on a device: `python -m edge bench` runs there, on packages that go with it and do not stay."""

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from edge.bench import DeviceBench
from edge.errors import BadInput, CheckFailed
from edge.report import from_plain, to_json
from edgetool.deploy import plan
from edgetool.deploy.facts import Facts
from edgetool.deploy.install import send_packages
from edgetool.deploy.transport import Address, Login, Session, connect
from edgetool.deploy.wheels import edge_package, platform_of, requirements, resolve
from edgetool.units import format_bytes

Told = Callable[[float, str], None]


@dataclass(frozen=True)
class DeviceRun:
    """One model on one device. `void` says why its times count for nothing: the device was throttled or under-volted
    meanwhile; `emulated` times say nothing about a real one and are compared with none.
    """

    model: str
    bench: DeviceBench
    emulated: bool
    void: str | None


@dataclass(frozen=True)
class DeviceBenches:
    """All models on one device, in the order they were given."""

    device: str
    description: str
    governor: str | None
    power_mode: str | None
    emulated: bool
    runs: tuple[DeviceRun, ...]
    notes: tuple[str, ...]
    schema: str = field(default="edgetool.device-benches/1")

    def as_json(self) -> str:
        """The same as JSON."""
        return to_json(self).rstrip()

    def as_text(self) -> str:
        """The device, a line for each model, and what is void."""
        how = [f"governor {self.governor or 'not stated'}"]
        how += [f"power mode {self.power_mode}"] if self.power_mode else []
        lines = [f"{self.device}: {self.description}", ", ".join(how), *(f"note: {note}" for note in self.notes)]
        for run in self.runs:
            found, at = run.bench, {p.percent: p for p in run.bench.latency.percentiles}
            low, high = at[50].ci95
            memory = "" if found.peak_rss_bytes is None else f", {format_bytes(found.peak_rss_bytes)} of memory"
            heat = "" if found.clocks.temperature_c is None else f", {found.clocks.temperature_c:.1f} °C"
            times = f"p50 {found.p50_ms:.3f} ms [{low:.3f}, {high:.3f}], p95 {found.p95_ms:.3f} ms"
            kind = "emulated" if run.emulated else "VOID" if run.void else "measured"
            lines.append(f"{run.model:<24} {kind}: {times}, n {found.n}{memory}{heat}")
            lines += [f"{'':<24} void: {run.void}"] if run.void else []
        return "\n".join(lines)


class Bench:
    """A device that is ready to time models of one format. `facts` are what it said of itself."""

    def __init__(self, session: Session, facts: Facts, packages: list[str]) -> None:
        self.facts = facts
        self._session = session
        self._packages = packages

    async def run(self, name: str, model: bytes, arguments: list[str], told: Told) -> DeviceRun:
        """Time one model; `name` is its file's. Raises EdgetoolError: what failed there."""
        digest = hashlib.sha256(model).hexdigest()
        asked = {"do": "bench", "name": name, "size": len(model), "sha256": digest}
        asked |= {"packages": self._packages, "arguments": arguments}
        found: DeviceBench = from_plain(DeviceBench, await self._session.ask(asked, model, told))
        return DeviceRun(name, found, self.facts.emulated, void(found))


def void(found: DeviceBench) -> str | None:
    """Why a run counts for nothing: what the firmware or the kernel says happened while it ran."""
    if not found.throttled:
        return None
    return "the device was throttled, capped or under-volted while it ran: look at its cooling and its power supply"


@contextlib.asynccontextmanager
async def bench_session(
    address: Address, login: Login, model_format: str, wheels: Path | None, told: Told, *, offline: bool = False
) -> AsyncIterator[Bench]:
    """A device with what times models of a format; nothing stays there.

    Raises:
        BadInput: nothing of this toolkit runs there.
        EnvironmentFailed: the device, the line or a registry failed.

    """
    async with connect(address, login) as device:
        facts = await device.facts()
        for error in plan.problems(facts, None, 0):
            raise error
        needed = [
            edge_package(),
            *resolve(requirements((), model_format), platform_of(facts), extra=wheels, offline=offline),
        ]
        planned = plan.make(facts, needed, 0, 0)
        async with device.session(facts) as session:
            await send_packages(session, planned.wheels, told)
            yield Bench(session, facts, [wheel.sha256 for wheel in needed])


def read_model(path: Path) -> tuple[str, str, bytes]:
    """A model's file name, format and bytes: of a .tflite, an .onnx, or the model of a bundle.

    Raises:
        BadInput: it is none of them.

    """
    from edge.bundle import parse_bundle, read_bundle

    if path.suffix == ".edge":
        bundle = parse_bundle(read_bundle(path), path)
        return f"{path.stem}.{bundle.manifest.format}", bundle.manifest.format, bundle.model
    if path.suffix not in {".tflite", ".onnx"}:
        raise BadInput(f"{path} cannot be timed on a device", "give an .edge, .tflite or .onnx file")
    try:
        return path.name, path.suffix[1:], path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error


async def bench_on(
    models: list[Path], address: Address, login: Login, arguments: list[str], wheels: Path | None, told: Told
) -> DeviceBenches:
    """Time models on a device, one after another.

    Raises:
        BadInput: a model cannot be timed, or nothing runs on the device.
        EnvironmentFailed: the device, the line or a registry failed.

    """
    read = [read_model(path) for path in models]
    runs: list[DeviceRun] = []
    facts: Facts | None = None
    for model_format in dict.fromkeys(kind for _, kind, _ in read):
        async with bench_session(address, login, model_format, wheels, told) as bench:
            facts = bench.facts
            runs += [
                await bench.run(name, model, arguments, told) for name, kind, model in read if kind == model_format
            ]
    assert facts is not None, "there is a model"
    return DeviceBenches(
        device=str(address),
        description=facts.description,
        governor=facts.governor,
        power_mode=next((run.bench.power_mode for run in runs if run.bench.power_mode), None),
        emulated=facts.emulated,
        runs=tuple(runs),
        notes=plan.notes(facts),
    )


def require_valid(found: DeviceBenches) -> None:
    """Raise CheckFailed where a run is void."""
    for run in found.runs:
        if run.void:
            raise CheckFailed(f"{run.model} on {found.device} is void: {run.void}")
