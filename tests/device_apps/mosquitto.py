"""A real broker on a free port of the loopback, and what a stranger on it sees."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

BINARY = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")


class Mosquitto:
    """The broker's process, which can be started again on the same port."""

    def __init__(self, folder: Path, more: str = "allow_anonymous true\n") -> None:
        if BINARY is None:
            pytest.skip("mosquitto is not installed")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        folder.mkdir(exist_ok=True)
        self._config = folder / "mosquitto.conf"
        self._config.write_text(f"listener {self.port} 127.0.0.1\nset_tcp_nodelay true\nuser root\n{more}")
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([str(BINARY), "-c", str(self._config)], stderr=subprocess.DEVNULL)

        def answers() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        assert soon(answers)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def soon(condition: Callable[[], object], seconds: float = 10.0) -> bool:
    """Whether something becomes true in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.02)
    return False
