"""One app at a time on one state folder."""

import fcntl
import os
from pathlib import Path

from device_apps.durable import failed
from edge.errors import EnvironmentFailed


class OnlyOne:
    """Held by the app that runs on a folder, so that there is one. Raises EnvironmentFailed: another holds it.

    `app` is what it is called, "door lock" say.
    """

    def __init__(self, folder: Path, app: str) -> None:
        path = folder / "running"
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise failed(path, error) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise EnvironmentFailed(
                f"another {app} runs on {folder}", "stop it first, or give another --state"
            ) from None

    def release(self) -> None:
        """Let another app run there."""
        os.close(self._descriptor)
