"""A device on this machine: a real SSH server that runs commands with a home of its own, as this machine's user."""

import asyncio
import os
import platform
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncssh
import numpy as np

from edge import supervisor
from edge.artifact import Artifact
from edge.bundle import Golden, write_bundle
from edge.engines.fake import SCORES, VECTOR, FakeEngine, FakeModel
from edge.preprocess import ArrayInput
from edgetool.deploy.transport import Address, Login

HERE = f"generic-{platform.machine()}"


class SshDevice:
    """Its home is `folder/home`; its python3 is the one of these tests, found by PATH as on any device."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.base = self.home / ".local/share/edgetool"
        self.programs = folder / "bin"
        self.known_hosts = folder / "known_hosts"
        self.key = folder / "key"
        self.commands: list[subprocess.Popen[bytes]] = []
        self.home.mkdir(parents=True)
        self.programs.mkdir()
        self.python(f'exec "{sys.executable}" "$@"')
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.port = 0

    def python(self, command: str) -> None:
        """What the device's python3 is: a line of shell."""
        path = self.programs / "python3"
        path.write_text(f"#!/bin/sh\n{command}\n")
        path.chmod(0o755)

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", "pi", self.port)

    @property
    def login(self) -> Login:
        return Login(self.key, self.known_hosts)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        supervisor.stop(self.base)
        for command in self.commands:
            if command.poll() is None:
                command.kill()
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def state(self) -> list[str]:
        """Every file and link in the device's home, but for what runs there."""
        return sorted(
            str(path.relative_to(self.home))
            for path in self.home.rglob("*")
            if "run" not in path.parts and path.name != "lock"
        )

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self._ready.set()
        self._loop.run_forever()

    async def _listen(self) -> None:
        host_key, user_key = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
        user_key.write_private_key(str(self.key))
        self.key.chmod(0o600)
        authorized = self.key.with_suffix(".authorized")
        authorized.write_bytes(user_key.export_public_key())
        self._server = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[host_key],
            authorized_client_keys=str(authorized),
            process_factory=self._command,
            encoding=None,
        )
        self.port = self._server.get_port()
        self.known_hosts.write_bytes(f"[127.0.0.1]:{self.port} ".encode() + host_key.export_public_key())

    async def _command(self, process: "asyncssh.SSHServerProcess[bytes]") -> None:
        environment = {"PATH": f"{self.programs}:{os.defpath}", "HOME": str(self.home)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = subprocess.Popen(
            ["/bin/sh", "-c", process.command or "true"], cwd=self.home, env=environment, **pipes
        )
        self.commands.append(command)
        try:
            await process.redirect(stdin=command.stdin, stdout=command.stdout, stderr=command.stderr)
            # what was said has arrived, or the host is gone: asyncssh's drain alone would wait for ever then
            ends = [asyncio.ensure_future(one) for one in (process.stdout.drain(), process.channel.wait_closed())]
            _, pending = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for one in pending:
                one.cancel()
            code = await self._loop.run_in_executor(None, command.wait)
            process.exit(code if code >= 0 else 128 - code)
        finally:
            await process.wait_closed()

    async def _close(self) -> None:
        self._server.close()
        await self._server.wait_closed()
        ending = asyncio.all_tasks() - {asyncio.current_task()}
        if ending:
            await asyncio.wait(ending, timeout=10)


def fake_bundle(path: Path, *, wrong: float = 0.0, padding: int = 0, target: str = HERE, **behaviour: Any) -> Path:
    """A bundle of a fake model with two golden vectors; `behaviour` as FakeModel has it.

    `wrong` is added to what the golden outputs should be; `padding` makes its model that many bytes larger, with
    bytes that do not compress.
    """
    noise = (
        np.random.default_rng(sum(path.name.encode())).integers(48, 127, padding, np.uint8).tobytes().decode("ascii")
    )
    model = FakeModel(**behaviour, planted_fallback=(noise,))
    engine = FakeEngine(FakeModel().to_bytes(), "cpu")
    outputs = engine.run({"input": np.zeros((1, 4), np.float32)})["output"]
    file = path.with_suffix(".fake")
    file.write_bytes(model.to_bytes())
    write_bundle(
        path,
        Artifact(file, "fake", VECTOR, SCORES, ""),
        Golden({"input": np.zeros((2, 4), np.float32)}, {"output": np.repeat(outputs, 2, axis=0) + wrong}),
        name=path.stem,
        target=target,
        task="test",
        preprocess={"input": ArrayInput()},
        requires=("numpy>=1.24",),
    )
    return path
