"""What a deploy moves, and how long it takes to a device that has the packages already.

    python -m benchmarks.deploy                bytes here, seconds on the emulated Pi 5 (.ci/devices up, before)
    python -m benchmarks.deploy --bytes        the bytes alone; the seconds stay as they were measured last
    python -m benchmarks.deploy --slice        the bytes of one size, for CI; writes nothing

Bytes are what a TCP proxy before the device's sshd carried in both directions, SSH's own included, for a bundle that
differs from the one before in its model only; the goal is 1.2 times the model as it stands in the bundle, compressed,
and 64 kB. The device is namespaces of this machine (benchmarks/namespace_device.py). Seconds are of an emulated device:
they say that the tool's part of a deploy is short, and nothing about a real board. Transfer is what is sent and placed,
switch the instant of the new link.
"""

import argparse
import asyncio
import json
import os
import shlex
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from benchmarks.bad_link import BadLink
from benchmarks.figures import RESULTS, Figure, table, write
from benchmarks.namespace_device import NamespaceDevice, why_not
from edge.report import Interval, from_plain
from edgetool.deploy.install import Deployed, Settings, deploy
from edgetool.deploy.transport import Address, Login
from edgetool.deploy.trust import Trust
from edgetool.progress import Silent

SIZES = (50_000, 500_000, 5_000_000)
REPEATS = 7
GOALS = {"emulated.deploy": "<= 30", "emulated.transfer_and_switch": "<= 5"}
TRANSFER_AND_SWITCH = ("packages", "bundle", "trying it out", "placing", "switching")


def main() -> int:
    """Measure; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", action="store_true", help="the bytes alone")
    parser.add_argument("--slice", action="store_true", help="the bytes of one size, for CI; writes nothing")
    options = parser.parse_args()
    reason = why_not()
    if reason is not None:
        print(f"SKIPPED: {reason}")
        return 0 if options.slice else 3
    os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp()  # the list of devices is not the user's
    figures = moved(SIZES[:1] if options.slice else SIZES)
    if options.bytes:
        figures += measured_before()
    elif not options.slice:
        figures += seconds_on_emulated()
    print(table([("deploy", figure) for figure in figures]))
    if not options.slice:
        write("deploy", shlex.join(["python", "-m", "benchmarks.deploy", *sys.argv[1:]]), figures)
    return 1 if any(not figure.met for figure in figures) else 0


def moved(sizes: tuple[int, ...]) -> list[Figure]:
    """Bytes on the line of a second deployment, over what the goal allows for its model."""
    from tests.edgetool.deploy.ssh_device import fake_bundle

    figures = []
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        folder = Path(name)
        with NamespaceDevice(folder / "device") as device:
            bring(fake_bundle(folder / "first.edge", padding=sizes[0]), device.address(), device.login())
            for size in sizes:
                bundle = fake_bundle(folder / f"{size}.edge", padding=size)
                with zipfile.ZipFile(bundle) as archive:
                    model = archive.getinfo("model.fake").compress_size
                carried = asyncio.run(_through(bundle, device))
                allowed = 1.2 * model + 64_000
                goal = f"<= {allowed:.0f}"
                figures.append(Figure(f"moved.model_of_{model}", goal, carried, "B", None, carried <= allowed))
    return figures


async def _through(bundle: Path, device: NamespaceDevice) -> int:
    async with BadLink(device.port, "none", 0) as link:
        await deploy(bundle, device.address(link.port), device.login(link.port), Settings(trust=Trust()), Silent())
        return link.carried


def bring(bundle: Path, address: Address, login: Login) -> Deployed:
    """One deploy, nobody asked who signed it."""
    return asyncio.run(deploy(bundle, address, login, Settings(limit_s=600, trust=Trust()), Silent()))


def seconds_on_emulated() -> list[Figure]:
    """Medians over several deploys to a device that has the packages, with their 95 % bootstrap intervals."""
    from tests.devices.bundles import litert_bundle
    from tests.devices.conftest import Emulated

    device = Emulated("pi5")
    whole, part = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(REPEATS + 1):
            bundle = litert_bundle(Path(folder) / f"{number}.edge", 1 + number / 100)
            done = bring(bundle, device.address, device.login)
            print(f"{number}: {done.seconds}", flush=True)
            if number:  # the first one may bring the packages
                whole.append(sum(done.seconds.values()))
                part.append(sum(done.seconds.get(name, 0.0) for name in TRANSFER_AND_SWITCH))
    return [
        Figure("emulated.deploy", GOALS["emulated.deploy"], *_median(whole), bool(np.median(whole) <= 30)),
        Figure(
            "emulated.transfer_and_switch",
            GOALS["emulated.transfer_and_switch"],
            *_median(part),
            bool(np.median(part) <= 5),
        ),
        Figure("emulated.load_average", "reported", os.getloadavg()[0], "", None, True),
    ]


def _median(values: list[float]) -> tuple[float, str, Interval]:
    drawn = np.random.default_rng(0).choice(values, size=(10_000, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return float(np.median(values)), "s", (float(low), float(high))


def measured_before() -> list[Figure]:
    """The figures of the emulated device that stand in the results already; not met where there are none."""
    path = RESULTS / "deploy.json"
    kept = json.loads(path.read_bytes())["figures"] if path.exists() else []
    found = [from_plain(Figure, one) for one in kept if one["name"].startswith("emulated.")]
    return found or [Figure(name, goal, None, "s", None, met=False) for name, goal in GOALS.items()]


if __name__ == "__main__":
    sys.exit(main())
