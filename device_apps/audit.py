"""An append-only record of what happened: each line is chained to the one before, the head is anchored elsewhere.

A line is JSON with its number, the time, what happened, and the HMAC-SHA-256 of all that and of the line before's. An
edit, a removal or a swap breaks the chain; what is cut off at the end is missed by the anchor, which holds the number
and the MAC of the newest line and is written after it: a second file, or whatever else has the `Anchor` Protocol.
"""

import contextlib
import errno
import fcntl
import hashlib
import hmac
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from device_apps.clock import Clock
from device_apps.durable import failed, write_whole
from edge.errors import BadInput, CheckFailed, EdgetoolError

START = "0" * 64
MAX_LINE_BYTES = 64 << 10


@dataclass(frozen=True)
class Head:
    """The newest line of a record: its number, from 1, and its MAC. 0 lines have the MAC `START`."""

    seq: int
    mac: str


class Recorder(Protocol):
    """Where events are recorded."""

    def append(self, event: str, fields: Mapping[str, Any]) -> Head:
        """Add one line. Raises an EdgetoolError: it cannot be recorded."""
        ...


class NoRecord:
    """Stands for a record that cannot be opened: nothing that must be recorded can be done."""

    def __init__(self, error: EdgetoolError) -> None:
        self._error = error

    def append(self, event: str, fields: Mapping[str, Any]) -> Head:
        raise self._error


class Anchor(Protocol):
    """A place apart from the record that remembers its head: a second file, a retained MQTT message."""

    def keep(self, head: Head) -> None:
        """Remember a head. Raises EnvironmentFailed: it cannot be kept."""
        ...

    def kept(self) -> Head | None:
        """The head that was kept last; None where there never was one. Raises BadInput: it is damaged."""
        ...


class FileAnchor:
    """The head in a second file, best on another disk than the record's."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self, head: Head) -> None:
        write_whole(self._path, json.dumps({"seq": head.seq, "mac": head.mac}).encode())

    def kept(self) -> Head | None:
        try:
            data = json.loads(self._path.read_text())
            return Head(int(data["seq"]), str(data["mac"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"the anchor {self._path} cannot be read: {error}") from error


class AuditLog:
    """The record in `path`, open for appending.

    A last line that is cut short is what a crash leaves: it was never acknowledged, and is cut off when the record is
    opened. Anything else that is wrong is kept as it is, and said by `verify`. Several processes may append.

    Raises:
        BadInput: the end of the record cannot be read.
        EnvironmentFailed: it cannot be opened.

    """

    def __init__(self, path: Path, key: bytes, clock: Clock, anchors: tuple[Anchor, ...] = ()) -> None:
        self._path, self._key, self._clock, self._anchors = path, key, clock, anchors
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise failed(path, error) from error
        self._size = 0
        with self._alone():
            self._head = self._newest()

    @property
    def head(self) -> Head:
        """The newest line."""
        return self._head

    def append(self, event: str, fields: Mapping[str, Any]) -> Head:
        """Add one line; when this returns it is on the disk.

        Raises:
            EnvironmentFailed: it cannot be written (DiskFull where no space is left); the record is as it was.

        """
        with self._alone():
            return self._append(event, fields)

    def _append(self, event: str, fields: Mapping[str, Any]) -> Head:
        size = os.fstat(self._descriptor).st_size
        if size != self._size:  # another process has appended
            self._head = self._newest()
            size = os.fstat(self._descriptor).st_size
        seq = self._head.seq + 1
        body = {"seq": seq, "at": round(self._clock.wall(), 3), "event": event, "fields": dict(fields)}
        text = _canonical(body)
        mac = _mac(self._key, self._head.mac, text)
        line = f"{text[:-1]},{json.dumps('mac')}:{json.dumps(mac)}}}\n".encode()
        if len(line) > MAX_LINE_BYTES:
            raise BadInput(f"a line of {len(line)} bytes: at most {MAX_LINE_BYTES} are recorded")
        try:
            if os.write(self._descriptor, line) != len(line):
                os.ftruncate(self._descriptor, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301  # as where nothing fits at all
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise failed(self._path, error) from error
        self._head, self._size = Head(seq, mac), size + len(line)
        for anchor in self._anchors:
            anchor.keep(self._head)
        return self._head

    def close(self) -> None:
        os.close(self._descriptor)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the record, so that two processes do not write the same number."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _newest(self) -> Head:
        """The head, from the last whole line; what follows it is cut off."""
        size = os.fstat(self._descriptor).st_size
        start = max(0, size - 2 * MAX_LINE_BYTES)
        tail = os.pread(self._descriptor, size - start, start)
        whole, newline, torn = tail.rpartition(b"\n")
        if torn:
            os.ftruncate(self._descriptor, size - len(torn))
            os.fdatasync(self._descriptor)
        self._size = size - len(torn)
        if not newline:
            return Head(0, START)
        try:
            data = json.loads(whole.rpartition(b"\n")[2])
            return Head(int(data["seq"]), str(data["mac"]))
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"the last line of {self._path} is damaged: {error}", "`audit verify` says more") from error


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a record as they stand, unchecked; what is no JSON object is left out.

    Raises:
        BadInput: it cannot be read.

    """
    for line in _lines(path):
        try:
            data = json.loads(line)
        except ValueError:
            continue
        if isinstance(data, dict):
            yield data


def verify(path: Path, key: bytes, anchors: tuple[Anchor, ...]) -> Head:
    """Check every line and the anchors; the head, where all is well.

    Raises:
        BadInput: the record or an anchor cannot be read.
        CheckFailed: a line was changed, removed or added, or the end is missing; the first such line is named.

    """
    kept = [head for head in (anchor.kept() for anchor in anchors) if head is not None]
    wanted = {head.seq: head.mac for head in kept}
    head = Head(0, START)
    for number, line in enumerate(_lines(path), 1):
        try:
            data = json.loads(line)
            mac = data.pop("mac")
            text = _canonical(data)
            right = data["seq"] == number and hmac.compare_digest(mac, _mac(key, head.mac, text))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise CheckFailed(f"{path}: line {number} is damaged") from None
        if not right:
            raise CheckFailed(f"{path}: line {number} was changed, or a line before it was added or removed")
        head = Head(number, mac)
        if wanted.get(number, mac) != mac:
            raise CheckFailed(f"{path}: line {number} is another one than the anchor holds: the record was replaced")
    for anchored in kept:
        if anchored.seq > head.seq:
            raise CheckFailed(f"{path} ends at line {head.seq}, the anchor holds line {anchored.seq}: it was cut off")
    if head.seq and not kept and anchors:
        raise CheckFailed(f"{path} has {head.seq} lines, but its anchor is gone")
    return head


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                yield line
    except FileNotFoundError:
        return
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error


def _canonical(body: Mapping[str, Any]) -> str:
    return json.dumps(body, sort_keys=False, separators=(",", ":"), ensure_ascii=True)


def _mac(key: bytes, before: str, text: str) -> str:
    return hmac.new(key, f"{before}|{text}".encode(), hashlib.sha256).hexdigest()
