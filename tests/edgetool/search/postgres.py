"""A real PostgreSQL server on the loopback, with data of its own, that can be stopped and started."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Self


def programs() -> Path | None:
    """The folder of initdb and pg_ctl; None where PostgreSQL is not installed. Debian keeps them off the PATH."""
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return places[-1] if places else None


class Postgres:
    """Runs as the user postgres where this process is root, whom the server refuses."""

    def __init__(self, where: Path) -> None:
        self._programs = where
        self._user = "postgres" if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="edgetool-postgres-"))
        if self._user:
            shutil.chown(self._folder, self._user)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self._data = self._folder / "data"
        self._call("initdb", "--username=edgetool", "--auth=trust", "--no-sync", "--pgdata", self._data)

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://edgetool:secret@127.0.0.1:{self._port}/postgres"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop("immediate")
        shutil.rmtree(self._folder)

    def start(self) -> None:
        options = f"-p {self._port} -k {self._folder} -c listen_addresses=127.0.0.1"
        log = self._folder / "log"
        self._call("pg_ctl", "start", "--wait", "--pgdata", self._data, "--log", log, "--options", options)

    def stop(self, mode: str) -> None:
        """`fast` ends all connections, `immediate` is like a crash."""
        self._call("pg_ctl", "stop", "--wait", "--mode", mode, "--pgdata", self._data)

    def _call(self, program: str, *arguments: str | Path) -> None:
        # the server keeps what it is given as its standard streams
        command = [self._programs / program, *arguments]
        subprocess.run(command, user=self._user, cwd=self._folder, stdout=subprocess.DEVNULL, check=True)
