"""A fleet on this machine: real OpenSSH servers on the loopback, each with its own processes, home and /run.

They share this machine's root file system and processor. Needs root and util-linux's unshare.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from edgetool.fleet.inventory import Fleet, read_fleet

SSHD = "/usr/sbin/sshd"
BASE = ".local/share/edgetool"
# What a device is: a mount and a process namespace of its own, and sshd as its first process. While there is a file
# `broken` in its home, whatever else than its first release it runs is killed, as by a kernel that is out of memory.
INIT = r"""
set -e
mount --make-rprivate /
mount -t proc proc /proc
mount --bind "$1/home" /root
mount -t tmpfs tmpfs /run
mkdir -p /run/sshd
hostname "$2"
while sleep 0.1; do
  [ -e /root/broken ] || continue
  case $(readlink /root/.local/share/edgetool/current) in releases/0001-*|'') continue ;; esac
  for process in /proc/[0-9]*; do
    if grep -qs 'edge\.service' "$process/cmdline"; then kill -9 "${process#/proc/}" || true; fi
  done
done &
start=/root/.local/share/edgetool/start
if [ -x $start ]; then setsid $start edge.supervisor >/dev/null 2>&1 </dev/null & fi
exec /usr/sbin/sshd -D -e -f "$1/sshd_config"
"""
CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {keys}
PidFile none
UsePAM no
UseDNS no
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
MaxStartups 100
"""


def why_not() -> str | None:
    """Why the rig cannot run on this machine; None where it can."""
    if os.geteuid() != 0:
        return "the devices of a fleet need root"
    if not Path(SSHD).exists():
        return "there is no OpenSSH server: apt-get install openssh-server"
    words = ["unshare", "--mount", "--pid", "--uts", "--fork", "true"]
    if shutil.which("unshare") is None or subprocess.run(words, capture_output=True, check=False).returncode:
        return "this machine may not make namespaces"
    return None


class Rig:
    """Devices d01, d02, ... in `folder`, of the classes `kinds` in turn."""

    def __init__(self, folder: Path, count: int, kinds: tuple[str, ...] = ("blue", "green")) -> None:
        self.folder = folder
        self.names = [f"d{number:02}" for number in range(1, count + 1)]
        self.ports: dict[str, int] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self.key = folder / "id_ed25519"
        _new_key(self.key)
        known = []
        for name in self.names:
            home = self.home(name)
            home.mkdir(parents=True)
            _new_key(folder / name / "host_key")
            self.ports[name] = _free_port()
            public = " ".join((folder / name / "host_key.pub").read_text().split()[:2])
            known.append(f"[127.0.0.1]:{self.ports[name]} {public}\n")
            config = CONFIG.format(port=self.ports[name], folder=folder / name, keys=f"{self.key}.pub")
            (folder / name / "sshd_config").write_text(config)
        (folder / "known_hosts").write_text("".join(known))
        lines = ['name = "rig"', 'identity = "id_ed25519"', 'known_hosts = "known_hosts"']
        for kind_number, kind in enumerate(kinds):
            lines.append(f"[devices.{kind}]")
            mine = self.names[kind_number :: len(kinds)]
            lines += [f'{name} = "ssh://root@127.0.0.1:{self.ports[name]}"' for name in mine]
        self.file = folder / "fleet.toml"
        self.file.write_text("\n".join(lines) + "\n")

    @property
    def fleet(self) -> Fleet:
        return read_fleet(self.file)

    def home(self, name: str) -> Path:
        return self.folder / name / "home"

    def base(self, name: str) -> Path:
        return self.home(name) / BASE

    def current(self, name: str) -> str | None:
        """The release that a device's link leads to."""
        link = self.base(name) / "current"
        return link.readlink().name if link.is_symlink() else None

    def start(self, name: str) -> None:
        words = ["unshare", "--mount", "--pid", "--uts", "--fork", "--kill-child", "bash", "-c", INIT, "init"]
        with (self.folder / name / "log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [*words, str(self.folder / name), name], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def stop(self, name: str) -> None:
        """Switch a device off: all of its processes at once."""
        process = self._processes.pop(name, None)
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def copy(self, name: str, other: str) -> None:
        """Give a device that is off the disk of another one: what was deployed there, no process, no lock."""
        words = ["cp", "--archive", "--link", f"{self.home(name)}/.", str(self.home(other))]
        subprocess.run(words, check=True)
        shutil.rmtree(self.base(other) / "run", ignore_errors=True)
        (self.base(other) / "lock").unlink(missing_ok=True)

    def wait(self) -> None:
        """Until every device's sshd listens."""
        for name in self._processes:
            until = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection(("127.0.0.1", self.ports[name]), 1).close()
                    break
                except OSError:
                    if time.monotonic() > until or self._processes[name].poll() is not None:
                        raise AssertionError((self.folder / name / "log").read_text()[-500:]) from None
                    time.sleep(0.05)

    def __enter__(self) -> Self:
        for name in self.names:
            self.start(name)
        self.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self.names:
            self.stop(name)


def _new_key(path: Path) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "rig", "-f", path], check=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
