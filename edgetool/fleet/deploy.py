"""A rollout at work: waves of deploys, a gate after each, an automatic halt, and going on where it stopped."""

import asyncio
import dataclasses
import datetime as dt
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.bundle import Bundle, parse_bundle, read_bundle
from edge.errors import BadInput, CheckFailed, EdgetoolError, EnvironmentFailed
from edgetool.deploy import plan
from edgetool.deploy.facts import Facts
from edgetool.deploy.install import CHECKS, Settings, deploy, rollback
from edgetool.deploy.trust import require_maker
from edgetool.deploy.wheels import Wheel, edge_package, platform_of, requirements, resolve
from edgetool.fleet import rollout as kept
from edgetool.fleet.ask import facts, health, named
from edgetool.fleet.inventory import Fleet, state_folder
from edgetool.fleet.rollout import DeviceState, Rollout, in_turn, resumed, save, wave_targets
from edgetool.fleet.watcher import Watcher

REACHING = ("", "connecting", "probing the device")


@dataclass(frozen=True)
class Waves:
    """How a rollout goes: its waves, how many devices are updated at a time, how many may fail before it halts, and the
    seconds between a wave's last confirmation and the look at its health.
    """

    waves: str = kept.WAVES
    parallel: int = 8
    max_failed: int = 0
    soak_s: float = 10.0


@dataclass(frozen=True)
class Preview:
    """What a rollout would do. `bytes_to_send` is by device; `problems` are why devices cannot take the bundle."""

    rollout: Rollout
    bytes_to_send: dict[str, int]
    unreached: dict[str, str]
    notes: dict[str, tuple[str, ...]]


class _Step:
    """A deploy's progress, handed on with the name of its device."""

    def __init__(self, watcher: Watcher, device: DeviceState) -> None:
        self.name = ""
        self._watcher, self._device = watcher, device

    def begin(self, stages: Sequence[str]) -> None:
        """The stages are the same for all devices."""

    def stage(self, name: str) -> None:
        self.name = name
        self._watcher.step(self._device, 0.0, name)

    def at(self, fraction: float, what: str) -> None:
        self._watcher.step(self._device, fraction, what if self.name == "trying it out" else self.name)


async def prepare(path: Path, fleet: Fleet, waves: Waves, settings: Settings, watcher: Watcher) -> Preview:
    """Ask all devices what they are, and refuse the bundle where one cannot run it; nothing is changed anywhere.

    Raises:
        BadInput: the bundle is none, or devices cannot run it (each is named).
        CheckFailed: nobody who is trusted signed it.
        EnvironmentFailed: no device answers, or there are no wheels for one.

    """
    content = read_bundle(path)
    maker = require_maker(content, path, settings.trust)
    bundle = parse_bundle(content, path)
    total = len(fleet.members)
    told = await facts(fleet, lambda count, name: watcher.doing(count / total, f"asking devices: {name}"))
    known = {name: found for name, found in told.items() if isinstance(found, Facts)}
    unreached = {name: found for name, found in told.items() if isinstance(found, str)}
    if not known:
        name, reason = next(iter(unreached.items()))
        raise EnvironmentFailed(f"no device of {fleet.name} answers; {name}: {reason}", "edgetool fleet status FLEET")
    _refuse(known, bundle)
    needs = (*requirements(bundle.manifest.requires, bundle.manifest.format), *(CHECKS if maker.keys else ()))
    wheels = _wheels(known, needs, settings, watcher)
    sizes, notes = {}, {}
    for name, found in known.items():
        try:
            planned = plan.make(found, wheels[name], len(content), len(content))
        except EdgetoolError as error:
            raise type(error)(f"{name}: {error}", error.hint) from error
        sizes[name] = 0 if _runs(found) == bundle.sha256 else planned.wheel_bytes + planned.bundle_bytes
        notes[name] = planned.notes
    devices = tuple(
        DeviceState(
            member.name,
            member.device_class,
            str(member.address),
            state="unreached" if member.name in unreached else "waiting",
            before=_release(known.get(member.name)),
            reason=unreached.get(member.name),
        )
        for member in in_turn(fleet.members)
    )
    planned_rollout = Rollout(
        fleet=fleet.name,
        bundle=str(path.resolve()),
        bundle_name=bundle.manifest.name,
        sha256=bundle.sha256,
        targets=wave_targets(waves.waves, len(devices)),
        devices=devices,
        began=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
    )
    return Preview(planned_rollout, sizes, unreached, notes)


def _refuse(known: dict[str, Facts], bundle: Bundle) -> None:
    found = {
        name: errors[0]
        for name, told in known.items()
        if (errors := plan.problems(told, bundle.manifest.target, len(bundle.model)))
    }
    if found:
        name, error = next(iter(found.items()))
        more = f" (and {len(found) - 1} more: {', '.join(list(found)[1:6])})" if len(found) > 1 else ""
        raise BadInput(f"{name} cannot run it{more}: {error}", "give --class to update the others")


def _wheels(
    known: dict[str, Facts], needs: Sequence[str], settings: Settings, watcher: Watcher
) -> dict[str, tuple[Wheel, ...]]:
    """Resolved once for each kind of system, before the first device is touched."""
    platforms = {name: platform_of(found) for name, found in known.items()}
    found = {}
    for number, platform in enumerate(dict.fromkeys(platforms.values())):
        watcher.doing(number / len(platforms), "finding wheels")
        wheels = resolve(needs, platform, extra=settings.wheels, offline=settings.offline)
        found[platform] = (edge_package(), *wheels)
    return {name: found[platform] for name, platform in platforms.items()}


def _runs(found: Facts) -> str | None:
    current = found.held.get("current") or {}
    return str(current["bundle"]) if "bundle" in current else None


def _release(found: Facts | None) -> str | None:
    current = None if found is None else found.held.get("current")
    return str(current["release"]) if current else None


class _Work:
    """A rollout that is being worked at; every change is saved before the next thing happens."""

    def __init__(self, rollout: Rollout, fleet: Fleet, waves: Waves, settings: Settings, watcher: Watcher) -> None:
        self.rollout = rollout
        self.fleet = fleet
        self.waves = waves
        self.settings = settings
        self.watcher = watcher
        self.members = named(fleet)

    def keep(self, rollout: Rollout) -> None:
        self.rollout = rollout
        save(state_folder(self.fleet), rollout)
        self.watcher.state(rollout)

    @property
    def halted(self) -> bool:
        return self.rollout.count("failed") > self.waves.max_failed

    async def update(self, name: str, turn: asyncio.Semaphore) -> None:
        """One device, where the rollout has not halted before it is its turn."""
        import asyncssh

        async with turn:
            if self.halted:
                return
            self.keep(self.rollout.changed(name, state="updating", wave=self.rollout.proven + 1))
            device = self.rollout.named(name)
            began, step = time.monotonic(), _Step(self.watcher, device)
            address = self.members[name].address
            try:
                done = await deploy(Path(self.rollout.bundle), address, self.fleet.login, self.settings, step)
            except (EdgetoolError, OSError, asyncssh.Error) as error:
                # Before a line stands nothing was changed there. A line that dies later may be the release's doing.
                lost = not isinstance(error, EdgetoolError) or isinstance(error, EnvironmentFailed)
                reached = not lost or step.name not in REACHING
                state: kept.State = "failed" if reached else "unreached"
                self.keep(self.rollout.changed(name, state=state, reason=str(error), release=device.before))
                self.watcher.note(f"{name}: {error}")
            else:
                seconds = round(time.monotonic() - began, 3)
                self.keep(
                    self.rollout.changed(
                        name, state="updated", release=done.release, seconds=seconds, sent_bytes=done.sent_bytes
                    )
                )

    async def gate(self) -> None:
        """Whether the wave's devices are still healthy after a while; one that is not goes back."""
        wave = self.rollout.proven + 1
        devices = [device for device in self.rollout.having("updated") if device.wave == wave]
        began = time.monotonic()
        while (waited := time.monotonic() - began) < self.waves.soak_s:
            self.watcher.doing(waited / self.waves.soak_s, f"wave {wave}: letting it run")
            await asyncio.sleep(min(0.5, self.waves.soak_s - waited))
        kept_fleet = Fleet(self.fleet.name, self.fleet.login, tuple(self.members[device.name] for device in devices))
        known = {
            name: found for name, found in (await facts(kept_fleet, self._heard)).items() if isinstance(found, Facts)
        }
        answers = await health(kept_fleet, known, self._heard)
        for device in devices:
            answer = answers.get(device.name)
            problem = "it no longer answers" if answer is None else answer.problem
            if answer is not None and problem is None and answer.release != device.release:
                problem = f"it runs {answer.release}"
            if problem is not None:
                await self._back(device, problem)

    def _heard(self, _count: int, name: str) -> None:
        self.watcher.doing(1.0, f"the gate: {name}")

    async def _back(self, device: DeviceState, problem: str) -> None:
        import asyncssh

        self.watcher.note(f"{device.name}: {problem}; it goes back")
        release = device.release
        try:
            release = await rollback(
                self.members[device.name].address, self.fleet.login, self.settings, _Step(self.watcher, device)
            )
        except (EdgetoolError, OSError, asyncssh.Error) as error:
            problem = f"{problem}; it could not go back: {error}"
        self.keep(self.rollout.changed(device.name, state="failed", reason=problem, release=release))

    async def run(self) -> Rollout:
        """All waves, or up to the one that halts."""
        turn = asyncio.Semaphore(self.waves.parallel)
        while self.rollout.proven < len(self.rollout.targets) and not self.halted:
            while (batch := self.rollout.next_batch()) and not self.halted:
                async with asyncio.TaskGroup() as group:
                    for device in batch:
                        group.create_task(self.update(device.name, turn))
            if not self.halted:
                await self.gate()
            if not self.halted:
                self.keep(dataclasses.replace(self.rollout, proven=self.rollout.proven + 1))
        self.keep(dataclasses.replace(self.rollout, status="halted" if self.halted else "complete"))
        return self.rollout


async def roll_out(rollout: Rollout, fleet: Fleet, waves: Waves, settings: Settings, watcher: Watcher) -> Rollout:
    """Update a fleet wave by wave; the rollout as it ended, complete or halted.

    Each device is proven by its own deploy, and goes back by itself where it is not healthy. More than `max_failed`
    of them halt the rollout: what runs goes on to its end, nothing more begins, and whoever is updated stays so.

    Where this is cancelled (Ctrl-C), devices that were being updated go back and wait; the rest is kept for `resume`.
    """
    work = _Work(rollout, fleet, waves, settings, watcher)
    work.keep(rollout)
    try:
        return await work.run()
    except BaseException:
        left = work.rollout
        for device in left.having("updating"):
            left = left.changed(device.name, state="waiting", wave=None)
        work.keep(dataclasses.replace(left, status="interrupted"))
        raise


def go_on(preview: Preview, before: Rollout) -> Rollout:
    """What is left of a rollout that did not end.

    Raises:
        CheckFailed: it was another bundle's, or it was complete.

    """
    if before.sha256 != preview.rollout.sha256:
        raise CheckFailed(
            f"the rollout that did not end is of {before.bundle_name} ({before.sha256[:12]}), not of this bundle",
            "give that bundle, or --anew",
        )
    running: dict[str, str | None] = {}
    for device in preview.rollout.devices:
        if device.state != "unreached":
            running[device.name] = before.sha256 if preview.bytes_to_send.get(device.name) == 0 else None
    return resumed(before, running)
