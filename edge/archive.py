"""The zip archives that bundles are: the same content makes the same bytes, and nothing is trusted on reading."""

import io
import os
import re
import stat
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edge.errors import BadInput, DiskFull, EnvironmentFailed, is_disk_full
from edge.preprocess import Array, parse_npy

PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def write_archive(contents: Mapping[str, bytes], stored: frozenset[str] = frozenset()) -> bytes:
    """A zip archive of files by name, deflated but for those in `stored`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in sorted(contents.items()):
            entry = zipfile.ZipInfo(name)  # dated 1980-01-01, so that the bytes depend on the content alone
            entry.create_system = 3
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            if name in stored:
                archive.writestr(entry, content, zipfile.ZIP_STORED)
            else:
                archive.writestr(entry, content, zipfile.ZIP_DEFLATED, 9)
    return buffer.getvalue()


def read_archive(content: bytes, limits: Mapping[str, int], *, most: int) -> dict[str, bytes]:
    """The members of an archive by name.

    Args:
        content: the archive.
        limits: the names that a member may have, and to how many bytes it may unpack.
        most: how many members there may be.

    Raises:
        BadInput: a member is no plain file, has another name, is there twice or is too large; none is unpacked.
        ValueError, zipfile.BadZipFile and their like: the archive is damaged.

    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        for entry in entries:
            mode = entry.external_attr >> 16
            if not PLAIN_NAME.fullmatch(entry.filename) or stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
                raise BadInput(f"member {entry.filename!r} is no plain file of the bundle itself")
            if entry.filename not in limits:
                raise BadInput(f"member {entry.filename!r} does not belong into a bundle")
            limit = limits[entry.filename]
            if entry.file_size > limit:
                raise BadInput(f"member {entry.filename!r} unpacks to {entry.file_size} bytes, above {limit}")
        names = [entry.filename for entry in entries]
        if len(set(names)) != len(names):
            raise BadInput("a member is there twice")
        if len(names) > most:
            raise BadInput(f"it has {len(names)} members; a bundle has at most {most}")
        # zipfile reads no more than the size checked above and then compares the CRC
        return {entry.filename: archive.read(entry) for entry in entries}


def pack_arrays(arrays: Mapping[str, Array]) -> bytes:
    """Arrays by name as an .npz, like np.savez, which would write the time of day."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in sorted(arrays.items()):
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue(), zipfile.ZIP_STORED)
    return buffer.getvalue()


def unpack_arrays(content: bytes, limit: int) -> dict[str, Array]:
    """The arrays of an .npz by name; pickles are refused.

    Raises:
        BadInput: they unpack to more than `limit` bytes.

    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > limit:
            raise BadInput(f"its arrays unpack to more than {limit} bytes")
        return {entry.filename.removesuffix(".npy"): parse_npy(archive.read(entry)) for entry in archive.infolist()}


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; its folder is made.

    Raises:
        EnvironmentFailed: it cannot be written (DiskFull where no space is left).

    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            scratch = Path(file.name)
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                scratch.chmod(0o644)
                scratch.replace(path)
            except BaseException:
                scratch.unlink(missing_ok=True)
                raise
    except OSError as error:
        kind = DiskFull if is_disk_full(error) else EnvironmentFailed
        raise kind(f"cannot write {path}: {error.strerror}", "free some space or choose another place") from error
