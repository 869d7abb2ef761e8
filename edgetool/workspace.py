"""The output folder of a run: who owns it, and the results of finished steps that `--resume` takes up again."""

import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from edge.artifact import Artifact, sha256_of
from edge.errors import BadInput, CheckFailed, EnvironmentFailed
from edge.report import from_plain
from edgetool.passes.step import PassResult

_MARK = ".edgetool"
# Where a pass leaves an interrupted training, in the folder that it is given.
KEPT = "interrupted"
_OURS = ("work", "report.json", "report.html")


class Workspace:
    """A folder that holds one run. Results appear in it whole or not at all (written beside, then renamed).

    Raises:
        BadInput: the folder holds something that is not a run of edgetool.
        EnvironmentFailed: another run is at work in it.

    """

    def __init__(self, out: Path, *, resume: bool) -> None:
        require_usable(out)
        mark = out / _MARK
        self.out = out
        self._created = [folder for folder in (out, *out.parents) if not folder.exists()]
        out.mkdir(parents=True, exist_ok=True)
        self._lock: TextIO = mark.open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise EnvironmentFailed(f"another run is at work in {out}", "wait for it, or give another --out") from error
        if not resume:
            self._clear()
        self.work = out / "work"
        self.work.mkdir(exist_ok=True)

    def close(self) -> None:
        """Lets another run use the folder."""
        self._lock.close()

    def discard(self) -> None:
        """Removes all that this run put there: bad input leaves nothing behind."""
        self._clear()
        (self.out / _MARK).unlink(missing_ok=True)
        self._lock.close()
        for folder in self._created:
            try:
                folder.rmdir()
            except OSError:
                return

    def cached_pass(self, key: str, make: Callable[[Path], PassResult]) -> PassResult:
        """The finished result for `key`, or what `make(folder)` now makes, kept for the next time.

        A training that was interrupted is kept in the folder, and the next `make` finds it there.
        """
        done = self.work / key
        if (done / "result.json").is_file():
            return _read_result(done)
        making = self.work / f".making-{key}"
        _empty_but_interrupted(making)
        try:
            result = make(making)
            shutil.rmtree(making / KEPT, ignore_errors=True)
            plain = dataclasses.asdict(result)
            plain["artifact"]["path"] = result.artifact.path.relative_to(making).as_posix()
            (making / "result.json").write_text(json.dumps(plain))
        except (BadInput, CheckFailed):
            shutil.rmtree(making, ignore_errors=True)  # it would end the same from there
            raise
        except BaseException:
            if (making / KEPT).is_dir():
                _empty_but_interrupted(making)
            else:
                shutil.rmtree(making, ignore_errors=True)
            raise
        shutil.rmtree(done, ignore_errors=True)
        making.rename(done)
        return _read_result(done)

    def cached_file(self, name: str, make: Callable[[], bytes]) -> bytes:
        """The bytes kept under `name`, or what `make()` now gives, kept for the next time."""
        path = self.work / name
        if path.is_file():
            return path.read_bytes()
        content = make()
        write_whole(path, content)
        return content

    def clear_shipped(self) -> None:
        """Remove the bundle and the shipped files of the run before, as its report.json names them."""
        try:
            report = json.loads((self.out / "report.json").read_text())
            files = [row["file"] for row in (report["baseline"], *report["candidates"])]
        except (OSError, ValueError, KeyError, TypeError):
            return  # no run has finished here
        for name in files:
            if "/" not in name:
                (self.out / name).unlink(missing_ok=True)
                (self.out / name).with_suffix(".edge").unlink(missing_ok=True)

    def _clear(self) -> None:
        self.clear_shipped()
        for name in _OURS:
            path = self.out / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _empty_but_interrupted(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.is_dir() and path.name != KEPT:
            shutil.rmtree(path, ignore_errors=True)
        elif not path.is_dir():
            path.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    beside = path.with_name(f".{path.name}.part")
    try:
        with beside.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def require_usable(out: Path) -> None:
    """Raise BadInput where `out` is a file, or a folder that holds something that is not a run of edgetool."""
    if out.exists() and not out.is_dir():
        raise BadInput(f"the output {out} is a file", "give a folder with --out")
    if out.is_dir() and any(out.iterdir()) and not (out / _MARK).is_file():
        raise BadInput(f"the output folder {out} holds something else", "give an empty or a new folder with --out")
    require_writable(out)


def require_writable(path: Path) -> None:
    """Raise EnvironmentFailed where `path` cannot be written, or the nearest thing above it that exists is no folder
    that can.
    """
    existing = next(place for place in (path, *path.absolute().parents) if place.exists())
    if existing != path and not existing.is_dir():
        raise BadInput(f"{existing} is a file, not a folder", "choose another place with --out")
    if not os.access(existing, os.W_OK):
        raise EnvironmentFailed(f"{existing} cannot be written", "choose another place with --out")


def key_of(*parts: Any) -> str:
    """A short name for a combination of plain values: the same parts give the same key."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:24]


def _read_result(folder: Path) -> PassResult:
    plain = json.loads((folder / "result.json").read_text())
    result: PassResult = from_plain(PassResult, plain)
    path = folder / plain["artifact"]["path"]
    artifact: Artifact = dataclasses.replace(result.artifact, path=path)
    if sha256_of(path) != artifact.sha256:
        raise EnvironmentFailed(f"{path} was changed since it was made", "run again without --resume")
    return PassResult(artifact, result.skipped)
