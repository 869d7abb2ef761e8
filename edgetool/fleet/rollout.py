"""An update of a fleet in canary waves: what is planned, what was done, and the file that outlives the host.

Pure but for `read` and `save`. A wave is a number of devices that have to run the new release before the next wave
begins; a device that cannot be reached does not count, another takes its place in the wave.
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edge.durable import write_whole
from edge.errors import BadInput, BadRecipe
from edge.report import from_plain, to_json
from edgetool.fleet.inventory import Member

State = Literal["waiting", "updating", "updated", "failed", "unreached"]
Status = Literal["running", "halted", "interrupted", "complete"]
FILE = "rollout.json"
WAVES = "1,10%,all"


@dataclass(frozen=True)
class DeviceState:
    """One device in a rollout. `before` and `release` are what ran before and what runs now, None where nothing is
    known; `reason` says why it failed or could not be reached; `wave` counts from 1.
    """

    name: str
    device_class: str
    address: str
    state: State = "waiting"
    wave: int | None = None
    before: str | None = None
    release: str | None = None
    reason: str | None = None
    seconds: float | None = None
    sent_bytes: int | None = None


@dataclass(frozen=True)
class Rollout:
    """A bundle on its way to a fleet. `targets` are the cumulative numbers of devices after each wave; `proven` is how
    many waves have passed their gate.
    """

    fleet: str
    bundle: str
    bundle_name: str
    sha256: str
    targets: tuple[int, ...]
    devices: tuple[DeviceState, ...]
    status: Status = "running"
    proven: int = 0
    began: str = ""
    schema: str = field(default="edgetool.rollout/1")

    def named(self, name: str) -> DeviceState:
        """The device of that name."""
        return next(device for device in self.devices if device.name == name)

    def count(self, state: State) -> int:
        """How many devices are in a state."""
        return sum(device.state == state for device in self.devices)

    def having(self, state: State) -> tuple[DeviceState, ...]:
        """The devices in a state, in their order."""
        return tuple(device for device in self.devices if device.state == state)

    def changed(self, name: str, **changes: object) -> "Rollout":
        """The rollout with one device in another state."""
        devices = tuple(
            dataclasses.replace(device, **changes) if device.name == name else device  # type: ignore[arg-type]
            for device in self.devices
        )
        return dataclasses.replace(self, devices=devices)

    def next_batch(self) -> tuple[DeviceState, ...]:
        """The waiting devices that the wave at work still needs; empty where it is full or nobody waits."""
        if self.proven >= len(self.targets):
            return ()
        lacking = self.targets[self.proven] - self.count("updated")
        return self.having("waiting")[: max(0, lacking)]


def wave_targets(text: str, devices: int) -> tuple[int, ...]:
    """`1,10%,all` of 20 devices: (1, 2, 20), the devices that are updated after each wave. The last wave is all.

    Raises:
        BadRecipe: a word that is no number, no percentage and not `all`, or waves that do not grow.

    """
    found: list[int] = []
    for word in (part.strip() for part in text.split(",")):
        try:
            if word == "all":
                target = devices
            elif word.endswith("%"):
                target = math.ceil(devices * float(word[:-1]) / 100)
            else:
                target = int(word)
        except ValueError:
            raise BadRecipe(f"cannot read the wave {word!r}", f"for example --waves {WAVES}") from None
        if target < 1:
            raise BadRecipe(f"a wave of {word} is no wave", f"for example --waves {WAVES}")
        target = min(target, devices)
        if found and target < found[-1]:
            raise BadRecipe(f"the waves {text} do not grow", "each says how many devices are updated after it")
        if not found or target > found[-1]:
            found.append(target)
    return tuple(found) if found[-1] == devices else (*found, devices)


def in_turn(members: Sequence[Member]) -> tuple[Member, ...]:
    """The devices with their classes taking turns: the first waves see as many kinds of hardware as they can."""
    queues: dict[str, list[Member]] = {}
    for member in members:
        queues.setdefault(member.device_class, []).append(member)
    found = []
    while any(queues.values()):
        found += [queue.pop(0) for queue in queues.values() if queue]
    return tuple(found)


def save(folder: Path, rollout: Rollout) -> None:
    """Keep a rollout, whole or as it was before."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / FILE, to_json(rollout).encode())


def read(folder: Path) -> Rollout | None:
    """The rollout that was last worked at, None where there was none.

    Raises:
        BadInput: its file is damaged.

    """
    path = folder / FILE
    try:
        found: Rollout = from_plain(Rollout, json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadInput(f"{path} is damaged: {error}", "remove it: devices keep what they run") from error
    return found


def resumed(rollout: Rollout, running: dict[str, str | None]) -> Rollout:
    """The rollout to go on with: whoever failed or was cut off waits again, and so does an updated device that no
    longer runs the bundle. `running` has the sha256 that each device that answers runs.
    """
    devices = []
    for device in rollout.devices:
        runs_it = running.get(device.name) == rollout.sha256
        if device.state == "updated" and (runs_it or device.name not in running):
            devices.append(device)
        else:
            devices.append(dataclasses.replace(device, state="waiting", wave=None, reason=None, seconds=None))
    return dataclasses.replace(rollout, devices=tuple(devices), status="running", proven=0)
