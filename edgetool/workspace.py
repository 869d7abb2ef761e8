"""The output folder of a run: who owns it, and what in it is ours."""

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import TextIO

from edge.errors import BadInput, EnvironmentFailed
from edgetool.lock import NAME as LOCK
from edgetool.results import Results
from edgetool.shared_store import SharedStore

_MARK = ".edgetool"
_OURS = ("work", "report.json", "report.html", LOCK)


class Workspace(Results):
    """A folder that holds one run, which owns it until it is closed; finished steps are in its `work`.

    Raises:
        BadInput: the folder holds something that is not a run of edgetool.
        EnvironmentFailed: another run is at work in it.

    """

    def __init__(self, out: Path, *, resume: bool, shared: SharedStore | None = None) -> None:
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
        super().__init__(out / "work", shared)

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
