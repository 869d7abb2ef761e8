"""Releases on a device: what runs, what ran before, and the way between the two that power may cut at any instant.

    BASE/packages/SHA256/    a wheel, unpacked, by the hash of the wheel; shared by releases
    BASE/releases/NNNN-ID/   bundle.edge, release.json, start.py, trusted-N.pem; never changed once it stands there
    BASE/staging/            what a deploy is receiving; whoever finds it without that deploy removes it
    BASE/current, last-good, previous    symbolic links into releases/
    BASE/trial.json          a release is being tried, and what has to stand again where it is not confirmed
    BASE/lock                held by the deploy that is at work

A link is replaced by a rename, after everything behind it is on the disk. A trial is confirmed by removing its marker:
before that instant the old release comes back, after it the new one stays. The standard library alone.
"""

import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from edge.durable import sync, write, write_whole
from edge.errors import BadInput, CheckFailed, EnvironmentFailed

MODE = 0o644  # of what it writes, whatever the umask
BUNDLE, ABOUT, START = "bundle.edge", "release.json", "start.py"
CURRENT, LAST_GOOD, PREVIOUS = "current", "last-good", "previous"
TRIAL, LOCK = "trial.json", "lock"
_NAME = re.compile(r"\d{4,}-[0-9a-f]{12}")

START_PY = """\
import json, os, runpy, sys
here = os.path.dirname(os.path.realpath(__file__))
base = os.path.dirname(os.path.dirname(here))
with open(os.path.join(here, "release.json"), encoding="utf-8") as file:
    packages = json.load(file)["packages"]
paths = [os.path.join(base, "packages", name) for name in packages]
sys.path[:0] = paths
os.environ.update(PYTHONPATH=os.pathsep.join(paths), PYTHONNOUSERSITE="1")
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
# Recovery is the code of the release that was good: one that is being tried may be unable to run at all
START_SH = """\
#!/bin/sh
# Made by edgetool deploy. Puts right what a cut deploy left, then runs module $1 of the current release, if given.
cd "$(dirname "$(readlink -f "$0")")" || exit 1
good=last-good
[ -e "$good/start.py" ] || good=current
python3 -I "$good/start.py" edge.releases recover "$PWD" || exit 1
[ -z "$1" ] || exec python3 -I current/start.py "$1" "$PWD"
"""


@dataclass(frozen=True)
class Release:
    """What `release.json` says: sha256 of the bundle and of start.py, the packages' hashes in import order, and the
    bundle's segments (offset, size, sha256), by which an update finds what is there already.

    `keys` are the PEM texts of who may have signed the bundle (empty: nobody is asked), `signer` the sha256 of the key
    that did.
    """

    bundle: str
    start: str
    packages: tuple[str, ...]
    segments: tuple[tuple[int, int, str], ...]
    name: str
    python: str
    keys: tuple[str, ...] = ()
    signer: str | None = None


@dataclass(frozen=True)
class Trial:
    """A release that is not confirmed, and where the links have to lead if it never is."""

    release: str
    current: str | None
    previous: str | None


@contextlib.contextmanager
def locked(base: Path) -> Iterator[None]:
    """Be the only deploy (or recovery) at work on this base.

    Raises:
        EnvironmentFailed: another one is.

    """
    while True:
        handle = os.open(base / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(handle).st_ino == (base / LOCK).stat().st_ino:
                    break
        except BlockingIOError as error:
            who = os.pread(handle, 100, 0).decode(errors="replace").strip()
            os.close(handle)
            raise EnvironmentFailed(
                f"another deploy is at work on this device ({who})", "wait for it to end"
            ) from error
        os.close(handle)  # the one before removed the folder while it ended: open the new one
    try:
        os.truncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def pointed(base: Path, link: str) -> str | None:
    """The release that a link leads to, None where there is no such link."""
    try:
        return Path((base / link).readlink()).name
    except FileNotFoundError:
        return None


def point(base: Path, link: str, release: str | None) -> None:
    """Lead a link to a release (None: to nothing), at one instant and for good."""
    if release is None:
        (base / link).unlink(missing_ok=True)
    else:
        fresh = base / f".{link}.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(Path("releases") / release)
        fresh.replace(base / link)
    sync(base)


def read_release(base: Path, name: str) -> Release:
    """What a release says of itself.

    Raises:
        CheckFailed: it is damaged.

    """
    try:
        data = json.loads((base / "releases" / name / ABOUT).read_bytes())
        segments = tuple((int(a), int(b), str(c)) for a, b, c in data["segments"])
        keys = tuple(str(key) for key in data.get("keys", ()))
        return Release(**{**data, "packages": tuple(data["packages"]), "segments": segments, "keys": keys})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckFailed(
            f"release {name} is damaged: {error}", "edgetool deploy puts a good one in its place"
        ) from error


def check(base: Path, name: str) -> Release:
    """The release is as it was installed.

    Raises:
        CheckFailed: a file of it was changed since, or a package is gone.

    """
    release = read_release(base, name)
    keys = [(_key_name(i), hashlib.sha256(key.encode()).hexdigest()) for i, key in enumerate(release.keys)]
    for file, digest in ((BUNDLE, release.bundle), (START, release.start), *keys):
        path = base / "releases" / name / file
        if not path.is_file() or sha256(path) != digest:
            raise CheckFailed(f"release {name}: {file} was changed by hand", "edgetool deploy installs it again")
    gone = [one for one in release.packages if not (base / "packages" / one).is_dir()]
    if gone:
        raise CheckFailed(f"release {name}: package {gone[0][:12]} is gone", "edgetool deploy installs it again")
    return release


def trusted(base: Path, name: str) -> tuple[list[Path], list[Path]]:
    """The public keys and the certificates by which a release's bundle is checked before it is parsed."""
    keys: list[Path] = []
    certificates: list[Path] = []
    for number, text in enumerate(read_release(base, name).keys):
        which = certificates if "-----BEGIN CERTIFICATE-----" in text else keys
        which.append(base / "releases" / name / _key_name(number))
    return keys, certificates


def place(base: Path, staged: Path, release: Release) -> str:
    """Put a received release (a folder with its bundle) among the others, not yet run, and return its name."""
    folder = base / "releases"
    folder.mkdir(exist_ok=True)
    numbers = [int(path.name.split("-")[0]) for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    content = json.dumps(asdict(release), sort_keys=True).encode()
    name = f"{max(numbers, default=0) + 1:04d}-{hashlib.sha256(content).hexdigest()[:12]}"
    write(staged / START, START_PY.encode(), MODE)
    for number, key in enumerate(release.keys):
        write(staged / _key_name(number), key.encode(), MODE)
    write(staged / ABOUT, content, MODE)
    sync_tree(staged)
    staged.rename(folder / name)
    sync(folder)
    return name


def begin_trial(base: Path, name: str) -> Trial:
    """Make `name` current, with a marker that says so: until `confirm`, whoever finds it alone goes back."""
    trial = Trial(name, pointed(base, CURRENT), pointed(base, PREVIOUS))
    write_whole(base / TRIAL, json.dumps(asdict(trial)).encode(), MODE)
    point(base, CURRENT, name)
    return trial


def confirm(base: Path) -> None:
    """The trial was good: its release is the last good one, and what ran before it is the previous one."""
    trial = read_trial(base)
    if trial is None:
        return
    if trial.current != trial.release:
        point(base, PREVIOUS, trial.current)
    point(base, LAST_GOOD, trial.release)
    (base / TRIAL).unlink()
    sync(base)


def revert(base: Path) -> str | None:
    """End a trial as if it had never been; the release that is current then."""
    trial = read_trial(base)
    if trial is not None:
        point(base, CURRENT, trial.current)
        point(base, LAST_GOOD, trial.current)
        point(base, PREVIOUS, trial.previous)
        (base / TRIAL).unlink()
        sync(base)
    return pointed(base, CURRENT)


def read_trial(base: Path) -> Trial | None:
    """The trial that is not confirmed, None where none is."""
    try:
        return Trial(**json.loads((base / TRIAL).read_bytes()))
    except FileNotFoundError:
        return None


def sweep(base: Path) -> None:
    """Remove what no link leads to: staging, releases, packages. Only the holder of the lock may."""
    trial = read_trial(base)
    kept = {pointed(base, link) for link in (CURRENT, LAST_GOOD, PREVIOUS)}
    if trial is not None:
        kept |= {trial.release, trial.current, trial.previous}
    shutil.rmtree(base / "staging", ignore_errors=True)
    for path in _entries(base / "releases"):
        if path.name not in kept:
            shutil.rmtree(path)
    needed: set[str] = set()
    for path in _entries(base / "releases"):
        try:
            needed |= set(read_release(base, path.name).packages)
        except CheckFailed:  # damaged: which packages it had cannot be known, so none is removed
            return
    for path in _entries(base / "packages"):
        if path.name not in needed:
            shutil.rmtree(path)


def interrupted(base: Path) -> bool:
    """Whether a deploy left something and no deploy is at work."""
    if not (base / TRIAL).exists() and not (base / "staging").exists():
        return False
    try:
        handle = os.open(base / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True


def recover(base: Path) -> str:
    """Put right what a cut deploy left, and say what was done. Nothing is touched while a deploy is at work."""
    try:
        with locked(base):
            trial = read_trial(base)
            current = revert(base)
            sweep(base)
    except EnvironmentFailed:
        return "a deploy is at work"
    if trial is None:
        return f"{current} is current"
    return f"{trial.release} was never confirmed: {current or 'nothing'} is current again"


def sync_tree(path: Path) -> None:
    """Everything in a folder is on the disk (syncfs(2): an fsync for each file of a wheel takes minutes)."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(handle):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """The hash of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _key_name(number: int) -> str:
    return f"trusted-{number}.pem"


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def main(arguments: list[str]) -> int:
    """`python -m edge.releases recover BASE`, what runs at each start."""
    if len(arguments) != 2 or arguments[0] != "recover":
        raise BadInput("usage: python -m edge.releases recover BASE")
    sys.stderr.write(recover(Path(arguments[1])) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
