"""One deploy, and one rollback: connect, probe, plan, send what lacks, replay, switch, check, confirm."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.bundle import Bundle, parse_bundle, read_bundle
from edge.errors import BadInput
from edge.report import to_json
from edge.target import TARGETS
from edgetool.deploy import inventory, plan
from edgetool.deploy.facts import Facts
from edgetool.deploy.segments import lacking, segments
from edgetool.deploy.transport import Address, Device, Login, Session, connect
from edgetool.deploy.trust import Provenance, Trust, require_maker, require_not_revoked, user_trust
from edgetool.deploy.unit import unit
from edgetool.deploy.wheels import Wheel, edge_package, platform_of, requirements, resolve
from edgetool.progress import Progress
from edgetool.units import format_bytes

STAGES = ("connecting", "probing the device", "finding wheels", "packages", "bundle", "trying it out")

CHECKS = ("cryptography>=45",)


@dataclass(frozen=True)
class Settings:
    """`limit_s` until the service is healthy, `max_ms` that its answer may take, a folder with wheels to use, and whose
    bundles are taken: by default those of whom the user trusts.
    """

    limit_s: float = 120.0
    max_ms: float | None = None
    wheels: Path | None = None
    offline: bool = False
    dry_run: bool = False
    trust: Trust = field(default_factory=user_trust)


@dataclass(frozen=True)
class Deployed:
    """What a deploy or a rollback did. `seconds` by stage and step; `sent_bytes` is everything that was written to the
    device, the programs that ran there too. `emulated` times say nothing about a real device.
    """

    device: str
    description: str
    service: str
    bundle: str
    signature: str
    release: str | None
    already_there: bool
    dry_run: bool
    emulated: bool
    wheel_bytes: int
    bundle_bytes: int
    sent_bytes: int
    seconds: dict[str, float]
    notes: tuple[str, ...]
    schema: str = field(default="edgetool.deploy/1")

    def as_json(self) -> str:
        """The same as JSON."""
        return to_json(self).rstrip()

    def as_text(self) -> str:
        """A few lines, the verdict in the last one."""
        lines = [f"{self.device}: {self.description}", f"kept running by {self.service}"]
        lines.append(f"signature: {self.signature}")
        lines += [f"note: {note}" for note in self.notes]
        moved = f"{format_bytes(self.wheel_bytes)} of packages and {format_bytes(self.bundle_bytes)} of the bundle"
        if self.dry_run:
            lines.append(f"dry run: would send {moved}; nothing was changed")
        elif self.already_there:
            lines.append(f"release {self.release} runs there already; nothing was changed")
        else:
            emulated = " (emulated)" if self.emulated else ""
            took = f"{sum(self.seconds.values()):.1f} s{emulated}"
            lines.append(f"release {self.release} is confirmed: {moved} sent, {took}")
        return "\n".join(lines)


class _Stages:
    """The progress, and the seconds of each stage, and of each of the device's steps in the last one."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}
        self._name: str | None = None
        self._began = time.monotonic()
        progress.begin(STAGES)

    def begin(self, name: str | None) -> None:
        """The next stage; None ends the last one."""
        self._mark(name)
        if name is not None:
            self.progress.stage(name)

    def step(self, fraction: float, what: str) -> None:
        """A step that the device tells of: its seconds count apart."""
        self._mark(what)
        self.progress.at(fraction, what)

    def _mark(self, name: str | None) -> None:
        now = time.monotonic()
        if self._name is not None:
            self.seconds[self._name] = round(now - self._began, 3)
        self._name, self._began = name, now


async def deploy(path: Path, address: Address, login: Login, settings: Settings, progress: Progress) -> Deployed:
    """Bring a bundle to a device, and confirm it there or leave the device as it was.

    Raises:
        BadInput: the bundle is none, or the device cannot run it; nothing was changed.
        CheckFailed: its signature, the device's host key, golden vectors or health: what ran before runs again.
        EnvironmentFailed: the device, the line or a registry failed: what ran before runs again.

    """
    content = read_bundle(path)
    maker = require_maker(content, path, settings.trust)
    bundle = parse_bundle(content, path)
    signature = _signature(bundle, maker, settings.trust)
    stages = _Stages(progress)
    stages.begin("connecting")
    async with connect(address, login) as device:
        stages.begin("probing the device")
        facts = await device.facts()
        plan.refuse(facts, bundle.manifest, len(bundle.model))
        stages.begin("finding wheels")
        wheels = _wheels(bundle, facts, maker, settings)
        planned = plan.make(facts, wheels, len(content), len(content))
        if settings.dry_run:
            stages.begin(None)
            return _result(device, facts, bundle, signature, planned, stages, dry_run=True, bundle_bytes=len(content))
        async with device.session(facts) as session:
            if await _runs_already(session, facts, bundle, maker, wheels):
                stages.begin(None)
                return _result(
                    device, facts, bundle, signature, planned, stages, release=session.current, already_there=True
                )
            stages.begin("packages")
            await send_packages(session, planned.wheels, progress.at)
            stages.begin("bundle")
            sent = await _send_bundle(session, content, bundle, progress.at)
            stages.begin("trying it out")
            parts = segments(content)
            release = {
                "bundle": bundle.sha256,
                "packages": [wheel.sha256 for wheel in wheels],
                "segments": parts,
                "name": bundle.manifest.name,
                "python": ".".join(map(str, facts.python)),
                "keys": list(maker.keys),
                "signer": None if maker.signer is None else maker.signer.key_sha256,
            }
            text = _unit(facts, bundle) if facts.systemd else None
            question = {"do": "commit", "release": release, "unit": text, **_limits(settings)}
            name: str = await session.ask(question, told=stages.step)
            stages.begin(None)
    result = _result(device, facts, bundle, signature, planned, stages, release=name, bundle_bytes=sent)
    _remember(address, facts, bundle.manifest.name, bundle.sha256, name)
    return result


async def rollback(address: Address, login: Login, settings: Settings, progress: Progress) -> str:
    """Let a device run the release before; its name. The same trial as a deploy's: where it is not healthy, what runs
    now goes on.

    Raises: as `deploy`; BadInput where there is none before, CheckFailed where its key was revoked.

    """
    stages = _Stages(progress)
    stages.begin("connecting")
    async with connect(address, login) as device:
        stages.begin("probing the device")
        facts = await device.facts()
        before = facts.held.get("previous")
        if before is None:
            raise BadInput(f"{address} has no release to go back to", "only one was ever deployed and confirmed there")
        require_not_revoked(before.get("signer"), str(before["release"]), settings.trust)
        async with device.session(facts) as session:
            stages.begin("trying it out")
            question = {"do": "rollback", "unit": None, **_limits(settings)}
            name: str = await session.ask(question, told=progress.at)
            stages.begin(None)
    _remember(address, facts, str(before.get("name", "")), str(before.get("bundle", "")), name)
    return name


def _signature(bundle: Bundle, maker: Provenance, trust: Trust) -> str:
    """What is known of who made it, in words."""
    if maker.signer is not None:
        return f"of {maker.signer.subject or 'key ' + maker.signer.key_sha256[:16]}, checked here and on the device"
    there = "there is one, " if bundle.signed else "none, "
    if trust.trusted:
        return f"{there}NOT CHECKED as --unsigned says: nobody vouches for this bundle"
    return f"{there}not checked: no key is trusted here (edgetool keys trust KEY.pub)"


def _limits(settings: Settings) -> dict[str, Any]:
    return {"limit_s": settings.limit_s, "max_ms": settings.max_ms}


def _wheels(bundle: Bundle, facts: Facts, maker: Provenance, settings: Settings) -> list[Wheel]:
    """Everything the release imports, the toolkit's own part first; what checks its signature where it has to."""
    needs = (*requirements(bundle.manifest.requires, bundle.manifest.format), *(CHECKS if maker.keys else ()))
    found = resolve(needs, platform_of(facts), extra=settings.wheels, offline=settings.offline)
    return [edge_package(), *found]


async def _runs_already(session: Session, facts: Facts, bundle: Bundle, maker: Provenance, wheels: list[Wheel]) -> bool:
    """The device runs this very bundle on these very packages, and nobody changed them; a damaged one is replaced."""
    current = facts.held.get("current") or {}
    wanted = {"bundle": bundle.sha256, "packages": [wheel.sha256 for wheel in wheels], "keys": list(maker.keys)}
    if any(current.get(key) != value for key, value in wanted.items()):
        return False
    checked: str | None = await session.ask({"do": "check"})
    return checked == bundle.sha256


async def send_packages(session: Session, wheels: tuple[Wheel, ...], told: Callable[[float, str], None]) -> None:
    """Wheels to the device's staging; `told` hears the part of all bytes, and which."""
    total = sum(wheel.size for wheel in wheels) or 1
    before = 0
    for wheel in wheels:
        start, name = before, wheel.path.name.split("-")[0]

        def at(fraction: float, _what: str, start: int = start, size: int = wheel.size, name: str = name) -> None:
            told((start + fraction * size) / total, name)

        asked = {"do": "package", "sha256": wheel.sha256, "size": wheel.size}
        await session.ask(asked, wheel.path.read_bytes(), at)
        before += wheel.size


async def _send_bundle(session: Session, content: bytes, bundle: Bundle, told: Callable[[float, str], None]) -> int:
    parts = segments(content)
    missing = lacking(content, parts, session.held_segments)
    await session.ask({"do": "bundle", "sha256": bundle.sha256, "size": len(missing), "segments": parts}, missing, told)
    return len(missing)


def _unit(facts: Facts, bundle: Bundle) -> str:
    return unit(facts.base, TARGETS.get(bundle.manifest.target), memory_bytes=facts.memory_bytes)


def _remember(address: Address, facts: Facts, name: str, sha256: str, release: str) -> None:
    inventory.remember(
        inventory.inventory_file(),
        address,
        description=facts.description,
        bundle=name,
        sha256=sha256,
        release=release,
        emulated=facts.emulated,
    )


def _result(
    device: Device,
    facts: Facts,
    bundle: Bundle,
    signature: str,
    planned: plan.Plan,
    stages: _Stages,
    *,
    release: str | None = None,
    already_there: bool = False,
    dry_run: bool = False,
    bundle_bytes: int = 0,
) -> Deployed:
    return Deployed(
        device=str(device.address),
        description=facts.description,
        service=facts.service,
        bundle=bundle.manifest.name,
        signature=signature,
        release=release,
        already_there=already_there,
        dry_run=dry_run,
        emulated=facts.emulated,
        wheel_bytes=0 if already_there else planned.wheel_bytes,
        bundle_bytes=bundle_bytes,
        sent_bytes=device.sent_bytes,
        seconds=stages.seconds,
        notes=planned.notes,
    )
