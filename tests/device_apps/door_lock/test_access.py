import pytest

from device_apps.door_lock.access import AccessRules, Proof, verdict

ANN, BEN = Proof(("ann",), 100.0), Proof(("ben",), 100.0)
SHARED = Proof(("ann", "ben"), 100.0)
ALONE = AccessRules(face_alone=True)
BOTH = AccessRules()


@pytest.mark.parametrize(
    ("face", "pin", "rules", "faults", "opens", "reason"),
    [
        (ANN, None, ALONE, (), True, "face"),
        (ANN, None, BOTH, (), False, "recognised; now the PIN"),
        (ANN, ANN, BOTH, (), True, "face and PIN"),
        (ANN, SHARED, BOTH, (), True, "face and PIN"),
        (ANN, BEN, BOTH, (), False, "the PIN is another person's"),
        (None, ANN, BOTH, (), False, "the PIN is right; now show your face"),
        (None, None, BOTH, (), False, "no proof"),
        (None, ANN, BOTH, ("the camera is gone",), True, "PIN"),
        (None, ANN, AccessRules(pin_alone="always"), (), True, "PIN"),
        (None, ANN, AccessRules(pin_alone="never"), ("the camera is gone",), False, "the camera is gone"),
        (ANN, None, ALONE, ("the camera is gone",), False, "the camera is gone"),
        (ANN, ANN, AccessRules(pin_alone="never"), ("the camera is gone",), False, "the camera is gone"),
    ],
)
def test_what_opens(
    face: Proof | None, pin: Proof | None, rules: AccessRules, faults: tuple[str, ...], opens: bool, reason: str
) -> None:
    found = verdict(face, pin, 101.0, rules, faults)
    assert (found.opens, found.reasons[0]) == (opens, reason)


def test_proofs_grow_old_and_none_comes_from_the_future() -> None:
    assert not verdict(ANN, ANN, 115.1, BOTH, ()).opens
    assert verdict(ANN, ANN, 115.0, BOTH, ()).opens
    assert not verdict(ANN, ANN, 99.9, BOTH, ()).opens
    assert not verdict(ANN, Proof(("ann",), 80.0), 101.0, BOTH, ()).opens


def test_a_pin_that_two_have_names_nobody() -> None:
    assert verdict(None, SHARED, 101.0, AccessRules(pin_alone="always"), ()).person is None
    assert verdict(None, BEN, 101.0, AccessRules(pin_alone="always"), ()).person == "ben"
