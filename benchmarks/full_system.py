"""A whole emulated computer that is deployed to, and whose power goes in the middle of an update.

python -m benchmarks.full_system [--cuts 20] [--folder DIR]     root on Debian; two minutes a cut; goes on where it was

An arm64 Debian under qemu-system-aarch64 (Cortex-A72) boots its own kernel from its own disk, with systemd as PID 1.
A bundle is deployed to it over SSH: packages, golden vectors, the hardened unit, health. There its memory is written
to a file, and each cut begins from that instant on a fresh copy of the disk: an update starts, QEMU is killed in the
middle of one of its steps, and the machine boots from its disk. Then exactly the old or exactly the new release has to
run: the links, the release's hashes, every byte of its packages, the unit, an answer of the service, nothing left over.

What an update does is timed once, uncut. Each of its steps gets its share of the cuts, spread evenly over the time that
the step took then. No time measured here says anything about a real device.
"""

import argparse
import asyncio
import dataclasses
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, write
from benchmarks.full_system_machine import Machine, overlay
from edge.errors import EdgetoolError
from edgetool.deploy.install import Settings, deploy
from edgetool.verify.score_interval import wilson

FOLDER = Path("/var/tmp/edgetool-full-system")
IMAGE = Path(__file__).with_name("full_system_image.sh")
LOOK = Path(__file__).with_name("full_system_look.py")
# The steps of an update as the deploy tells them, the ones around the switch first, and their shares of 20 cuts
STEPS = {
    "switching": 4,
    "checking its health": 5,
    "confirming": 2,
    "replaying the golden vectors": 4,
    "placing": 2,
    "confirmed": 1,
    "bundle": 2,
}
SETTINGS = Settings(limit_s=900)


@dataclass(frozen=True)
class Cut:
    """One cut: in which step, how far into it, and what runs after the boot ("old", "new", or what is wrong)."""

    step: str
    fraction: float
    delay_s: float
    outcome: str
    boot_s: float


class Clock:
    """Progress that notes when each step began, and cuts the power some time after one did."""

    def __init__(self, at: str | None = None, delay_s: float = 0.0, cut: Callable[[], None] | None = None) -> None:
        self.began: dict[str, float] = {}
        self._at, self._delay_s, self._cut = at, delay_s, cut

    def begin(self, stages: Sequence[str]) -> None:
        """Nothing is shown."""

    def stage(self, name: str) -> None:
        self.at(0.0, name)

    def at(self, _fraction: float, what: str) -> None:
        if what in self.began:
            return
        self.began[what] = time.monotonic()
        if what == self._at and self._cut is not None:
            asyncio.get_running_loop().call_later(self._delay_s, self._cut)

    def durations(self) -> dict[str, float]:
        """Seconds of each step, to the beginning of the next."""
        names, times = list(self.began), list(self.began.values())
        return {name: later - begun for name, begun, later in zip(names, times, times[1:], strict=False)}


def say(words: str) -> None:
    """A line with the time."""
    print(f"{time.strftime('%H:%M:%S')} {words}", flush=True)


async def look(machine: Machine) -> dict[str, Any]:
    """What the machine is running, once its service answers."""
    told = await machine.run("sudo -n python3 -I -", LOOK.read_text())
    try:
        found: dict[str, Any] = json.loads(told.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return {"health": None, "log": told.splitlines()[-5:]}
    return found


def prepare(folder: Path, bundle: Path) -> dict[str, Any]:
    """Image, first boot, first deploy, memory to a file; what the machine runs then."""
    about = folder / "prepared.json"
    if about.is_file():
        found: dict[str, Any] = json.loads(about.read_text())
        return found
    if not (folder / "disk.raw").is_file():
        say("making the disk")
        subprocess.run([IMAGE, folder], check=True)
    machine = Machine(folder, overlay(folder / "prepared.qcow2", folder / "disk.raw", "raw"))
    machine.start()
    try:
        say("the first boot")
        asyncio.run(machine.run("true"))
        say("the first deploy")
        clock = Clock()
        first = asyncio.run(deploy(bundle, machine.address, machine.login, SETTINGS, clock))
        state = asyncio.run(look(machine))
        say(f"{first.release} runs: {state}")
        asyncio.run(machine.run("sync"))
        machine.freeze(folder / "memory")
    finally:
        machine.cut()
    state["seconds"] = clock.durations()
    about.write_text(json.dumps(state))
    return state


def update(folder: Path, bundle: Path, clock: Clock, machine: Machine) -> str | None:
    """Go on from the frozen instant with an update; the release, None where the power went before it was confirmed."""
    machine.start(folder / "memory")
    asyncio.run(machine.run("true"))
    try:
        done = asyncio.run(deploy(bundle, machine.address, machine.login, SETTINGS, clock))
    except (EdgetoolError, OSError) as error:
        if machine.process is not None:
            raise
        say(f"  the deploy ended: {error}")
        return None
    return done.release


def timed(folder: Path, bundle: Path) -> dict[str, Any]:
    """An update that nothing cuts: seconds of its steps, and what runs afterwards."""
    about = folder / "timed.json"
    if not about.is_file():
        machine, clock = Machine(folder, overlay(folder / "timed.qcow2", folder / "prepared.qcow2", "qcow2")), Clock()
        try:
            update(folder, bundle, clock, machine)
            clock.at(1.0, "confirmed")
            state = asyncio.run(look(machine))
        finally:
            machine.cut()
        about.write_text(json.dumps({"seconds": clock.durations(), "state": state}))
        say(f"an update, uncut: {clock.durations()}")
    found: dict[str, Any] = json.loads(about.read_text())
    return found


def schedule(cuts: int, seconds: dict[str, float]) -> list[tuple[str, float, float]]:
    """(step, fraction of it, seconds into it), each step's cuts evenly over what it took."""
    shares = {step: max(1, round(share * cuts / sum(STEPS.values()))) for step, share in STEPS.items()}
    by_step = [
        sorted(
            (
                (step, (number + 0.5) / share, (number + 0.5) / share * seconds.get(step, 0.5))
                for number in range(share)
            ),
            key=lambda one: abs(one[1] - 0.5),
        )
        for step, share in shares.items()
    ]
    # Steps take turns, so that a run that ends early has seen them all
    turns = itertools.chain.from_iterable(itertools.zip_longest(*by_step))
    return [one for one in turns if one is not None][:cuts]


def judge(state: dict[str, Any], old: dict[str, Any], new: dict[str, Any]) -> str:
    """Exactly "old" or "new", else what is wrong."""
    health = state.get("health")
    if not health or not health.get("ok"):
        return f"does not answer: {health} {state.get('log', [])[-3:]}"
    for name, wanted in (("old", old), ("new", new)):
        if health["bundle"] == wanted["health"]["bundle"]:
            same = ("current", "last_good", "previous", "releases", "packages", "left", "active")
            differ = [key for key in same if state[key] != wanted[key]]
            return f"half {name}: {', '.join(f'{key} is {state[key]}' for key in differ)}" if differ else name
    return f"another release: {health}"


def cut_once(
    folder: Path, bundle: Path, plan: tuple[str, float, float], old: dict[str, Any], new: dict[str, Any]
) -> Cut:
    """One update with the power cut, one boot, one look."""
    step, fraction, delay_s = plan
    machine = Machine(folder, overlay(folder / "cut.qcow2", folder / "prepared.qcow2", "qcow2"))
    try:
        clock = Clock(step, delay_s, machine.cut)
        released = update(folder, bundle, clock, machine)
        if released is not None:  # the plug is pulled just after the confirmation
            time.sleep(delay_s if step == "confirmed" else 0)
            machine.cut()
        began = time.monotonic()
        machine.start()
        state = asyncio.run(look(machine))
    finally:
        machine.cut()
    outcome = judge(state, old, new)
    if released is not None and outcome == "old":
        outcome = "the confirmed release is gone"
    return Cut(step, fraction, delay_s, outcome, time.monotonic() - began)


def main() -> int:
    """Prepare, cut, write the figures; 1 where a cut left anything but the old or the new release."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--until", help="HH:MM after which no cut begins; what was done is written")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    given = parser.parse_args()
    from tests.devices.bundles import litert_bundle

    folder: Path = given.folder
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["XDG_STATE_HOME"] = str(folder / "state")
    one, two = folder / "one.edge", folder / "two.edge"
    if not two.is_file():
        litert_bundle(one, 1.0)
        litert_bundle(two, 1.01)
    old = prepare(folder, one)
    measured = timed(folder, two)
    kept = folder / "cuts.jsonl"
    done = [Cut(**json.loads(line)) for line in kept.read_text().splitlines()] if kept.is_file() else []
    for number, plan in enumerate(schedule(given.cuts, measured["seconds"])):
        if number < len(done):
            continue
        if given.until and time.strftime("%H:%M") >= given.until:
            break
        done.append(cut_once(folder, two, plan, old, measured["state"]))
        with kept.open("a") as file:
            file.write(json.dumps(dataclasses.asdict(done[-1])) + "\n")
        say(f"{len(done)} of {given.cuts}: {done[-1]}")
    return report(done, given.cuts, old)


def report(done: Sequence[Cut], wanted: int, first: dict[str, Any]) -> int:
    """The figures of these cuts."""
    good = [cut for cut in done if cut.outcome in {"old", "new"}]
    hardened = first["pid1"] == "systemd" and first["active"] == "active" and bool(first["health"]["ok"])
    exposure = float(str(first["exposure"][0]).split(":")[1].split()[0])
    whole = len(good) == len(done) >= wanted
    share = (len(good) / len(done), wilson(len(good), len(done))) if done else (None, None)
    figures = [
        Figure("full_system.deployed", ">= 1", float(hardened), "systems", None, hardened),
        Figure("full_system.unit_exposure", "<= 2", exposure, "of 10", None, exposure <= 2),
        Figure("full_system.power_cuts", f">= {wanted}", len(done), "cuts", None, len(done) >= wanted),
        Figure("full_system.exactly_old_or_new", "= 1", share[0], "of cuts", share[1], whole),
    ]
    for kind in ("old", "new"):
        count = sum(cut.outcome == kind for cut in done)
        figures.append(Figure(f"full_system.came_up_{kind}", "reported", count, "cuts", None, True))
    write("full_system", "python -m benchmarks.full_system", figures)
    for cut in done:
        if cut.outcome not in {"old", "new"}:
            print(f"WRONG {cut}")
    return 0 if all(figure.met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
