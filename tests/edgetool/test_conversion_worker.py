"""The warm worker: results, expected errors, bugs, crashes, and life after each."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.errors import BadModel, ProcessCrashed
from edgetool.conversion_worker import ConversionWorker

Tell = Callable[[float, str], None]


def add(a: int, b: int, *, progress: Tell) -> int:
    progress(0.5, "adding")
    return a + b


def process_id(*, progress: Tell) -> int:
    return os.getpid()


def refuse(*, progress: Tell) -> None:
    raise BadModel("no weights", "train it")


def fail(*, progress: Tell) -> None:
    raise ZeroDivisionError("oops")


def crash(*, progress: Tell) -> None:
    os.write(2, b"about to die\n")
    os.kill(os.getpid(), signal.SIGSEGV)


def test_the_worker_stays_warm_reports_and_survives_everything() -> None:
    told: list[tuple[float, str]] = []
    with ConversionWorker() as worker:
        assert worker.call(add, 2, 3, progress=lambda *at: told.append(at)) == 5
        assert told == [(0.5, "adding")]
        first = worker.call(process_id)
        assert first != os.getpid()
        with pytest.raises(BadModel, match="no weights") as refused:
            worker.call(refuse)
        assert refused.value.hint == "train it"
        with pytest.raises(RuntimeError, match="ZeroDivisionError: oops"):
            worker.call(fail)
        assert worker.call(process_id) == first, "an error does not cost the warm process"
        with pytest.raises(ProcessCrashed, match="killed by SIGSEGV during crash; it last printed: about to die"):
            worker.call(crash)
        assert worker.call(process_id) != first, "a crash gets a fresh process"


def sleep(told: str, *, progress: Tell) -> None:
    import tempfile

    Path(told).write_text(f"{os.getpid()} {tempfile.gettempdir()}")
    time.sleep(600)


def test_the_worker_of_a_killed_program_ends_and_leaves_nothing(tmp_path: Path) -> None:
    told = tmp_path / "told"
    program = (
        "import sys; from tests.edgetool.test_conversion_worker import *; ConversionWorker().call(sleep, sys.argv[1])"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(told)]) as parent:
        try:
            assert soon(lambda: told.is_file() and " " in told.read_text())
        finally:
            parent.kill()
    process, scratch = told.read_text().split()
    assert soon(lambda: not Path("/proc", process).exists() and not Path(scratch).exists())


def soon(held: Callable[[], bool], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not held() and time.monotonic() < end:
        time.sleep(0.05)
    return held()
