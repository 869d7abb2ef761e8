"""Compiled models kept on disk: TensorRT engines, OpenVINO blobs, QNN context binaries.

An entry is a folder named by the sha256 of all that went into it (model, delegate, settings, versions, device). Its
manifest, written last, holds the sha256 of every file: a runtime may load a damaged file without a word (one flipped
byte of a QNN context binary passes), so an entry is checked before every use, and removed and rebuilt where it does
not hold. A disk that is full or cannot be written costs the cache, never the model.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edge.durable import write_whole

MANIFEST = "manifest.json"
LIMIT_BYTES = 2 << 30


class Entry:
    """One compiled model. `folder` is None where nothing can be kept; `story` says what came of it.

    `complete` is True where the files hold: use them. Else compile into `folder`, then `seal`.
    """

    def __init__(self, folder: Path | None, key: str, limit_bytes: int) -> None:
        self.folder = folder
        self.complete = False
        self.notes: Mapping[str, Any] = {}
        self.story = "built and kept"
        self._key = key
        self._limit_bytes = limit_bytes
        self._stamps: Mapping[str, tuple[int, int]] = {}

    def check(self) -> None:
        """Compare the files with the manifest, and remove them where they do not hold."""
        if self.folder is None or not any(self.folder.iterdir()):
            return
        fault, notes = _verify(self.folder, self._key)
        if fault is None:
            self.complete, self.notes, self.story = True, notes, "from the cache"
            self._stamps = _stamps(self.folder)
            with contextlib.suppress(OSError):
                os.utime(self.folder)  # the clock of "least recently used"
        else:
            self.discard(fault)

    def discard(self, fault: str) -> None:
        """Remove what there is; the next `seal` records why."""
        self.complete, self.story = False, f"rebuilt: {fault}"
        if self.folder is not None:
            try:
                _empty(self.folder)
            except OSError as error:
                self.give_up(f"{error.strerror}")

    def give_up(self, fault: str) -> None:
        """Go on without the cache."""
        self.folder, self.complete, self.story = None, False, f"not kept: {fault}"

    def seal(self, notes: Mapping[str, Any]) -> None:
        """Write the manifest over the files that were compiled into the folder, then make room.

        A complete entry is only sealed again where the runtime wrote into it: it did not take what was kept, or added
        to it.
        """
        if self.folder is None:
            return
        try:
            if self.complete:
                stamps = _stamps(self.folder)
                if stamps == self._stamps:
                    return
                if set(stamps) != set(self._stamps):
                    self.story = "rebuilt: the runtime did not take what was kept"
            files = {name: _sha256(self.folder / name) for name in _files(self.folder)}
            if not files:
                self.give_up("the runtime wrote no file")
                return
            manifest = {"key": self._key, "files": files, "notes": dict(notes)}
            write_whole(self.folder / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True).encode())
            make_room(self.folder.parent, self._limit_bytes, keep=self.folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                _empty(self.folder)
            self.give_up(error.strerror or type(error).__name__)


@contextlib.contextmanager
def compiled(parts: Mapping[str, str], folder: Path | None = None, limit_bytes: int = LIMIT_BYTES) -> Iterator[Entry]:
    """The entry for what `parts` names, locked against other processes inside the block.

    `folder` is where entries lie, `cache_folder()` by default.
    """
    key = hashlib.sha256(json.dumps(dict(parts), sort_keys=True).encode()).hexdigest()
    root = folder or cache_folder()
    descriptor = None
    try:
        descriptor = _locked(root / key)
        entry = Entry(root / key, key, limit_bytes)
        entry.check()
        if entry.folder is not None and not os.access(entry.folder, os.W_OK) and not entry.complete:
            entry.give_up("the cache folder is read-only")
    except OSError as error:
        entry = Entry(None, key, limit_bytes)
        entry.give_up(error.strerror or type(error).__name__)
    try:
        yield entry
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                (root / key).rmdir()  # empty where nothing was made
            os.close(descriptor)


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/edgetool/compiled, or its usual place below the home folder."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if os.path.isabs(home) else Path.home() / ".cache") / "edgetool" / "compiled"  # noqa: PTH117  # an empty text is no path


def make_room(root: Path, limit_bytes: int, keep: Path | None = None) -> None:
    """Remove entries that no process holds, least recently used first, until all have at most `limit_bytes`."""
    entries = sorted((p for p in root.iterdir() if p.is_dir()), key=lambda path: path.stat().st_mtime)
    sizes = {path: sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) for path in entries}
    total = sum(sizes.values())
    for path in entries:
        if total <= limit_bytes:
            return
        if path == keep:
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                gone = path.with_name(f".gone-{uuid.uuid4().hex}")  # a name that no waiting process takes for the entry
                path.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)
                total -= sizes[path]
            finally:
                os.close(descriptor)


def _locked(path: Path) -> int:
    """An open, locked descriptor of the folder `path`, which is made where it is missing."""
    while True:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # another process may have removed the folder while this one waited for it
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)


def _verify(folder: Path, key: str) -> tuple[str | None, Mapping[str, Any]]:
    """What is wrong with an entry (None: nothing), and its notes."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        files, notes = dict(manifest["files"]), dict(manifest["notes"])
        owner = manifest["key"]
    except FileNotFoundError:
        return "an earlier build was interrupted", {}
    except (OSError, ValueError, TypeError, KeyError):
        return "the manifest is damaged", {}
    if owner != key:
        return "the entry belongs to another model, setting, version or device", {}
    return _fault(folder, files), notes


def _fault(folder: Path, files: Mapping[str, str]) -> str | None:
    present = _files(folder)
    for name in sorted({*files, *present}):
        if name not in present:
            return f"{name} is missing"
        if name not in files:
            return f"{name} is foreign"
        if _sha256(folder / name) != files[name]:
            return f"{name} is damaged"
    return None


def _files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST)


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of last change of each file."""
    return {name: (seen.st_size, seen.st_mtime_ns) for name in _files(folder) for seen in [(folder / name).stat()]}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
