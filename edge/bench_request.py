"""A model timed for a host: `python -m edge bench` with packages that came for it. The standard library alone."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge import errors
from edge.errors import EnvironmentFailed, ProcessCrashed

LIMIT_S = 3600.0


def bench(model: Path, packages: Sequence[Path], arguments: Sequence[str]) -> Any:
    """What the program answers, as plain data.

    Raises:
        EdgetoolError: what it failed with.
        ProcessCrashed: it died; SIGILL is an instruction that the processor lacks.

    """
    paths = os.pathsep.join(map(str, packages))
    command = [sys.executable, "-m", "edge", "bench", str(model), "--json", *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=model.parent,
            env={**os.environ, "PYTHONPATH": paths, "PYTHONNOUSERSITE": "1"},
            timeout=LIMIT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise ProcessCrashed(f"the benchmark hangs: it took more than {error.timeout:g} s") from error
    if done.returncode == 0:
        return json.loads(done.stdout)
    told = {word: rest for word, _, rest in (line.partition(": ") for line in done.stderr.splitlines())}
    if done.returncode < 0 or "error" not in told:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ProcessCrashed(f"the benchmark ended: {last}")
    kinds = {1: errors.CheckFailed, 2: errors.BadInput}
    raise kinds.get(done.returncode, EnvironmentFailed)(told["error"], told.get("hint"))
