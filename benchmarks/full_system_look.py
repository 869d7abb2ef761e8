"""Run on the emulated machine as root: what runs there and what lies there, once the service answers, as JSON."""

import hashlib
import json
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

BASE = Path("/opt/edgetool")
LIMIT_S = 900.0


def told(*words: str) -> str:
    """What a command prints."""
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def link(name: str) -> str | None:
    """The release that a link leads to."""
    path = BASE / name
    return path.readlink().name if path.is_symlink() else None


def health() -> dict[str, Any]:
    """The service's answer to a golden vector."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect("/run/edgetool/service.sock")
        connection.sendall(b'{"ask": "health"}\n')
        answer: dict[str, Any] = json.loads(connection.makefile().readline())
        return answer


def digests(folder: Path) -> dict[str, str]:
    """The hash over all files of each folder in `folder`; what Python compiles beside them is no part of it."""
    found = {}
    for one in sorted(folder.iterdir()):
        digest = hashlib.sha256()
        for path in sorted(one.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(str(path.relative_to(one)).encode() + b"\0" + path.read_bytes())
        found[one.name] = digest.hexdigest()
    return found


def main() -> None:
    """Wait for the service, then print."""
    until, answer = time.monotonic() + LIMIT_S, None
    while answer is None and time.monotonic() < until:
        try:
            answer = health()
        except (OSError, ValueError):
            time.sleep(1)
    state = {
        "pid1": Path("/proc/1/comm").read_text().strip(),
        "active": told("systemctl", "is-active", "edgetool"),
        "exposure": told("systemd-analyze", "security", "--no-pager", "edgetool.service").splitlines()[-1:],
        "user": told("ps", "-o", "user=", "-p", str((answer or {}).get("pid", 1))),
        "restarts": told("systemctl", "show", "-P", "NRestarts", "edgetool"),
        **{name.replace("-", "_"): link(name) for name in ("current", "last-good", "previous")},
        "releases": digests(BASE / "releases"),
        "packages": digests(BASE / "packages"),
        "left": [name for name in ("trial.json", "staging") if os.path.lexists(BASE / name)],
        "health": answer,
        "log": told("journalctl", "-b", "-u", "edgetool", "-o", "cat", "-n", "30").splitlines(),
    }
    print(json.dumps(state))


main()
