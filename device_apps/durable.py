"""Files that are there whole or as they were before, through kill -9 and a full disk."""

import contextlib
import os
import time
from pathlib import Path

from edge.durable import sync
from edge.errors import EnvironmentFailed, from_system

TEMPORARY = ".part"
WRITING_S = 30.0  # no write of ours takes as long


def write_whole(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write `content` to `path`: a temporary file beside it, flushed to the disk, then renamed over it.

    Raises:
        EnvironmentFailed: it cannot be written (DiskFull where no space is left); what was there before still is.

    """
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        sync(path.parent)
    except OSError as error:
        raise failed(path, error) from error


def remove_leftovers(folder: Path) -> None:
    """Delete what an interrupted `write_whole` left behind; not what another process may be writing just now."""
    for path in folder.glob(f"*{TEMPORARY}"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > WRITING_S:
                path.unlink()


def failed(path: Path, error: OSError) -> EnvironmentFailed:
    """What a system error on `path` means for a user."""
    return from_system(error) or EnvironmentFailed(f"{path}: {error.strerror or error}")
