"""kill -9 while people are enrolled and the record is written: a slice; benchmarks may do more."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from device_apps.clock import SystemClock
from device_apps.door_lock.state import open_state

WRITER = Path(__file__).with_name("killed_writer.py")
KILLS = 8


def test_no_kill_leaves_a_damaged_store_or_record(tmp_path: Path) -> None:
    rng, seen = random.Random(7), 0
    for _ in range(KILLS):
        process = subprocess.Popen([sys.executable, str(WRITER), str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()  # it writes now
        time.sleep(rng.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        said = [line.split() for line in process.stdout.read().splitlines() if line.count(" ") == 1]
        process.wait()
        state = open_state(tmp_path)
        (person,), refused = state.people().load("a" * 64)
        assert refused == ()
        number = int(person.enrolled_at)
        assert (person.templates == number % 7 + 1).all()
        head = _verified(tmp_path)
        if said:  # what was acknowledged is there
            assert number >= int(said[-1][0])
            assert head >= int(said[-1][1])
        assert head > seen
        seen = head


def _verified(folder: Path) -> int:
    """The record's head after it was opened again, as the next start does, which cuts off a torn line."""
    from device_apps.door_lock.commands import verify_audit

    state = open_state(folder)
    state.recorder(SystemClock()).append("started", {})
    return verify_audit(state, None).seq
