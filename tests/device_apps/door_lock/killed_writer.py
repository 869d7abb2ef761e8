"""Enrols, revokes and records until it is killed: `python killed_writer.py STATE`. Says each acknowledged step."""

import sys
from pathlib import Path

import numpy as np

from device_apps.clock import SystemClock
from device_apps.door_lock.people import Person
from device_apps.door_lock.state import open_state

state = open_state(Path(sys.argv[1]))
people, pins, recorder = state.people(), state.pins(), state.recorder(SystemClock())
number = 0
while True:
    vectors = np.full((40, 512), number % 7 + 1, np.float32)  # 80 kB: enough that a write can be cut in two
    people.add(Person("aaaaaaaaaaaaaaaa", f"n{number}", vectors, "a" * 64, float(number)))
    head = recorder.append("enrolled", {"number": number, "padding": "x" * 2000})
    sys.stdout.write(f"{number} {head.seq}\n")
    sys.stdout.flush()
    number += 1
