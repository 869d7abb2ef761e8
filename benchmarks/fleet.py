"""Twenty devices updated in canary waves, of which one fails; and how often a fleet that did not change is accused.

python -m benchmarks.fleet [--devices 20]     some minutes; needs root

The devices are OpenSSH servers on this machine's loopback, x86-64, each with its own processes, home and /run, which
share its root file system and its processor (tests/edgetool/fleet/rig.py). They run a small convolutional network in
LiteRT. The first release is deployed to one device and copied to the disks of the others before they are switched on.
The rollout is of a new release that one device of the last wave cannot keep running: its service is killed as by a
kernel that is out of memory. It has to go back, the rollout has to halt, everybody else has to run exactly the old or
the new release, healthy. Then the device is mended and the rollout goes on.

The false alarms of the fleet report are counted on simulated fleets whose figures did not change: two classes of
devices, noise of 5 % between two benchmarks, from a normal and from a heavy-tailed distribution (Student's t with three
degrees of freedom, scaled to the same standard deviation).
"""

import argparse
import asyncio
import math
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from benchmarks.figures import Figure, write
from edgetool.deploy.install import Settings, deploy
from edgetool.fleet.compare import compare_logs
from edgetool.progress import Silent
from edgetool.verify.score_interval import wilson

if TYPE_CHECKING:
    from edgetool.fleet.rollout import Rollout
    from tests.edgetool.fleet.rig import Rig

SETTINGS = Settings(limit_s=900)  # on a machine that does much else, twenty Pythons take their time
FLEETS = 2000
SPREAD = 0.05
METRICS = ("p50_ms", "p95_ms", "peak_rss_bytes")


def roll(rig: "Rig", bundle: Path, before: "Rollout | None" = None) -> "Rollout":
    """One rollout to all devices, or what is left of `before`."""
    from edgetool.cli.fleet_display import fleet_display
    from edgetool.fleet.deploy import Waves, go_on, prepare, roll_out

    waves = Waves("1,10%,all", parallel=4, soak_s=2.0)

    async def work() -> "Rollout":
        with fleet_display() as watcher:
            preview = await prepare(bundle, rig.fleet, waves, SETTINGS, watcher)
            begun = preview.rollout if before is None else go_on(preview, before)
            return await roll_out(begun, rig.fleet, waves, SETTINGS, watcher)

    return asyncio.run(work())


def running(rig: "Rig") -> dict[str, str]:
    """The bundle that each device's service answers for, once all do; why not, where one does not in ten minutes."""
    from edgetool.fleet.status import look
    from edgetool.fleet.watcher import Silent as NobodyWatches

    until = time.monotonic() + 600
    while True:
        found = asyncio.run(look(rig.fleet, NobodyWatches())).devices
        if all(one.problem is None for one in found) or time.monotonic() > until:
            return {one.name: str(one.bundle) if one.problem is None else one.problem for one in found}
        time.sleep(2)


def waves(count: int) -> list[Figure]:
    """The rollout that halts and the one that goes on, and what every device runs after each."""
    from tests.devices.bundles import litert_bundle
    from tests.edgetool.fleet.rig import Rig

    with tempfile.TemporaryDirectory(prefix="edgetool-fleet-") as name:
        folder = Path(name)
        os.environ["XDG_STATE_HOME"] = str(folder / "state")
        one, two = (litert_bundle(folder / f"{word}.edge", scale, target="generic-x86_64") for word, scale in BUNDLES)
        with Rig(folder / "rig", count) as rig:
            for device in rig.names[1:]:
                rig.stop(device)
            asyncio.run(deploy(one, rig.fleet.members[0].address, rig.fleet.login, SETTINGS, Silent()))
            for device in rig.names[1:]:
                rig.copy(rig.names[0], device)
                rig.start(device)
            rig.wait()
            after_first = Counter(running(rig).values())
            print(f"first: {dict(after_first)}", flush=True)
            bad = rig.names[min(4, count - 1)]
            (rig.home(bad) / "broken").touch()
            second = roll(rig, two)
            after_second = running(rig)
            print(f"the update: {second.status}, {dict(Counter(after_second.values()))}", flush=True)
            (rig.home(bad) / "broken").unlink()
            third = roll(rig, two, second)
            after_third = Counter(running(rig).values())
            print(f"resumed: {third.status}, {dict(after_third)}", flush=True)
    others = [after_second[name] for name in rig.names if name != bad]
    said = {device.name: "two" if device.state == "updated" else "one" for device in second.devices}
    as_said = sum(after_second[name] == said[name] for name in rig.names)
    halted = second.status == "halted" and [device.name for device in second.having("failed")] == [bad]
    resumed = after_third["two"]
    sent = [device.sent_bytes for device in second.having("updated") if device.sent_bytes is not None]
    return [
        Figure("fleet.devices", f">= {count}", after_first["one"], "devices", None, after_first["one"] == count),
        Figure("fleet.halted_by_one_failure", ">= 1", float(halted), "rollouts", None, halted),
        Figure(
            "fleet.failed_device_went_back", ">= 1", float(after_second[bad] == "one"), "devices", None,
            after_second[bad] == "one",
        ),
        Figure("fleet.devices_as_said_after_halt", f">= {count}", as_said, "devices", None, as_said == count),
        Figure("fleet.updated_before_halt", "reported", others.count("two"), "devices", None, True),
        Figure("fleet.untouched_by_halt", "reported", others.count("one"), "devices", None, True),
        Figure("fleet.devices_after_resume", f">= {count}", resumed, "devices", None, resumed == count),
        Figure("fleet.update_sent_bytes_median", "reported", float(np.median(sent)), "B", None, True),
    ]  # fmt: skip


BUNDLES = (("one", 1.0), ("two", 1.01))


def noise(random: np.random.Generator, heavy: bool, size: int) -> npt.NDArray[np.float64]:
    """Log ratios of devices that did not change."""
    if heavy:
        drawn: npt.NDArray[np.float64] = SPREAD * random.standard_t(3, size) / math.sqrt(3)
        return drawn
    return random.normal(0, SPREAD, size)


def accused(heavy: bool, change: float, fleets: int = FLEETS) -> tuple[int, int]:
    """Fleets in which an interval leaves out 1, and fleets in which a class that changed by `change` is found."""
    random = np.random.default_rng(11)
    alarms = found = 0
    for _ in range(fleets):
        logs: dict[str, dict[str, dict[str, float]]] = {
            metric: {
                kind: {
                    f"{kind}{number}": float(value) + (change if kind == "a" else 0.0)
                    for number, value in enumerate(noise(random, heavy, 10))
                }
                for kind in ("a", "b")
            }
            for metric in METRICS
        }
        outcome = compare_logs(logs)
        outside = [one for one in outcome if one.interval is not None and not one.interval[0] <= 1 <= one.interval[1]]
        alarms += bool(outside)
        found += any(one.device_class == "a" and one.against is None and one.verdict == "slower" for one in outcome)
    return alarms, found


def statistics() -> list[Figure]:
    """False alarms of nine intervals together, and how often 10 % on one of two classes of ten devices are found."""
    figures = []
    for name, heavy in (("normal", False), ("heavy_tails", True)):
        alarms, _ = accused(heavy, 0.0)
        share = alarms / FLEETS
        figures.append(
            Figure(f"fleet.false_alarms_{name}", "<= 0.05", share, "of fleets", wilson(alarms, FLEETS), share <= 0.05)
        )
        _, found = accused(heavy, math.log(1.1))
        power = found / FLEETS
        figures.append(
            Figure(
                f"fleet.slower_by_10_percent_found_{name}", "reported", power, "of fleets", wilson(found, FLEETS), True
            )
        )
    return figures


def main() -> int:
    """Both, and the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--devices", type=int, default=20)
    given = parser.parse_args()
    from tests.edgetool.fleet.rig import why_not

    reason = why_not()
    if reason is not None:
        print(f"error: {reason}", file=sys.stderr)
        return 3
    figures = [*waves(given.devices), *statistics()]
    if given.devices == 20:
        write("fleet", "python -m benchmarks.fleet", figures)
    for figure in figures:
        print(figure)
    return 0 if all(figure.met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
