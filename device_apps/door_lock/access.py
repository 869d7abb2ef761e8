"""Which proofs open the door: a face, a PIN, or both. Pure."""

from dataclasses import dataclass
from typing import Literal

PinAlone = Literal["always", "on_fault", "never"]


@dataclass(frozen=True)
class AccessRules:
    """What opens the door.

    By default a face needs the PIN of the same person within `valid_s`: what fools a plain camera does not fool a PIN.
    `pin_alone` says when a PIN opens without a face: "on_fault" is when faces cannot be recognised at all.
    """

    face_alone: bool = False
    pin_alone: PinAlone = "on_fault"
    valid_s: float = 15.0

    def __post_init__(self) -> None:
        if not 1 <= self.valid_s <= 60:
            raise ValueError("valid_s is 1 to 60")


@dataclass(frozen=True)
class Proof:
    """Who was recognised when, on the monotonic clock. A PIN that several people have proves all of them."""

    people: tuple[str, ...]
    at_s: float


@dataclass(frozen=True)
class Verdict:
    """Whether the door opens, for whom, and why or why not."""

    opens: bool
    person: str | None
    reasons: tuple[str, ...]


def verdict(
    face: Proof | None, pin: Proof | None, now_s: float, rules: AccessRules, faults: tuple[str, ...]
) -> Verdict:
    """What the proofs at hand come to. With any fault a face proves nothing; a PIN still does."""
    fresh_face = None if face is None or not 0 <= now_s - face.at_s <= rules.valid_s else face
    fresh_pin = None if pin is None or not 0 <= now_s - pin.at_s <= rules.valid_s else pin
    if fresh_pin is not None and (rules.pin_alone == "always" or (rules.pin_alone == "on_fault" and faults)):
        named = fresh_pin.people[0] if len(fresh_pin.people) == 1 else None
        return Verdict(True, named, ("PIN", *faults))
    if faults or fresh_face is None:
        why = "the PIN is right; now show your face" if fresh_pin is not None else "no proof"
        return Verdict(False, None, faults or (why,))
    return _face_and(fresh_pin, fresh_face.people[0], rules)


def _face_and(pin: Proof | None, person: str, rules: AccessRules) -> Verdict:
    if rules.face_alone:
        return Verdict(True, person, ("face",))
    if pin is None:
        return Verdict(False, person, ("recognised; now the PIN",))
    if person not in pin.people:
        return Verdict(False, person, ("the PIN is another person's",))
    return Verdict(True, person, ("face and PIN",))
