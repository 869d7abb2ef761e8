"""The lock itself: findings, PINs and the egress button in; pulses, events and the audit record out.

Fail-secure: with any fault a face opens nothing. A PIN opens as the settings say, the egress button always. All that
decides runs in `tick`, in one thread, on a clock that is handed in; other threads only `submit`.
"""

import os
import queue
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_apps.audit import Recorder
from device_apps.clock import Clock, ClockWatch
from device_apps.door_lock.access import Proof, Verdict, verdict
from device_apps.door_lock.actuator import Actuator
from device_apps.door_lock.decision import Decision, Evidence, step
from device_apps.door_lock.finding import Finding
from device_apps.door_lock.lockout import Lockout
from device_apps.door_lock.pins import Pins
from device_apps.door_lock.policy import Policy
from device_apps.events import Event, Events
from device_apps.faults import Faults
from edge.errors import EdgetoolError

TICK_S = 0.05
CHECK_S = 0.5  # how often what costs a system call is looked at
MIN_FREE_BYTES = 256 << 10  # below it neither a template nor the record can be written for long
CLOCK_SETTLES_S = 5.0


@dataclass(frozen=True)
class PinEntered:
    """Somebody entered a PIN; `via` is where ("keypad", "web")."""

    pin: str
    via: str

    def __repr__(self) -> str:
        return f"PinEntered(via={self.via!r})"  # no PIN in any log


@dataclass(frozen=True)
class EgressPressed:
    """Somebody inside wants out."""

    via: str = "button"


@dataclass(frozen=True)
class Reported:
    """A part outside the lock (a broker's client, a button) says what is wrong with it; None: nothing any more."""

    source: str
    reason: str | None


@dataclass(frozen=True)
class Reset:
    """Start over: what was seen and entered so far counts no more."""

    reason: str


@dataclass(frozen=True)
class RemoteUnlock:
    """A signed command, already checked: `by` signed it, `until_s` is when it ends to count (monotonic clock)."""

    by: str
    via: str
    until_s: float


Request = PinEntered | EgressPressed | RemoteUnlock | Reported | Reset | Finding
Checks = Mapping[str, Callable[[float], str | None]]


class DoorLock:
    """One door. `checks` say for each source what is wrong with it now, by the monotonic time; None is healthy."""

    def __init__(
        self,
        policy: Policy,
        clock: Clock,
        *,
        actuator: Actuator,
        audit: Recorder,
        pins: Pins,
        face_lockout: Lockout,
        pin_lockout: Lockout,
        events: Events,
        checks: Checks,
        state: Path,
    ) -> None:
        self._policy, self._clock = policy, clock
        self._actuator, self._audit, self._pins, self._events = actuator, audit, pins, events
        self._face_lockout, self._pin_lockout = face_lockout, pin_lockout
        self._checks, self._state = checks, state
        self.faults = Faults()
        self._inbox: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._evidence = Evidence()
        self._face: Proof | None = None
        self._pin: Proof | None = None
        self._watch = ClockWatch(clock)
        self._checked_s = self._jumped_s = float("-inf")
        self._was_open = False

    def submit(self, request: Request) -> None:
        """Hand something in, from any thread; `tick` acts on it."""
        self._inbox.put(request)

    def run(self, stopped: Callable[[], bool]) -> None:
        """Tick until `stopped` says so, then lock and let go of the actuator."""
        try:
            self._record("started", {})
            while not stopped():
                self.tick(TICK_S)
        finally:
            self._actuator.close()
            self._record("stopped", {})

    def tick(self, wait_s: float = 0.0) -> None:
        """Look for faults, then act on all that was handed in; waits up to `wait_s` for something."""
        try:
            first = self._inbox.get(timeout=wait_s) if wait_s else self._inbox.get_nowait()
        except queue.Empty:
            first = None
        self._look_for_faults()
        while first is not None:
            self._act(first)
            try:
                first = self._inbox.get_nowait()
            except queue.Empty:
                first = None

    def _act(self, request: Request) -> None:
        if isinstance(request, Finding):
            self._see(request)
        elif isinstance(request, PinEntered):
            self._enter(request)
        elif isinstance(request, EgressPressed):
            self._open(Verdict(True, None, ("egress",)), {"via": request.via}, must_record=False)
        elif isinstance(request, RemoteUnlock):
            self._obey(request)
        elif isinstance(request, Reported):
            self._fault(request.source, request.reason)
        else:
            self._forget()
            self._record("reset", {"reason": request.reason})

    def _see(self, finding: Finding) -> None:
        now = self._clock.monotonic()
        remaining = self._face_lockout.remaining_s()
        if self.faults or remaining:
            self._evidence = Evidence()
            reasons = self.faults.reasons() or (f"locked out after too many failures, {remaining:.0f} s left",)
            self._tell_frame(finding, Decision("wait", None, reasons))
            return
        self._evidence, decision = step(self._evidence, finding, now, self._policy.decision)
        self._tell_frame(finding, decision)
        if decision.outcome == "refuse":
            self._guarded(self._face_lockout.name, self._face_lockout.failed)
            self._record("refused", {"by": "face", "reasons": decision.reasons, **_seen(finding)})
        elif decision.outcome == "accept" and decision.person is not None:
            self._face = Proof((decision.person,), now)
            self._conclude({"face": decision.reasons, **_seen(finding)})

    def _enter(self, entered: PinEntered) -> None:
        remaining = self._pin_lockout.remaining_s()
        if remaining:
            self._tell("pin", {"right": False, "reasons": [f"PINs are locked out for {remaining:.0f} s"]})
            return
        try:
            people = self._pins.check(entered.pin)
        except EdgetoolError as error:
            self._tell("pin", {"right": False, "reasons": [error.message]})
            self._record("refused", {"by": "pin", "reasons": [error.message], "via": entered.via})
            return
        if not people:
            self._guarded(self._pin_lockout.name, self._pin_lockout.failed)
            self._tell("pin", {"right": False, "reasons": ["wrong PIN"]})
            self._record("refused", {"by": "pin", "reasons": ["wrong PIN"], "via": entered.via})
            return
        self._pin = Proof(people, self._clock.monotonic())
        self._tell("pin", {"right": True, "reasons": []})
        self._conclude({"via": entered.via})

    def _obey(self, command: RemoteUnlock) -> None:
        """Open for a signed command, as for a face: not with any fault, and not unrecorded."""
        late = ("the command came too late",) if self._clock.monotonic() > command.until_s else ()
        reasons = late or self.faults.reasons()
        details = {"by": command.by, "via": command.via}
        if reasons:
            self._tell("ignored", {"reasons": reasons, **details})
            self._record("refused", {"reasons": reasons, **details})
            return
        self._open(Verdict(True, None, ("signed command",)), details, must_record=True)

    def _conclude(self, details: Mapping[str, Any]) -> None:
        """Open where the proofs at hand suffice."""
        now = self._clock.monotonic()
        found = verdict(self._face, self._pin, now, self._policy.access, self.faults.reasons())
        if not found.opens:
            self._tell("waiting", {"person": found.person, "reasons": found.reasons})
            return
        by_pin = found.reasons[0] == "PIN"
        if self._open(found, details, must_record=not by_pin):
            if not by_pin:
                self._guarded(self._face_lockout.name, self._face_lockout.succeeded)
            if self._pin is not None:
                self._guarded(self._pin_lockout.name, self._pin_lockout.succeeded)
            self._face = self._pin = None

    def _open(self, found: Verdict, details: Mapping[str, Any], *, must_record: bool) -> bool:
        """Record, then act; what must be recorded and cannot be does not open."""
        fields = {"person": found.person, "reasons": found.reasons, **details}
        if not self._record("unlock", fields) and must_record:
            return False
        try:
            self._actuator.open_door(self._policy.actuator.pulse_s)
        except EdgetoolError as error:
            self._fault("actuator", error.message)
            self._record("failed", {"what": "actuator", "reason": error.message})
            return False
        self._was_open = True
        self._tell("unlock", fields)
        return True

    def _look_for_faults(self) -> None:
        now = self._clock.monotonic()
        self._fault("actuator", self._actuator.check())
        if self._was_open and not self._actuator.is_open:
            self._was_open = False
            self._tell("locked", {})
        for source, check in self._checks.items():
            self._fault(source, check(now))
        if now - self._checked_s >= CHECK_S:
            self._checked_s = now
            self._fault("disk", self._disk())
            jump = self._watch.jump()
            if jump:
                self._jumped_s = now
                self._record("clock", {"jumped_s": round(jump, 1)})
                self._fault("clock", f"the clock jumped by {jump:.0f} s")
            elif now - self._jumped_s > CLOCK_SETTLES_S:
                self._fault("clock", None)
            for lockout in (self._face_lockout, self._pin_lockout):
                self._guarded(lockout.name, lockout.settle)
        reasons = self.faults.reasons()
        if reasons and (self._evidence.agreeing or self._face is not None):
            self._evidence, self._face = Evidence(), None

    def _disk(self) -> str | None:
        try:
            found = os.statvfs(self._state)
        except OSError as error:
            return f"the state folder cannot be looked at: {error.strerror}"
        free = found.f_bavail * found.f_frsize
        return f"the disk is full: below {MIN_FREE_BYTES >> 10} kB are left" if free < MIN_FREE_BYTES else None

    def _fault(self, source: str, reason: str | None) -> None:
        if self.faults.set(source, reason):
            fields = {"source": source, "reason": reason}
            kind = "fault" if reason is not None else "fault ended"
            self._tell(kind, {**fields, "locked": True})
            if source not in {"audit", "disk"}:
                self._record(kind, fields)

    def _guarded(self, source: str, action: Callable[[], None]) -> None:
        try:
            action()
        except EdgetoolError as error:
            self._fault(source, error.message)
        else:
            self._fault(source, None)

    def _record(self, event: str, fields: Mapping[str, Any]) -> bool:
        """Whether it is in the audit record."""
        try:
            self._audit.append(event, fields)
        except EdgetoolError as error:
            self._fault("audit", error.message)
            return False
        self._fault("audit", None)
        return True

    def _tell(self, kind: str, fields: Mapping[str, Any]) -> None:
        self._events.tell(Event(kind, self._clock.wall(), fields))

    def _tell_frame(self, finding: Finding, decision: Decision) -> None:
        fields = {
            "outcome": decision.outcome,
            "person": decision.person,
            "reasons": decision.reasons,
            "faces": [[round(value, 1) for value in face.box] for face in finding.faces],
            "captured_s": finding.captured_s,
            "age_ms": round((self._clock.monotonic() - finding.captured_s) * 1000, 1),
            "stages_ms": {name: round(value, 2) for name, value in finding.stages_ms.items()},
            **_seen(finding),
        }
        self._tell("frame", fields)

    def _forget(self) -> None:
        self._evidence, self._face, self._pin = Evidence(), None, None


def _seen(finding: Finding) -> dict[str, Any]:
    """What speaks for and against a face, as plain data."""
    seen: dict[str, Any] = {}
    if finding.live is not None:
        seen["live"] = round(finding.live, 4)
    if finding.match is not None:
        seen |= {"similarity": round(finding.match.similarity, 4), "runner_up": round(finding.match.runner_up, 4)}
        seen["nearest"] = finding.match.nearest
    return seen
