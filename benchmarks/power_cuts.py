"""Whether a device is ever broken: by power that goes, by a disk that fills, by a line that fails, at each step.

    python -m benchmarks.power_cuts --workers 2      200 cuts, and the rest; kept in out/power_cuts, so it can go on
    python -m benchmarks.power_cuts --kept           the figures of a run that was cut short
    python -m benchmarks.power_cuts --slice          a few of each, for CI; writes nothing

The device is namespaces of this machine with a real sshd (benchmarks/namespace_device.py): its processor is this
machine's, and its page cache survives. Three bundles with a model of 200 kB each take turns, so that none that is
deployed is on the device already. Two of three cuts come exactly before an operation on the file system that the deploy
is about to do, spread evenly over all of them; the others at random times of the update, which are mostly in the replay
and in the health check. After each the device starts again, and has to answer with exactly the old or exactly the new
release, every hash of it checked, without staging and without a trial.
"""

import argparse
import asyncio
import contextlib
import functools
import json
import multiprocessing
import os
import random
import shlex
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bad_link import BadLink, Fault
from benchmarks.figures import Figure, table, write
from benchmarks.namespace_device import NamespaceDevice, why_not
from edge.bundle import read_bundle
from edge.durable import write_whole
from edge.errors import CheckFailed, EdgetoolError

REPOSITORY = Path(__file__).resolve().parent.parent
OUT = REPOSITORY / "out" / "power_cuts"
CUTS, FULL, LINKS = 200, 20, {"die": 20, "corrupt": 10, "stall": 5}
SLICE_CUTS, SLICE_FULL, SLICE_LINKS = 3, 1, {"die": 1}
DISK_BYTES = 256 << 20


@dataclass(frozen=True)
class Outcome:
    """The fault `number` of its kind: where it came, and which release the device had afterwards (None: neither, why is
    in `failed`).
    """

    number: int
    at: str
    release: str | None
    failed: str | None = None


class Updates:
    """A device and the bundles that it is updated to in turn."""

    def __init__(self, device: NamespaceDevice, bundles: list[Path]) -> None:
        from edgetool.deploy.install import Settings
        from edgetool.deploy.trust import Trust

        self.device, self.bundles = device, bundles
        self.settings = Settings(limit_s=120, trust=Trust())
        self.digests = [_sha256(one) for one in bundles]

    def deploy(self, bundle: Path, port: int | None = None) -> None:
        """One deploy. Raises EdgetoolError where it was not confirmed."""
        asyncio.run(self.deploying(bundle, port))

    async def deploying(self, bundle: Path, port: int | None = None) -> None:
        """The same inside a loop that runs already."""
        from edgetool.deploy.install import deploy
        from edgetool.progress import Silent

        await deploy(bundle, self.device.address(port), self.device.login(port), self.settings, Silent())

    @property
    def next(self) -> Path:
        """A bundle that is not on the device."""
        return self.bundles[(self.digests.index(self.device.require_whole()) + 1) % len(self.bundles)]

    def judge(self, number: int, at: str, new: Path) -> Outcome:
        """Which release the device has; it has to be a whole one."""
        try:
            found = self.device.require_whole()
        except CheckFailed as error:
            return Outcome(number, at, None, str(error))
        return Outcome(number, at, "new" if found == _sha256(new) else "old")


def main() -> int:
    """Break it in every way; 1 where a device was neither old nor new."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", action="store_true", help="a few of each, for CI; writes nothing")
    parser.add_argument("--kept", action="store_true", help="break nothing more: the figures of what is kept")
    parser.add_argument("--workers", type=int, default=1, help="devices that are broken side by side")
    options = parser.parse_args()
    reason = None if options.kept else why_not()
    if reason is not None:
        print(f"SKIPPED: {reason}")
        return 0 if options.slice else 3
    cuts, full = (SLICE_CUTS, SLICE_FULL) if options.slice else (CUTS, FULL)
    links = SLICE_LINKS if options.slice else LINKS
    work: list[tuple[str, int, Faults]] = [
        ("cut", cuts, cut_power),
        ("full disk", full, fill_disk),
        *((f"line: {fault}", count, functools.partial(break_line, fault)) for fault, count in links.items()),
    ]
    kept: dict[str, list[Outcome]] = {} if options.slice else _kept()
    for kind, wanted, faults in () if options.kept else work:
        done = kept.setdefault(kind, [])
        for outcome in _side_by_side(faults, wanted, {one.number for one in done}, options.workers):
            done.append(outcome)
            print(f"{kind:<14}{len(done):>4}  {outcome.at:<44} {outcome.release or outcome.failed}", flush=True)
            if not options.slice:
                _keep(kept)
    figures = [figure for kind, wanted, _ in work for figure in summed_up(kind, kept.get(kind, []), wanted)]
    print(table([("power_cuts", figure) for figure in figures]))
    if not options.slice:
        write("power_cuts", shlex.join(["python", "-m", "benchmarks.power_cuts", *sys.argv[1:]]), figures)
    return 1 if any(not figure.met for figure in figures) else 0


Faults = Callable[[int, list[int]], Iterator[Outcome]]


def _side_by_side(faults: Faults, wanted: int, done: set[int], workers: int) -> Iterator[Outcome]:
    """Every fault that is not done yet, each worker in a process and with a device of its own."""
    # in a fixed random order, so that a run that is cut short has been everywhere
    left = [number for number in random.Random(wanted).sample(range(wanted), wanted) if number not in done]
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[Outcome | None] = context.Queue()
    shares = [share for share in (left[first::workers] for first in range(workers)) if share]
    processes = [context.Process(target=_work, args=(faults, wanted, share, queue)) for share in shares]
    for process in processes:
        process.start()
    for _ in range(len(left) + len(processes)):
        outcome = queue.get()
        if outcome is not None:
            yield outcome
    for process in processes:
        process.join()


def _work(faults: Faults, wanted: int, share: list[int], queue: "multiprocessing.Queue[Outcome | None]") -> None:
    with tempfile.TemporaryDirectory() as state:
        os.environ["XDG_STATE_HOME"] = state  # the list of devices is not the user's
        told = 0
        try:
            for outcome in faults(wanted, share):
                queue.put(outcome)
                told += 1
        finally:
            for lost in share[told:]:
                queue.put(Outcome(lost, "not reached", None, "the program failed: see its output"))
            queue.put(None)


@contextlib.contextmanager
def updated_device(disk_bytes: int | None = None) -> Iterator[Updates]:
    """A device that has two bundles behind it and runs the second of three."""
    from tests.edgetool.deploy.ssh_device import fake_bundle

    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        folder = Path(name)
        bundles = [fake_bundle(folder / f"{number}.edge", padding=200_000) for number in range(3)]
        with NamespaceDevice(folder / "device", disk_bytes) as device:
            updates = Updates(device, bundles)
            for bundle in bundles[:2]:
                updates.deploy(bundle)
            yield updates


def cut_power(wanted: int, numbers: list[int]) -> Iterator[Outcome]:
    """Two of three before an operation, each third at a random time."""
    with updated_device() as updates:
        device = updates.device
        device.reach(0)
        began = time.monotonic()
        updates.deploy(updates.next)
        whole = time.monotonic() - began
        total = len(device.operations())
        for number in numbers:
            draw = random.Random(number)
            new = updates.next
            timed = number % 3 == 2
            # evenly over all operations, and the one after the last: nothing left to cut
            at = 0 if timed else 1 + (number - number // 3) * total // max(1, wanted - wanted // 3)
            device.reach(at)
            moment = draw.uniform(0, whole)
            began = time.monotonic()
            worker = _in_background(lambda new=new: updates.deploy(new))  # type: ignore[misc]  # bound early
            while worker.is_alive() and not device.reached and not (timed and time.monotonic() > began + moment):
                time.sleep(0.002)
            finished = not worker.is_alive()
            device.cut()
            worker.join()
            what = f"at {moment:.2f} s" if timed else f"before {at} of {total}: {_operation(device, at)}"
            device.boot()
            yield updates.judge(number, ("after it, " if finished else "") + what, new)


def fill_disk(wanted: int, numbers: list[int]) -> Iterator[Outcome]:
    """The disk has no byte left from before an operation on until the deploy is over."""
    with updated_device(DISK_BYTES) as updates:
        device = updates.device
        device.reach(0)
        updates.deploy(updates.next)
        total = len(device.operations())
        for number in numbers:
            new = updates.next
            at = 1 + number * total // wanted
            device.reach(at)
            worker = _in_background(lambda new=new: updates.deploy(new))  # type: ignore[misc]  # bound early
            while worker.is_alive() and not device.reached:
                time.sleep(0.002)
            ballast = device.disk / "ballast"
            _fill(ballast)
            device.go_on()
            worker.join()
            ballast.unlink()
            yield updates.judge(number, f"before {at} of {total}: {_operation(device, at)}", new)


def break_line(fault: Fault, wanted: int, numbers: list[int]) -> Iterator[Outcome]:
    """The line fails after so many bytes of an update, counted over both directions."""
    with updated_device() as updates:
        device = updates.device
        device.reach(0)
        total = asyncio.run(_through(updates, updates.next, "none", 0))
        for number in numbers:
            new = updates.next
            after = (number * total + total // 2) // wanted
            with contextlib.suppress(EdgetoolError):
                asyncio.run(_through(updates, new, fault, after))
            yield updates.judge(number, f"after {after} of {total} bytes", new)


async def _through(updates: Updates, bundle: Path, fault: Fault, after: int) -> int:
    async with BadLink(updates.device.port, fault, after) as link:
        await updates.deploying(bundle, link.port)
        return link.carried


def summed_up(kind: str, done: list[Outcome], wanted: int) -> list[Figure]:
    """How many came (of `wanted`), how many ended old and new, and the share of neither, with its interval."""
    name = kind.replace(": ", "_").replace(" ", "_")
    count = {which: sum(one.release == which for one in done) for which in ("old", "new", None)}
    broken, n = count[None], len(done)
    return [
        Figure(f"{name}.faults", f">= {wanted}", n, "", None, n >= wanted),
        Figure(f"{name}.ended_old", "reported", count["old"], "", None, True),
        Figure(f"{name}.ended_new", "reported", count["new"], "", None, True),
        Figure(
            f"{name}.broken_share",
            "<= 0",
            broken / n if n else None,
            "",
            _exact(broken, n) if n else None,
            n > 0 and broken == 0,
        ),
    ]


def _exact(k: int, n: int) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval of a share."""
    from scipy.stats import beta

    low = 0.0 if k == 0 else float(beta.ppf(0.025, k, n - k + 1))
    return low, 1.0 if k == n else float(beta.ppf(0.975, k + 1, n - k))


def _in_background(work: Callable[[], None]) -> threading.Thread:
    def quietly() -> None:
        with contextlib.suppress(EdgetoolError):
            work()

    thread = threading.Thread(target=quietly)
    thread.start()
    return thread


def _operation(device: NamespaceDevice, at: int) -> str:
    did = device.operations()
    return did[at - 1] if 0 < at <= len(did) else "not reached"


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1 << 20)):
            pass
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(512)):
            pass


def _sha256(bundle: Path) -> str:
    import hashlib

    return hashlib.sha256(read_bundle(bundle)).hexdigest()


def _kept() -> dict[str, list[Outcome]]:
    path = OUT / "outcomes.json"
    plain = json.loads(path.read_bytes()) if path.exists() else {}
    return {kind: [Outcome(**one) for one in done] for kind, done in plain.items()}


def _keep(kept: dict[str, list[Outcome]]) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    plain = {kind: [vars(one) for one in done] for kind, done in kept.items()}
    write_whole(OUT / "outcomes.json", json.dumps(plain, indent=1).encode())


if __name__ == "__main__":
    sys.exit(main())
