"""Enrolment while the lock runs, on its own camera: one person at a time, in a thread; faces open nothing meanwhile."""

import threading
from typing import TYPE_CHECKING

from device_apps.clock import Clock
from device_apps.door_lock.app import Reported
from device_apps.door_lock.commands import enrol_from
from device_apps.door_lock.policy import Policy
from device_apps.door_lock.state import State
from device_apps.events import Event, Listener
from edge.errors import BadInput, EdgetoolError

if TYPE_CHECKING:
    from device_apps.door_lock.app import DoorLock
    from device_apps.door_lock.camera import Camera
    from device_apps.door_lock.enrol import Advice


class Wizard:
    """Guides by events of the kind "enrolment", which go to `listener` alone: names are nobody else's matter."""

    def __init__(self, state: State, policy: Policy, clock: Clock, listener: Listener) -> None:
        self._state, self._policy, self._clock, self._listener = state, policy, clock, listener
        self._busy = threading.Lock()

    def begin(self, name: str, lock: "DoorLock", camera: "Camera") -> None:
        """Start to enrol somebody. Raises BadInput: somebody else is being enrolled."""
        if not self._busy.acquire(blocking=False):
            raise BadInput("somebody is being enrolled already")
        threading.Thread(target=self._run, args=(name, lock, camera), name="enrolment", daemon=True).start()

    def _run(self, name: str, lock: "DoorLock", camera: "Camera") -> None:
        lock.submit(Reported("enrolment", "somebody is being enrolled"))
        try:
            person, warnings = enrol_from(self._state, self._policy, name, camera, self._clock, self._advise)
            said = [f"{person.name} is enrolled with {len(person.templates)} shots", *warnings]
            self._tell("complete", "; ".join(said))
        except EdgetoolError as error:
            self._tell("failed", error.message)
        except Exception as error:  # noqa: BLE001  # whatever it is, the lock goes on and the page says it
            self._tell("failed", f"{type(error).__name__}: {error}")
        finally:
            lock.submit(Reported("enrolment", None))
            self._busy.release()

    def _advise(self, advice: "Advice") -> None:
        self._tell(advice.outcome, f"{advice.taken} of {advice.wanted} shots: {advice.text}")

    def _tell(self, outcome: str, text: str) -> None:
        self._listener(Event("enrolment", self._clock.wall(), {"outcome": outcome, "text": text}))
