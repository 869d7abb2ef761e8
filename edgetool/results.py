"""Finished results by what they were made of: a folder, and a shared store behind it that other machines read.

A result appears whole or not at all (written beside, then renamed), and is made once: who asks for one that another
process is making waits for it.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edge.artifact import Artifact, sha256_of
from edge.durable import write_whole
from edge.errors import BadInput, CheckFailed, EnvironmentFailed
from edge.report import from_plain
from edgetool.passes.step import KEPT, PassResult


class Results:
    """Results of passes (folders) and computed files, by key.

    Args:
        work: the folder; it is made.
        shared: an fsspec address (a folder, s3://…) in which results are looked for and put, or None.

    """

    def __init__(self, work: Path, shared: str | None = None) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self.work, self.shared = work, shared

    def cached_pass(self, key: str, make: Callable[[Path], PassResult]) -> PassResult:
        """The finished result for `key`, or what `make(folder)` now makes, kept for the next time.

        A training that was interrupted is kept in the folder, and the next `make` finds it there.
        """
        done = self.work / key
        with self._alone(key):
            if self._has(key):
                return _read_result(done)
            result = self._made(key, make)
            self._share(key)
            return result

    def _made(self, key: str, make: Callable[[Path], PassResult]) -> PassResult:
        done, making = self.work / key, self.work / f".making-{key}"
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
        with self._alone(name):
            if path.is_file():
                return path.read_bytes()
            content = self._fetched(name)
            if content is None:
                content = make()
                self._put(name, content)
            write_whole(path, content)
            return content

    def _has(self, key: str) -> bool:
        """Whether the folder has the result of a pass, from the shared store where only that has it."""
        done = self.work / key
        if (done / "result.json").is_file():
            return True
        content = self._fetched(f"{key}.tar")
        if content is None:
            return False
        arriving = self.work / f".arriving-{key}"
        shutil.rmtree(arriving, ignore_errors=True)
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(arriving, filter="data")
        shutil.rmtree(done, ignore_errors=True)
        arriving.rename(done)
        return True

    def _share(self, key: str) -> None:
        if self.shared is None:
            return
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            archive.add(self.work / key, arcname=".")
        self._put(f"{key}.tar", stream.getvalue())

    def _fetched(self, name: str) -> bytes | None:
        if self.shared is None:
            return None
        import fsspec

        system, root = fsspec.url_to_fs(self.shared)
        try:
            content: bytes = system.cat_file(f"{root}/{name}")
        except FileNotFoundError:
            return None
        return content

    def _put(self, name: str, content: bytes) -> None:
        if self.shared is None:
            return
        import fsspec

        system, root = fsspec.url_to_fs(self.shared)
        system.makedirs(root, exist_ok=True)
        with system.transaction, system.open(f"{root}/{name}", "wb") as stream:
            stream.write(content)

    @contextlib.contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """Nobody else on this machine makes this result meanwhile."""
        path = self.work / f".lock-{key}"
        while True:
            with path.open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                # who held the lock before has removed the file that this process waited for
                if path.exists() and os.fstat(lock.fileno()).st_ino == path.stat().st_ino:
                    try:
                        yield
                    finally:
                        path.unlink()
                    return


def key_of(*parts: Any) -> str:
    """A short name for a combination of plain values: the same parts give the same key."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:24]


def _empty_but_interrupted(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.is_dir() and path.name != KEPT:
            shutil.rmtree(path, ignore_errors=True)
        elif not path.is_dir():
            path.unlink(missing_ok=True)


def _read_result(folder: Path) -> PassResult:
    plain = json.loads((folder / "result.json").read_text())
    result: PassResult = from_plain(PassResult, plain)
    path = folder / plain["artifact"]["path"]
    artifact: Artifact = dataclasses.replace(result.artifact, path=path)
    if sha256_of(path) != artifact.sha256:
        raise EnvironmentFailed(f"{path} was changed since it was made", "run again without --resume")
    return PassResult(artifact, result.skipped)
