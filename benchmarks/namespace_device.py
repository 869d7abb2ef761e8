"""A device made of namespaces of this machine: a PID namespace with a real sshd, whose power can be cut. Needs root.

Its first process is PID 1 of its namespace: the kernel kills everything in it at once when that one goes, as a plug
does. Releases lie in a folder of this machine, so that what a cut left can be looked at while nothing runs. It has this
machine's processor, its /usr/bin/python3 and its page cache: a forgotten fsync is not found here.

The python3 that sshd's sessions find is a script of this file. It runs a deploy's program with an audit hook that
counts its operations on the file system; before the one that was named it raises its hand and waits, so that the power
can be cut, or the disk filled, exactly there.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from edge import releases
from edge.errors import CheckFailed
from edge.service import ask
from edgetool.deploy.transport import Address, Login

PYTHON = "/usr/bin/python3"
BOOT_S = 120.0
# Before each of these Python tells its audit hooks (documentation of the modules os, shutil, subprocess)
HOOK = """\
import os, sys, time
plug = {plug!r}
base = {base!r}
if "-c" not in sys.argv:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
EVENTS = {{"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.truncate", "subprocess.Popen"}}
with open(plug + "/at") as file:
    at = int(file.read())
log = os.open(plug + "/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
count = 0
def look(event, values):
    global count
    if event not in EVENTS:
        return
    if event == "open" and not (isinstance(values[2], int) and values[2] & (os.O_WRONLY | os.O_RDWR)):
        return
    told = str(values[0])
    fd = [one for one in values[1:] if isinstance(one, int) and one > 2]
    if event != "subprocess.Popen" and not told.startswith(base) and not (event.startswith("os.") and fd):
        return
    count += 1
    os.write(log, (event + " " + told.removeprefix(base) + "\\n").encode())
    if count == at:
        os.close(os.open(plug + "/reached", os.O_WRONLY | os.O_CREAT))
        while not os.path.exists(plug + "/go"):
            time.sleep(0.002)
code = sys.argv[sys.argv.index("-c") + 1]
sys.argv = ["-c"]
sys.path = [one for one in sys.path if one != plug]
sys.addaudithook(look)
exec(compile(code, "deploy", "exec"), {{"__name__": "__main__"}})
"""
CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {plug}/host_key
AuthorizedKeysFile {plug}/user_key.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
PidFile none
ForceCommand {plug}/run
"""
# Not SetEnv: root's shell may have a .bashrc that puts other folders first
RUN = """\
#!/bin/sh
export PATH={plug}/bin:/usr/bin:/bin
exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"
"""


def why_not() -> str | None:
    """Why no such device can be made here; None where it can."""
    if os.geteuid() != 0:
        return "a PID namespace needs root"
    for tool in ("unshare", "sshd", "ssh-keygen"):
        if shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            return f"there is no {tool}: apt-get install openssh-server util-linux"
    return None if Path(PYTHON).exists() else f"there is no {PYTHON}"


class NamespaceDevice:
    """One device in `folder`; `disk_bytes` gives its releases a file system of that size in memory."""

    def __init__(self, folder: Path, disk_bytes: int | None = None) -> None:
        self.folder, self.plug, self.disk = folder, folder / "plug", folder / "disk"
        self.base = self.disk / "edge"
        self._boot: subprocess.Popen[bytes] | None = None
        self._disk_bytes = disk_bytes
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])

    def __enter__(self) -> Self:
        (self.plug / "bin").mkdir(parents=True)
        self.disk.mkdir()
        if self._disk_bytes is not None:
            size = f"size={self._disk_bytes}"
            subprocess.run(["mount", "-t", "tmpfs", "-o", size, "edge-disk", self.disk], check=True)
        for name in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.plug / name], check=True)
        hook = HOOK.format(plug=str(self.plug), base=str(self.base), python=PYTHON)
        (self.plug / "hook.py").write_text(hook)
        python = f'#!/bin/sh\nexec {PYTHON} {self.plug / "hook.py"} "$@"\n'
        for name, text in (("bin/python3", python), ("run", RUN.format(plug=self.plug))):
            (self.plug / name).write_text(text)
            (self.plug / name).chmod(0o755)
        (self.plug / "sshd_config").write_text(CONFIG.format(port=self.port, plug=self.plug))
        host_key = (self.plug / "host_key.pub").read_text()
        (self.plug / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host_key}")
        self.reach(0)
        self.boot()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        if self._disk_bytes is not None:
            subprocess.run(["umount", self.disk], check=True)

    def address(self, port: int | None = None) -> Address:
        """Where its sshd is, or what stands before it on another port."""
        return Address("127.0.0.1", "root", port or self.port, str(self.base))

    def login(self, port: int | None = None) -> Login:
        """The key that it lets in, and its own as it is known on that port."""
        known = self.plug / "known_hosts"
        if port is not None:
            known = self.plug / f"known_hosts-{port}"
            known.write_text((self.plug / "known_hosts").read_text().replace(str(self.port), str(port), 1))
        return Login(self.plug / "user_key", known)

    def boot(self) -> None:
        """Power on: what its system starts (the releases' supervisor), and sshd."""
        start = self.base / "start"
        script = f"[ ! -x {start} ] || {start} edge.supervisor >/dev/null 2>&1 & "
        script += f"exec /usr/sbin/sshd -D -e -f {self.plug / 'sshd_config'}"
        Path("/run/sshd").mkdir(exist_ok=True)
        command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "/bin/sh", "-c", script]
        quiet = subprocess.DEVNULL
        path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        self._boot = subprocess.Popen(
            command, stdin=quiet, stdout=quiet, stderr=quiet, env=path, start_new_session=True
        )
        self._wait(self._listens, "its sshd does not come up")

    def cut(self) -> None:
        """Power off: SIGKILL for everything that runs on it, at once."""
        if self._boot is None:
            return
        inside = self._namespace()
        self._boot.kill()
        self._boot.wait()
        self._boot = None
        self._wait(lambda: inside is None or inside not in _namespaces(), "its processes do not end")

    def reach(self, at: int) -> None:
        """Hold the next deploy before its `at`-th operation on the file system (0: never)."""
        for name in ("reached", "go", "log"):
            (self.plug / name).unlink(missing_ok=True)
        (self.plug / "at").write_text(str(at))

    @property
    def reached(self) -> bool:
        """Whether the deploy stands there."""
        return (self.plug / "reached").exists()

    def go_on(self) -> None:
        """Let it go on."""
        (self.plug / "go").touch()

    def operations(self) -> list[str]:
        """What the last deploy did on the file system, in its order."""
        log = self.plug / "log"
        return log.read_text().splitlines() if log.exists() else []

    def require_whole(self) -> str:
        """Wait until a release answers, and return its bundle's sha256.

        Raises:
            CheckFailed: the device is in no state that a finished deploy leaves.

        """
        until = time.monotonic() + BOOT_S
        answer: dict[str, object] = {}
        while time.monotonic() < until:
            try:
                answer = ask(self.base / "run", {"ask": "health"}, 10)
            except OSError:
                time.sleep(0.05)
                continue
            if answer["release"] == releases.pointed(self.base, releases.CURRENT) and not self._unfinished():
                break
        name = releases.pointed(self.base, releases.CURRENT)
        if name is None or answer.get("release") != name or not answer["ok"]:
            raise CheckFailed(f"brick: current is {name}, what answers is {answer}")
        if self._unfinished():
            raise CheckFailed(f"half a release: {self._unfinished()}")
        if releases.pointed(self.base, releases.LAST_GOOD) != name:
            raise CheckFailed(f"half a switch: {name} runs and is not last-good")
        release = releases.check(self.base, name)
        if release.bundle != answer["bundle"]:
            raise CheckFailed(f"{name} is not what runs")
        return release.bundle

    def _unfinished(self) -> list[str]:
        names = (releases.TRIAL, "staging")
        return [name for name in names if (self.base / name).exists()]

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _namespace(self) -> str | None:
        """The PID namespace of what runs, as the kernel calls it."""
        assert self._boot is not None
        children = Path(f"/proc/{self._boot.pid}/task/{self._boot.pid}/children").read_text().split()
        return str(Path(f"/proc/{children[0]}/ns/pid").readlink()) if children else None

    def _wait(self, done: Callable[[], bool], failed: str) -> None:
        until = time.monotonic() + BOOT_S
        while not done():
            if time.monotonic() > until:
                raise CheckFailed(failed)
            time.sleep(0.01)


def _namespaces() -> set[str]:
    found = set()
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                found.add(str((process / "ns/pid").readlink()))
            except OSError:
                continue
    return found


if __name__ == "__main__":
    sys.exit(why_not() or 0)
