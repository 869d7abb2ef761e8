"""A placed release that has to prove itself before it is switched to: its golden vectors, in its own packages.

The standard library alone.
"""

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

from edge import releases
from edge.errors import CheckFailed, ProcessCrashed
from edge.releases import BUNDLE

REPLAY_LIMIT_S = 300.0
ILLEGAL = (
    "the processor lacks an instruction that the runtime uses (SIGILL)",
    "edgetool doctor DEVICE lists its instructions; take wheels that are built for it",
)


def ending(code: int) -> str:
    """An exit code in words: `exit code 1`, `SIGILL`."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


def replay(base: Path, name: str, limit_s: float) -> None:
    """The release's signature, where it has to have one, and its golden vectors through its own runtime, in a process
    of its own.

    Raises:
        CheckFailed: they differ, nobody who is trusted signed it, or the release was changed by hand.
        ProcessCrashed: the runtime died; an instruction that the processor lacks is named.

    """
    releases.check(base, name)
    folder = base / "releases" / name
    command = [sys.executable, "-I", str(folder / "start.py"), "edge", "verify", str(folder / BUNDLE), "--json"]
    keys, certificates = releases.trusted(base, name)
    command += [word for key in keys for word in ("--key", str(key))]
    command += [word for certificate in certificates for word in ("--certificate", str(certificate))]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=max(limit_s, REPLAY_LIMIT_S)
        )
    except subprocess.TimeoutExpired as error:
        raise ProcessCrashed(f"the replay hangs: it took more than {error.timeout:g} s") from error
    if done.returncode == -signal.SIGILL:
        raise ProcessCrashed(*ILLEGAL)
    if done.returncode < 0:
        raise ProcessCrashed(f"the runtime ended by {ending(done.returncode)} on the golden vectors")
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no word"]
        told = [line.partition(": ")[2] for line in lines if line.startswith("error: ")] or lines[-1:]
        raise CheckFailed(f"the golden vectors fail on the device: {told[0]}", "edgetool doctor DEVICE")
