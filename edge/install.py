"""The device's half of a deploy: one process that holds the lock, receives, tries, and confirms or goes back.

It is asked over its standard input, one JSON line each, behind a line with a `size` that many bytes; it answers on its
standard output with any number of {"step": ...} and then {"done": ...} or {"error": ...}. Where its input ends
before a release is confirmed, because the host or the line died, nothing of the deploy stays. It needs no file of its
own on the device: the host sends it as source. The standard library alone.
"""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

from edge import releases
from edge.durable import sync, write_whole
from edge.errors import BadInput, CheckFailed, DiskFull, EdgetoolError, EnvironmentFailed, is_disk_full
from edge.release_replay import ending, replay
from edge.releases import BUNDLE, CURRENT, PREVIOUS, Release
from edge.wheel import unpack_wheel

PIECE = 1 << 18
SILENCE_S = 300  # a host that says nothing for so long is gone: a line that stalls ends no connection here
STEADY_ANSWERS = 3  # in a row, from one process
BACK = "the release before runs again"
UNIT = "edgetool.service"
UNIT_FOLDER = Path("/etc/systemd/system")

Say = Callable[[str], None]


class Installer:
    """One deploy on one base. `service` is "systemd" or "supervisor": who keeps the release running."""

    def __init__(self, base: Path, service: str, say: Say) -> None:
        self.base = base
        self.service = service
        self.say = say
        self.staging = base / "staging"

    def receive_package(self, source: BinaryIO, size: int, digest: str) -> None:
        """A wheel, unpacked into staging under its hash."""
        wheel = self.staging / "wheel"
        _receive(source, size, digest, wheel)
        folder = self.staging / "packages" / digest
        unpack_wheel(wheel, folder)
        wheel.unlink()
        releases.sync_tree(folder)

    def receive_bundle(self, source: BinaryIO, size: int, wanted: list[tuple[int, int, str]], digest: str) -> None:
        """A bundle of which the segments (offset, size, sha256) that are not here already come, in their order."""
        folder = self.staging / "release"
        folder.mkdir(parents=True, exist_ok=True)
        have = held_segments(self.base)
        left = size
        whole = hashlib.sha256()
        with (folder / BUNDLE).open("wb") as file:
            for _, length, segment in wanted:
                if segment in have:
                    path, offset = have[segment]
                    with path.open("rb") as old:
                        old.seek(offset)
                        content = old.read(length)
                else:
                    content = _read(source, length)
                    left -= length
                whole.update(content)
                file.write(content)
        if left or whole.hexdigest() != digest:
            raise CheckFailed("the bundle that arrived is not the one that was sent", "deploy it again")

    def bench(self, source: BinaryIO, asked: dict[str, Any]) -> Any:
        """Time a model that comes with the request; neither it nor its packages stay."""
        from edge import bench_request

        folder = self.staging / "bench"
        model = folder / asked["name"]
        if model.name != asked["name"]:
            raise BadInput(f"{asked['name']!r} is no file's name")
        _receive(source, asked["size"], asked["sha256"], model)
        places = [self.staging / "packages", self.base / "packages"]
        packages = [place / one for one in asked["packages"] for place in places if (place / one).is_dir()]
        self.say(f"timing {model.name}")
        return bench_request.bench(model, packages, asked["arguments"])

    def commit(self, release: Release, unit: str | None, limit_s: float, max_ms: float | None) -> str:
        """From staging to a confirmed release: place, replay, switch, health."""
        packages = self.base / "packages"
        packages.mkdir(exist_ok=True)
        for digest in release.packages:
            staged = self.staging / "packages" / digest
            if staged.is_dir() and not (packages / digest).exists():
                staged.rename(packages / digest)
            if not (packages / digest).is_dir():
                raise CheckFailed(f"package {digest[:12]} is not on the device", "deploy it again")
        sync(packages)
        self.say("placing")
        name = releases.place(self.base, self.staging / "release", release)
        self.say("replaying the golden vectors")
        replay(self.base, name, limit_s)
        self.try_out(name, unit, limit_s, max_ms)
        return name

    def try_out(self, name: str, unit: str | None, limit_s: float, max_ms: float | None) -> None:
        """Make a release current, and confirm it where its service is healthy; else what was current is again.

        Raises:
            CheckFailed: it is not healthy.

        """
        start = self.base / "start"
        if not start.exists() or start.read_text() != releases.START_SH:
            write_whole(start, releases.START_SH.encode(), 0o755)
        self.say("switching")
        releases.begin_trial(self.base, name)
        try:
            self.say("starting it")
            self._start(unit)
            self.say("checking its health")
            self._healthy(name, limit_s, max_ms)
            self.say("confirming")
            releases.confirm(self.base)
        except BaseException:
            before = releases.revert(self.base)
            if before is None:
                self._stop()
            else:
                self._start(None)
            raise

    def _start(self, unit: str | None) -> None:
        if self.service == "systemd":
            if unit is not None:
                write_whole(UNIT_FOLDER / UNIT, unit.encode(), releases.MODE)
                _systemctl("daemon-reload")
                _systemctl("enable", UNIT)
            _systemctl("restart", "--no-block", UNIT)
        else:
            from edge import supervisor

            supervisor.start(self.base)

    def _stop(self) -> None:
        if self.service == "systemd":
            _systemctl("disable", "--now", UNIT)
            (UNIT_FOLDER / UNIT).unlink(missing_ok=True)
            _systemctl("daemon-reload")
        else:
            from edge import supervisor

            supervisor.stop(self.base)

    def _healthy(self, name: str, limit_s: float, max_ms: float | None) -> None:
        from edge import service

        folder = Path("/run/edgetool") if self.service == "systemd" else self.base / "run"
        until = time.monotonic() + limit_s
        seen: list[dict[str, Any]] = []
        while time.monotonic() < until and len(seen) < STEADY_ANSWERS:
            time.sleep(0.1)
            try:
                answer = service.ask(folder, {"ask": "health"}, max(1.0, until - time.monotonic()))
            except OSError as error:
                if seen:
                    raise CheckFailed(f"release {name} was ready and then ended", BACK) from error
                ended = self._ended(name)
                if ended:
                    raise CheckFailed(f"release {name}: {ended}", BACK) from error
                continue
            if answer.get("release") != name:
                continue
            if seen and answer["pid"] != seen[-1]["pid"]:
                raise CheckFailed(f"release {name} was ready and then ended", BACK)
            if not answer["ok"]:
                raise CheckFailed(
                    f"release {name}: output {answer['outside'][0]!r} is not what it was when it was made"
                )
            seen.append(answer)
        if len(seen) < STEADY_ANSWERS:
            raise CheckFailed(f"release {name} is not healthy after {limit_s:g} s", BACK)
        best = min(answer["ms"] for answer in seen)
        if max_ms is not None and best > max_ms:
            raise CheckFailed(f"release {name} answers in {best:.3g} ms; {max_ms:g} is the limit", "see --max-ms")

    def _ended(self, name: str) -> str | None:
        """Why the service cannot be expected to come up; None while it may."""
        if self.service == "systemd":
            failed = subprocess.run(["systemctl", "is-failed", "--quiet", UNIT], check=False).returncode == 0
            return "systemd gave up starting it" if failed else None
        from edge import supervisor

        state = supervisor.supervised(self.base)
        if state.get("release") != name or state["last_exit"] is None:
            return None
        return f"its service ended by {ending(state['last_exit'])}"


def held_segments(base: Path) -> dict[str, tuple[Path, int]]:
    """The segments of bundles that are here and whole, by hash."""
    found: dict[str, tuple[Path, int]] = {}
    for link in (PREVIOUS, CURRENT):
        name = releases.pointed(base, link)
        if name is not None:
            with contextlib.suppress(CheckFailed):
                release = releases.check(base, name)
                path = base / "releases" / name / BUNDLE
                found |= {digest: (path, offset) for offset, _, digest in release.segments}
    return found


def _receive(source: BinaryIO, size: int, digest: str, path: Path) -> None:
    got = hashlib.sha256()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        while size:
            piece = _read(source, min(size, PIECE))
            got.update(piece)
            file.write(piece)
            size -= len(piece)
    if got.hexdigest() != digest:
        raise CheckFailed("a package that arrived is not the one that was sent", "deploy it again")


def _read(source: BinaryIO, size: int) -> bytes:
    signal.alarm(SILENCE_S)
    content = source.read(size)
    signal.alarm(0)
    if len(content) != size:
        raise EOFError
    return content


def _line(source: BinaryIO) -> bytes:
    signal.alarm(SILENCE_S)
    line = source.readline()
    signal.alarm(0)
    return line


def _systemctl(*words: str) -> None:
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise EnvironmentFailed(f"systemctl {words[0]} failed: {done.stderr.strip()}")


def session(source: BinaryIO, say: Callable[[dict[str, Any]], None]) -> None:
    """Answer until the input ends."""
    first = json.loads(source.readline() or b"null")
    if first is None:
        return
    base = Path(first["base"]).expanduser()
    made = _make(base)
    try:
        with releases.locked(base):
            try:
                if releases.revert(base) is None and releases.pointed(base, CURRENT) is None:
                    made = [base, *(folder for folder in made if folder != base)]
                releases.sweep(base)
                installer = Installer(base, first["service"], lambda step: say({"step": step}))
                say({"done": _holdings(base)})
                while line := _line(source):
                    say({"done": _one(installer, json.loads(line), source)})
            finally:
                releases.revert(base)
                releases.sweep(base)
                if releases.pointed(base, CURRENT) is None:
                    shutil.rmtree(base)
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _one(installer: Installer, asked: dict[str, Any], source: BinaryIO) -> Any:
    base, do = installer.base, asked["do"]
    if do == "package":
        installer.staging.mkdir(exist_ok=True)
        return installer.receive_package(source, asked["size"], asked["sha256"])
    if do == "bench":
        return installer.bench(source, asked)
    if do == "bundle":
        segments = [(a, b, c) for a, b, c in asked["segments"]]
        return installer.receive_bundle(source, asked["size"], segments, asked["sha256"])
    if do == "commit":
        plain = asked["release"]
        segments = [(a, b, c) for a, b, c in plain["segments"]]
        start = hashlib.sha256(releases.START_PY.encode()).hexdigest()
        tuples = {"packages": tuple(plain["packages"]), "segments": tuple(segments), "keys": tuple(plain["keys"])}
        release = Release(**{**plain, "start": start, **tuples})
        return installer.commit(release, asked["unit"], asked["limit_s"], asked["max_ms"])
    if do == "rollback":
        name = releases.pointed(base, PREVIOUS)
        if name is None:
            raise BadInput("there is no release to go back to", "only one was ever deployed and confirmed")
        installer.say("replaying the golden vectors")
        replay(base, name, asked["limit_s"])
        installer.try_out(name, asked["unit"], asked["limit_s"], asked["max_ms"])
        return name
    if do == "check":
        name = releases.pointed(base, CURRENT)
        return None if name is None else releases.check(base, name).bundle
    raise BadInput(f"unknown request {do!r}")


def _holdings(base: Path) -> dict[str, Any]:
    space = os.statvfs(base)
    return {
        "packages": sorted(path.name for path in (base / "packages").glob("*")),
        "segments": sorted(held_segments(base)),
        "current": releases.pointed(base, CURRENT),
        "free_bytes": space.f_bavail * space.f_frsize,
    }


def _make(base: Path) -> list[Path]:
    """Make the folders to `base`; those that were not there, the innermost first."""
    made = [folder for folder in (base, *base.parents) if not folder.exists()]
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFailed(
            f"cannot make {base}: {error.strerror}", "give another: ssh://user@host/FOLDER"
        ) from error
    return made


def _raise(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main() -> int:
    """One session on standard input and output."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, _raise)
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        output.write(json.dumps(answer) + "\n")
        output.flush()

    try:
        session(sys.stdin.buffer, say)
    except EdgetoolError as error:
        failed: EdgetoolError = error
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            return 3
        kind = DiskFull if is_disk_full(error) else EnvironmentFailed
        failed = kind(f"the device: {error.strerror} ({error.filename})", "edgetool doctor DEVICE shows its disk")
    except (EOFError, SystemExit):
        return 3  # the host is gone
    else:
        return 0
    with contextlib.suppress(OSError):
        say({"error": failed.message, "hint": failed.hint, "kind": type(failed).__name__})
    return failed.exit_code
