"""kill -9 while people are enrolled and while the audit record is written: whether anything is damaged or lost.

python -m benchmarks.door_lock_kills            200 kills of each, about two minutes
python -m benchmarks.door_lock_kills --slice    10 of each, some seconds; writes no figures

A child process enrols (seals templates of 80 kB, sets a PIN) or appends to the record, says each step that was
acknowledged, and is killed at a random moment. Then the state is opened as at the next start: every sealed record must
open and hold one write's content whole, the PIN must be right, the chain and its anchor must verify, and nothing that
was acknowledged may be missing. A kill is in the middle of a write where a temporary file or a torn line was left.
What a kill cannot show is a power cut: the disk's own cache is not lost.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.figures import Figure, write
from device_apps.clock import SystemClock
from device_apps.door_lock.commands import verify_audit
from device_apps.door_lock.people import Person
from device_apps.door_lock.state import State, open_state
from device_apps.durable import TEMPORARY
from edge.errors import EdgetoolError

KILLS = 200
PERSON, MODEL = "aaaaaaaaaaaaaaaa", "a" * 64
LONGEST_S = 0.03
CASES = tuple(f"{number:04}" for number in range(10))


@dataclass
class Outcome:
    """How many kills there were, how many left a write half done, and what was wrong after them."""

    kills: int = 0
    amid: int = 0
    writes: int = 0
    wrong: tuple[str, ...] = ()


def enrolling(state: State, said: int, first: int) -> None:
    """Enrol one person again and again, with content that tells which time it was, and a PIN."""
    people, pins, number = state.people(), state.pins(), first
    while True:
        vectors = np.full((40, 512), number % 7 + 1, np.float32)
        people.add(Person(PERSON, f"n{number}", vectors, MODEL, float(number)))
        pins.set(PERSON, CASES[number % len(CASES)] + "00")
        os.write(said, f"{number}\n".encode())
        number += 1


def recording(state: State, said: int, _: int) -> None:
    """Append to the record."""
    recorder = state.recorder(SystemClock())
    while True:
        head = recorder.append("fault", {"source": "camera", "padding": "x" * 2000})
        os.write(said, f"{head.seq}\n".encode())


def check_enrolled(state: State, acknowledged: int) -> int:
    """The number of the write that is there. Raises AssertionError: it is not whole, or an earlier one."""
    (person,), refused = state.people().load(MODEL)
    assert not refused, refused
    number = int(person.enrolled_at)
    assert person.name == f"n{number}"
    assert person.templates.shape == (40, 512)
    assert (person.templates == number % 7 + 1).all(), "the templates are of two writes"
    assert number >= acknowledged, f"write {acknowledged} was acknowledged, {number} is there"
    pins = state.pins()
    assert any(pins.check(CASES[at % len(CASES)] + "00") == (PERSON,) for at in (number, number - 1)), "the PIN is lost"
    return number


def check_recorded(state: State, acknowledged: int) -> int:
    """The record's head. Raises AssertionError: a line that was acknowledged is missing."""
    state.recorder(SystemClock()).append("started", {})
    head = verify_audit(state, None).seq
    assert head > acknowledged, f"line {acknowledged} was acknowledged, the head is {head - 1}"
    return head


def killed(
    folder: Path, kills: int, seed: int, work: Callable[[State, int, int], None], check: Callable[[State, int], int]
) -> Outcome:
    """Kill `work` so many times; `check` looks at the state after each."""
    rng, outcome, reached = random.Random(seed), Outcome(), 0
    for _ in range(kills):
        before = left_over(folder)
        reading, said = os.pipe()
        child = os.fork()
        if not child:
            try:
                work(open_state(folder), said, reached + 1)
            finally:
                os._exit(1)
        os.close(said)
        with os.fdopen(reading) as heard:
            acknowledged = [heard.readline()]  # it writes now
            time.sleep(rng.uniform(0, LONGEST_S))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            acknowledged += heard.read().splitlines(keepends=True)
        if os.WTERMSIG(status) != signal.SIGKILL:
            raise RuntimeError("the writer ended by itself")
        last = int([line for line in acknowledged if line.endswith("\n")][-1])
        outcome.amid += bool(left_over(folder) - before) or is_torn(folder / "audit.jsonl")
        try:
            now = check(open_state(folder), last)
        except (AssertionError, EdgetoolError, ValueError) as error:
            outcome.wrong += (f"after write {last}: {error}",)
            now = last
        outcome.kills, outcome.writes, reached = outcome.kills + 1, outcome.writes + now - reached, now
    return outcome


def left_over(folder: Path) -> set[tuple[Path, int]]:
    """The temporary files, each with when it was written last."""
    return {(path, path.stat().st_mtime_ns) for path in folder.rglob(f"*{TEMPORARY}")}


def is_torn(record: Path) -> bool:
    """Whether the last line of a record has no end."""
    return record.exists() and not record.read_bytes().endswith(b"\n")


def main() -> int:
    """Kill, write the figures; 1 where anything was damaged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", action="store_true")
    is_slice = parser.parse_args().slice
    kills = 10 if is_slice else KILLS
    found: dict[str, Outcome] = {}
    for name, work, check in (("enrolment", enrolling, check_enrolled), ("audit", recording, check_recorded)):
        folder = Path(tempfile.mkdtemp(prefix="door-lock-kills-"))
        try:
            found[name] = killed(folder, kills, 7, work, check)
        finally:
            shutil.rmtree(folder)
        outcome = found[name]
        print(f"{name}: {outcome.kills} kills, {outcome.amid} amid a write, {outcome.writes} writes")
        for wrong in outcome.wrong:
            print(f"  WRONG {wrong}")
    corrupt = sum(len(outcome.wrong) for outcome in found.values())
    if not is_slice:
        figures = [Figure("kills.corrupt_stores", "== 0", corrupt, "", None, corrupt == 0)]
        for name, outcome in found.items():
            enough = outcome.kills >= KILLS
            figures.append(Figure(f"kills.{name}", f">= {KILLS}", outcome.kills, "kills", None, enough))
            figures.append(Figure(f"kills.{name}_amid_a_write", "reported", outcome.amid, "kills", None, True))
        write("door_lock_kills", "python -m benchmarks.door_lock_kills", figures)
    return 1 if corrupt else 0


if __name__ == "__main__":
    sys.exit(main())
