"""One SSH connection to a device: strict about its host key, and counting what goes over it."""

import contextlib
import json
import re
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import edge
from edge import errors
from edge.errors import BadRecipe, CheckFailed, EnvironmentFailed, RuntimeMissing
from edgetool.deploy import facts as device_facts
from edgetool.deploy.facts import Facts

if TYPE_CHECKING:
    import asyncssh

CONNECT_LIMIT_S = 60.0
KEEPALIVE_S, KEEPALIVES = 10.0, 6  # a line that is silent for a minute is dead: sshd answers while programs work
EXAMPLE = "for example ssh://pi@raspberrypi.local"
PIECE = 1 << 17
_FOLDER = re.compile(r"/[A-Za-z0-9._/-]+")
# What the device's half of a deploy is made of; sent as source, in this order, and run from memory
MODULES = (
    "errors",
    "durable",
    "releases",
    "supervisor",
    "service",
    "wheel",
    "bench_request",
    "release_replay",
    "install",
)
_BOOT = """\
import sys, json, zlib, importlib.abc, importlib.util
given = sys.stdin.buffer
sources = json.loads(zlib.decompress(given.read(int(given.readline()))))
class Sent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name in sources:
            return importlib.util.spec_from_loader(name, self, is_package=name == "edge")
    def exec_module(self, module):
        exec(compile(sources[module.__name__], module.__name__, "exec"), module.__dict__)
sys.meta_path.insert(0, Sent())
from edge.install import main
sys.exit(main())
"""


@dataclass(frozen=True)
class Address:
    """ssh://USER@HOST:PORT/FOLDER; without a folder the device's own place for releases."""

    host: str
    user: str | None = None
    port: int = 22
    folder: str | None = None

    def __str__(self) -> str:
        user = "" if self.user is None else f"{self.user}@"
        return f"ssh://{user}{self.host}{'' if self.port == 22 else f':{self.port}'}{self.folder or ''}"


@dataclass(frozen=True)
class Login:
    """How to log in: a private key (None: the agent and the usual keys) and the file of known host keys."""

    identity: Path | None = None
    known_hosts: Path | None = None


def parse_address(text: str) -> Address:
    """`ssh://pi@host:2222/srv/edge` in its parts.

    Raises:
        BadRecipe: it is no such address.

    """
    try:
        parts = urlsplit(text)
        port = parts.port or 22
    except ValueError as error:
        raise BadRecipe(f"cannot read the device {text!r}: {error}", EXAMPLE) from error
    if parts.scheme != "ssh" or not parts.hostname or parts.query or parts.fragment or parts.password:
        raise BadRecipe(f"cannot read the device {text!r}", EXAMPLE)
    folder = parts.path.rstrip("/") or None
    if folder is not None and (not _FOLDER.fullmatch(folder) or ".." in folder.split("/")):
        raise BadRecipe(f"the folder {folder!r} of {text!r} has signs other than letters, digits, . _ - /")
    return Address(parts.hostname, parts.username, port, folder)


class Device:
    """A connection that stands. `sent_bytes` counts what was written to the device's programs."""

    def __init__(self, connection: "asyncssh.SSHClientConnection", address: Address) -> None:
        self.address = address
        self.sent_bytes = 0
        self._connection = connection

    async def facts(self) -> Facts:
        """What the device is; nothing is changed there.

        Raises:
            BadInput: it has no Python 3.
            EnvironmentFailed: the script does not run there.

        """
        script = device_facts.SCRIPT.read_bytes()
        self.sent_bytes += len(script)
        done = await self._connection.run(
            f"python3 -I - {self.address.folder or ''}".rstrip(), input=script, encoding=None, check=False
        )
        output, said = _text(done.stdout), _text(done.stderr).strip()
        if done.exit_status == 127:
            raise errors.BadInput(f"{self.address} has no python3", "apt-get install python3 there")
        if done.exit_status != 0:
            last = (said.splitlines() or [f"exit code {done.exit_status}"])[-1]
            raise EnvironmentFailed(f"{self.address}: its Python does not run the probe: {last}")
        return device_facts.parse(output)

    @contextlib.asynccontextmanager
    async def session(self, facts: Facts) -> AsyncIterator["Session"]:
        """The device's half of a deploy, for as long as the block lasts; nothing unconfirmed outlasts it."""
        as_root = "sudo -n " if facts.systemd and facts.uid != 0 else ""
        boot = "'" + _BOOT.replace("'", "'\\''") + "'"
        process = await self._connection.create_process(f"{as_root}python3 -I -c {boot}", encoding=None)
        session = Session(process, self)
        try:
            await session.begin(facts)
            yield session
        finally:
            with contextlib.suppress(OSError):
                process.stdin.write_eof()
            await process.wait_closed()


@dataclass
class Session:
    """Requests to the device's half, one after another. `device` counts the bytes."""

    process: "asyncssh.SSHClientProcess[bytes]"
    device: Device
    held_packages: frozenset[str] = frozenset()
    held_segments: frozenset[str] = frozenset()
    current: str | None = None

    async def begin(self, facts: Facts) -> None:
        """Send the program, take the device's lock, and hear what is there."""
        sources = {f"edge.{name}": (Path(edge.__file__).parent / f"{name}.py").read_text() for name in MODULES}
        sources["edge"] = ""
        packed = zlib.compress(json.dumps(sources).encode(), 9)
        await self._write(f"{len(packed)}\n".encode() + packed)
        holdings = await self.ask({"base": facts.base, "service": facts.service})
        self.held_packages, self.held_segments = frozenset(holdings["packages"]), frozenset(holdings["segments"])
        self.current = holdings["current"]

    async def ask(
        self, question: dict[str, Any], content: bytes = b"", told: Callable[[float, str], None] | None = None
    ) -> Any:
        """One request and its answer; `told` hears how much of the content is sent, and the device's steps.

        Raises:
            EdgetoolError: what the device answered.
            EnvironmentFailed: the line or the device's program died.

        """
        await self._write(json.dumps(question).encode() + b"\n")
        for start in range(0, len(content), PIECE):
            await self._write(content[start : start + PIECE])
            if told is not None:
                told(min(1.0, (start + PIECE) / len(content)), "sending")
        while line := await self._read():
            answer = json.loads(line)
            if "done" in answer:
                return answer["done"]
            if "error" in answer:
                kind = getattr(errors, answer["kind"], EnvironmentFailed)
                raise kind(answer["error"], answer["hint"])
            if told is not None:
                told(1.0, answer["step"])
        raise await self._died()

    async def _write(self, content: bytes) -> None:
        import asyncssh

        try:
            self.process.stdin.write(content)
            await self.process.stdin.drain()
        except (OSError, asyncssh.Error) as error:
            # The device may have said why before it hung up
            while line := await self._read():
                answer = json.loads(line)
                if "error" in answer:
                    raise getattr(errors, answer["kind"], EnvironmentFailed)(answer["error"], answer["hint"]) from error
            raise await self._died() from error
        self.device.sent_bytes += len(content)

    async def _read(self) -> bytes:
        import asyncssh

        try:
            return await self.process.stdout.readline()
        except (OSError, asyncssh.Error):
            return b""

    async def _died(self) -> EnvironmentFailed:
        import asyncssh

        said = ""
        with contextlib.suppress(OSError, asyncssh.Error):
            said = (await self.process.stderr.read()).decode(errors="replace").strip()
        last = (said.splitlines() or ["the line was cut"])[-1]
        return EnvironmentFailed(
            f"{self.device.address}: the deploy ended: {last}", "nothing of it stays there; try again"
        )


def _text(output: "str | bytes | None") -> str:
    return output if isinstance(output, str) else (output or b"").decode(errors="replace")


@contextlib.asynccontextmanager
async def connect(address: Address, login: Login) -> AsyncIterator[Device]:
    """A connection to a device whose host key is known.

    Raises:
        CheckFailed: its host key is another than the known one, or none is known.
        EnvironmentFailed: it cannot be reached, or does not let the user in.
        RuntimeMissing: the extra `deploy` is not installed.

    """
    try:
        import asyncssh
    except ImportError as error:
        raise RuntimeMissing("asyncssh is not installed", "pip install 'edgetool[deploy]'") from error
    known = login.known_hosts or Path.home() / ".ssh" / "known_hosts"
    options: dict[str, Any] = {"known_hosts": str(known) if known.is_file() else ([], [], [])}
    if address.user is not None:
        options["username"] = address.user
    if login.identity is not None:
        options["client_keys"] = [str(login.identity)]
    try:
        connection = await asyncssh.connect(
            address.host,
            address.port,
            connect_timeout=CONNECT_LIMIT_S,
            login_timeout=CONNECT_LIMIT_S,
            keepalive_interval=KEEPALIVE_S,
            keepalive_count_max=KEEPALIVES,
            **options,
        )
    except asyncssh.HostKeyNotVerifiable as error:
        raise CheckFailed(
            f"{address}: its host key is not the one in {known.name}, or none is there: refused",
            f"compare `ssh-keyscan {address.host} | ssh-keygen -lf -` with the device's own, then add it to {known}",
        ) from error
    except asyncssh.PermissionDenied as error:
        raise EnvironmentFailed(f"{address} does not let this user in", "give the right --identity") from error
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise errors.BadInput(f"cannot use the key {login.identity}: {error}", "give another --identity") from error
    except (OSError, asyncssh.Error, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        raise EnvironmentFailed(f"cannot reach {address}: {reason}", "is it on, and is sshd running there?") from error
    async with connection:
        try:
            yield Device(connection, replace(address))
        except asyncssh.Error as error:
            raise EnvironmentFailed(
                f"{address}: the line was cut: {error}", "nothing unconfirmed stays there; try again"
            ) from error
