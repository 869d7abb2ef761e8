"""Run on a device by its own Python: asks the service three golden vectors and prints how it is, as JSON."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from typing import Any

ANSWERS = 3
LIMIT_S = 20.0


def ask(folder: str) -> "dict[str, Any]":
    """One golden vector through the service; the path goes by an open folder, since a socket's may have 107 bytes."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(LIMIT_S)
            connection.connect(f"/proc/self/fd/{handle}/service.sock")
            connection.sendall(b'{"ask": "health"}\n')
            answer: dict[str, Any] = json.loads(connection.makefile().readline())
            return answer
    finally:
        os.close(handle)


def starts(base: str, service: str) -> "int | None":
    """How often the service was started."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        if service != "systemd":
            with open(os.path.join(base, "run", "supervisor.json"), encoding="utf-8") as file:  # noqa: PTH118, PTH123
                return int(json.load(file)["starts"])
        words = ("systemctl", "show", "-P", "NRestarts", "edgetool.service")
        return int(subprocess.run(words, capture_output=True, text=True, check=False).stdout) + 1
    return None


def temperature() -> "float | None":
    """The first thermal zone, in degrees Celsius."""
    with contextlib.suppress(OSError, ValueError), open("/sys/class/thermal/thermal_zone0/temp", "rb") as file:  # noqa: PTH123
        return int(file.read()) / 1000
    return None


def main(base: str, service: str) -> None:
    """Ask, and print one line."""
    folder = "/run/edgetool" if service == "systemd" else os.path.join(base, "run")  # noqa: PTH118
    answers: list[dict[str, Any]] = []
    problem = None
    try:
        for _ in range(ANSWERS):
            answers.append(ask(folder))
            time.sleep(0.1)
    except (OSError, ValueError) as error:
        problem = f"its service does not answer: {error}"
    if problem is None and any("ok" not in answer or not answer["ok"] for answer in answers):
        problem = "its service's answer is not what it was when the model was made"
    if problem is None and len({answer["pid"] for answer in answers}) > 1:
        problem = "its service ended while it was asked"
    last = answers[-1] if answers else {}
    told = {"release": last.get("release"), "bundle": last.get("bundle")}
    told["ms"] = min((answer["ms"] for answer in answers if "ms" in answer), default=None)
    told |= {"starts": starts(base, service), "temperature_c": temperature(), "problem": problem}
    sys.stdout.write(json.dumps(told) + "\n")


main(sys.argv[1], sys.argv[2])
