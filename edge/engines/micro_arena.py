"""The smallest arena in which TFLite Micro runs a model, found in a process of its own.

An arena that is a few bytes too small ends the process: the interpreter does not check every allocation.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from edge.engines.native_log import native_log
from edge.engines.reason import one_line
from edge.errors import BadModel

ALIGNMENT = 16  # of the arena and of all in it (MicroArenaBufferAlignment)
FIRST_TRY_BYTES = 1 << 20
MOST_BYTES = 1 << 28  # far beyond any microcontroller's memory
LIMIT_S = 120.0
PACKAGES = Path(__file__).resolve().parents[2]

_TOTAL = re.compile(r"Arena allocation total (\d+) bytes")
_NO_OPERATION = re.compile(r"Didn't find (?:op for builtin opcode '(\w+)'|custom op for name '([^']+)')")


def least_arena_bytes(content: bytes, title: str) -> int:
    """The smallest arena, in steps of its alignment, in which the model loads and runs here.

    Raises:
        BadModel: the interpreter does not take the model, or lacks one of its operations.

    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "edge.engines.micro_arena"],
            input=content, capture_output=True, cwd=PACKAGES, timeout=LIMIT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise BadModel(f"TFLite Micro did not end within {LIMIT_S:g} s while loading {title}") from None
    told: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
    if "missing" in told:
        raise BadModel(
            f"TFLite Micro has no operation {told['missing']}, which {title} uses", "rebuild the model without it"
        )
    if "fits" not in told:
        how = told.get("said") or f"its process ended with {done.returncode}"
        raise BadModel(f"TFLite Micro cannot load {title}: {how}")
    return int(told["fits"])


def main() -> None:
    """A model on the standard input to one JSON object: `fits`, `missing` or `said`."""
    content = sys.stdin.buffer.read()
    size = FIRST_TRY_BYTES
    while "fits" not in (tried := _try(content, size)):
        if "missing" in tried or size >= MOST_BYTES:
            sys.stdout.write(json.dumps(tried))
            return
        size *= 4
    # what is left in use is the least there can be, and mostly enough; for a moment planning may need some more
    fails = tried["total"] // ALIGNMENT - 1
    step = 1
    while not _survives(content, (fails + step) * ALIGNMENT):
        fails, step = fails + step, step * 2
    works = fails + step
    while works - fails > 1:
        middle = (fails + works) // 2
        fails, works = (fails, middle) if _survives(content, middle * ALIGNMENT) else (middle, works)
    sys.stdout.write(json.dumps({"fits": works * ALIGNMENT}))


def _survives(content: bytes, arena_bytes: int) -> bool:
    """Whether a process of its own, which may crash, loads and runs the model."""
    child = os.fork()
    if child == 0:
        os._exit(0 if "fits" in _try(content, arena_bytes) else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _try(content: bytes, arena_bytes: int) -> dict[str, Any]:
    from tflite_micro import runtime

    total, said = arena_bytes, ""
    with native_log() as log:
        try:
            interpreter = runtime.Interpreter.from_bytes(content, arena_size=arena_bytes)
            fed = interpreter.get_input_details(0)
            interpreter.set_input(np.zeros(fed["shape"], fed["dtype"]), 0)
            interpreter.invoke()
            interpreter.get_output(0)
            interpreter.print_allocations()
        except Exception as error:  # noqa: BLE001  # what damage makes the generated reader raise is open-ended
            said = one_line(error)
    if not said:
        found = _TOTAL.search(log.text)
        return {"fits": arena_bytes, "total": int(found[1]) if found else total}
    if missing := _NO_OPERATION.search(log.text):
        return {"missing": missing[1] or missing[2]}
    lines = [line.strip() for line in log.text.splitlines() if line.strip()]
    return {"said": lines[0].rpartition(".cc ")[2] if lines else said}


if __name__ == "__main__":
    main()
