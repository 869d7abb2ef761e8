"""A whole emulated arm64 computer: QEMU with a disk of its own, which can be cut off like a plug does it."""

import asyncio
import json
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh

from edgetool.deploy.transport import Address, Login

MEMORY_MB = 1024
BOOT_LIMIT_S = 900.0


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Machine:
    """Its files are in `folder` (benchmarks/full_system_image.sh made them); `disk` is a qcow2 of its own."""

    folder: Path
    disk: Path
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", "pi", self.port)

    @property
    def login(self) -> Login:
        known = self.disk.with_suffix(".known_hosts")
        key = " ".join((self.folder / "host_key.pub").read_text().split()[:2])
        known.write_text(f"[127.0.0.1]:{self.port} {key}\n")
        return Login(self.folder / "id_ed25519", known)

    def start(self, memory: Path | None = None) -> None:
        """Boot from the disk, or go on where `freeze` wrote `memory`.

        The disk's cache is QEMU's: what the guest has not flushed is lost with the process, as far as QEMU (which
        keeps the tables of new clusters to itself until then) and not the host's page cache holds it.
        """
        monitor = self.disk.with_suffix(".monitor")
        monitor.unlink(missing_ok=True)
        words = ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", f"{MEMORY_MB}M"]
        words += ["-accel", "tcg,thread=multi", "-kernel", self.folder / "kernel", "-initrd", self.folder / "initramfs"]
        words += ["-append", "console=ttyAMA0 panic=-1 quiet", "-display", "none", "-no-reboot"]
        words += ["-serial", f"file:{self.disk.with_suffix('.console')}", "-qmp", f"unix:{monitor},server=on,wait=off"]
        words += ["-drive", f"file={self.disk},format=qcow2,if=none,id=d0,cache=writeback"]
        words += ["-device", "virtio-blk-pci,drive=d0"]
        words += ["-netdev", f"user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22"]
        words += ["-device", "virtio-net-pci,netdev=n0,romfile="]
        words += ["-incoming", f"exec:cat {memory}"] if memory is not None else []
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL)

    def cut(self) -> None:
        """Pull the plug."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def freeze(self, memory: Path) -> None:
        """Write the memory and end: disk and memory are of the instant at which QEMU stopped the machine for it."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.disk.with_suffix(".monitor")))
            with connection.makefile("rwb") as stream:
                stream.readline()
                _ask(stream, "qmp_capabilities")
                _ask(stream, "migrate", uri=f"exec:cat > {memory}")
                while (status := _ask(stream, "query-migrate").get("status")) not in {"completed", "failed"}:
                    time.sleep(0.2)
                if status == "failed":
                    raise RuntimeError("QEMU does not write the machine's memory")
                _ask(stream, "quit")
        assert self.process is not None
        self.process.wait(60)
        self.process = None

    async def run(self, command: str, program: str = "") -> str:
        """A command on the machine and its output, tried until sshd is up."""
        until = time.monotonic() + BOOT_LIMIT_S
        while True:
            try:
                async with asyncssh.connect(
                    "127.0.0.1",
                    self.port,
                    username="pi",
                    client_keys=[str(self.login.identity)],
                    known_hosts=str(self.login.known_hosts),
                    connect_timeout=60,
                    login_timeout=60,
                ) as connection:
                    done = await connection.run(command, input=program, check=False)
                    return str(done.stdout) + str(done.stderr)
            except (OSError, asyncssh.Error, TimeoutError):
                if time.monotonic() > until or self.process is None or self.process.poll() is not None:
                    raise
                await asyncio.sleep(1)


def _ask(stream: Any, command: str, **arguments: Any) -> dict[str, Any]:
    stream.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
    stream.flush()
    while line := stream.readline():
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"QEMU: {command}: {answer['error']}")
        if "return" in answer:
            given: dict[str, Any] = answer["return"]
            return given
    return {"status": "failed"}


def overlay(disk: Path, backing: Path, backing_format: str) -> Path:
    """A new disk that is `backing` until it is written to."""
    disk.unlink(missing_ok=True)
    words = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", backing_format, "-b", str(backing), str(disk)]
    subprocess.run(words, check=True)
    return disk
