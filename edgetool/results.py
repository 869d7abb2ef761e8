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
from edgetool.shared_store import SharedStore


class Results:
    """Results of passes (folders) and computed files, by key.

    Args:
        work: the folder; it is made.
        shared: where results are looked for and put for other machines, or None.

    """

    def __init__(self, work: Path, shared: SharedStore | None = None) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self.work, self.shared = work, shared

    def cached_pass(self, key: str, make: Callable[[Path], PassResult]) -> PassResult:
        """The finished result for `key`, or what `make(folder)` now makes, kept for the next time.

        A training that was interrupted is kept in the folder, and the next `make` finds it there.
        """
        done = self.work / key
        with self._alone(key):
            if self._has(key):
                self._share(key)  # it may be from before there was this store
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

    def cached_file(self, name: str, make: Callable[[], bytes], *, of_this_machine: bool = False) -> bytes:
        """The bytes kept under `name`, or what `make()` now gives, kept for the next time.

        What is true `of_this_machine` only, such as times, is not shared.
        """
        path = self.work / name
        shared = None if of_this_machine else self.shared
        if path.is_file():
            return path.read_bytes()
        with self._alone(name):
            if path.is_file():
                return path.read_bytes()
            content = None if shared is None else shared.fetch(name)
            if content is None:
                content = make()
                if shared is not None:
                    shared.put(name, content)
            write_whole(path, content)
            return content

    def send(self, artifact: Artifact) -> None:
        """Put a model that no pass made into the shared store, where `received` finds it."""
        assert self.shared is not None
        self.shared.put(f"model-{artifact.sha256}.tar", _packed(artifact.path, artifact.path.name))

    def received(self, artifact: Artifact) -> Artifact:
        """The model that another machine sent, in this folder.

        Raises EnvironmentFailed: it is not in the shared store any more, or another model is.
        """
        key = f"model-{artifact.sha256}"
        path = self.work / key / artifact.path.name
        with self._alone(key):
            if not path.exists() and not self._arrived(key):
                raise EnvironmentFailed(f"the shared store has no {key[:18]}… any more", "go on with --resume")
        if sha256_of(path) != artifact.sha256:
            raise EnvironmentFailed(f"{path} is not the model that was sent", f"remove {path.parent}")
        return dataclasses.replace(artifact, path=path)

    def brought(self, artifact: Artifact) -> Artifact:
        """The result of a pass on another machine, whose path is relative to its folder of results, in this folder.

        Raises EnvironmentFailed: it is not in the shared store any more.
        """
        key = artifact.path.parts[0]
        with self._alone(key):
            if not self._has(key):
                raise EnvironmentFailed(f"the shared store has no result {key} any more", "go on with --resume")
        return dataclasses.replace(artifact, path=self.work / artifact.path)

    def _has(self, key: str) -> bool:
        """Whether the folder has the result of a pass, from the shared store where only that has it."""
        done = self.work / key
        if (done / "result.json").is_file():
            return True
        return self._arrived(key)

    def _arrived(self, key: str) -> bool:
        """Whether the shared store has `key`, which then is in the folder."""
        content = None if self.shared is None else self.shared.fetch(f"{key}.tar")
        if content is None:
            return False
        arriving = self.work / f".arriving-{key}"
        shutil.rmtree(arriving, ignore_errors=True)
        try:
            with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                archive.extractall(arriving, filter="data")
        except tarfile.TarError as error:
            raise EnvironmentFailed(f"{key}.tar in the shared store is damaged: {error}", "remove it there") from error
        done = self.work / key
        shutil.rmtree(done, ignore_errors=True)
        arriving.rename(done)
        return True

    def _share(self, key: str) -> None:
        if self.shared is not None and not self.shared.has(f"{key}.tar"):
            self.shared.put(f"{key}.tar", _packed(self.work / key, "."))

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


def _packed(path: Path, name: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.add(path, arcname=name)
    return stream.getvalue()


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
