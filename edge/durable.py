"""Files that are there whole or as they were before, and that last through a power cut. The standard library alone."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes, mode: int | None = None) -> None:
    """Write a file beside `path`, to the disk, and rename it over; where that fails, what was there before still is.

    `mode` are its permissions, None those that a new file has anyway.
    """
    beside = path.with_name(f".{path.name}.part")
    try:
        write(beside, content, mode)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write(path: Path, content: bytes, mode: int | None = None) -> None:
    """Write a file to the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if mode is not None:
        path.chmod(mode)


def sync(path: Path) -> None:
    """What a file holds, or which entries a folder has, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
