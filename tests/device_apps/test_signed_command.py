"""Which commands from afar are obeyed: signed, fresh, never seen, not retained."""

import json
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")  # the device's environments have none

from hypothesis import given
from hypothesis import strategies as st

from device_apps.clock import FakeClock
from device_apps.signed_command import CommandCheck, key_in, signed_command
from edge.errors import BadData, BadInput

KEY = bytes(32)


def refused(check: CommandCheck, payload: bytes, *, retained: bool = False) -> str:
    with pytest.raises(BadData) as caught:
        check.check(payload, retained=retained)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_signed_command_is_obeyed_once() -> None:
    clock = FakeClock()
    check = CommandCheck(KEY, clock)
    message = signed_command(KEY, "unlock", "Ann's phone", clock.wall())
    assert check.check(message, retained=False).by == "Ann's phone"
    assert "used before" in refused(check, message)


def test_retained_old_early_and_foreign_commands_are_not() -> None:
    clock = FakeClock()
    check = CommandCheck(KEY, clock)
    clock.advance(100)
    now = clock.wall()
    assert "retained" in refused(check, signed_command(KEY, "unlock", "x", now), retained=True)
    assert "older" in refused(check, signed_command(KEY, "unlock", "x", now - 5.1))
    assert "future" in refused(check, signed_command(KEY, "unlock", "x", now + 1.1))
    assert "another key" in refused(check, signed_command(bytes([1] * 32), "unlock", "x", now))
    assert "action" in refused(check, signed_command(KEY, "lock", "x", now))


def test_a_change_of_any_part_breaks_the_signature() -> None:
    clock = FakeClock()
    check = CommandCheck(KEY, clock)
    body = json.loads(signed_command(KEY, "unlock", "x", clock.wall()))
    for change in ({"at": body["at"] + 1}, {"by": "y"}, {"nonce": "0" * 32}, {"mac": "0" * 64}):
        assert "another key" in refused(check, json.dumps({**body, **change}).encode())


def test_what_was_signed_before_the_start_is_not_obeyed_after_it() -> None:
    clock = FakeClock()
    message = signed_command(KEY, "unlock", "x", clock.wall())
    clock.advance(1)
    assert "this start" in refused(CommandCheck(KEY, clock), message)


def test_a_clock_that_is_set_back_lets_nothing_be_replayed() -> None:
    clock = FakeClock()
    check = CommandCheck(KEY, clock)
    clock.advance(50)
    then = clock.wall()
    message = signed_command(KEY, "unlock", "x", then)
    check.check(message, retained=False)
    for _ in range(10):
        clock.advance(3)
        check.check(signed_command(KEY, "unlock", "x", clock.wall()), retained=False)
    assert len(check._used) < 5
    clock.set_wall(then)
    assert "older" in refused(check, message)


@given(
    st.one_of(
        st.binary(max_size=1200), st.recursive(st.none() | st.text() | st.floats(), st.lists).map(repr).map(str.encode)
    )
)
def test_no_payload_whatever_is_obeyed_or_crashes(payload: bytes) -> None:
    refused(CommandCheck(KEY, FakeClock()), payload)


@pytest.mark.parametrize("payload", [b"[" * 1000, b"UNLOCK", b"", b'{"mac":"\xc3\xa9"}', b"null", b"x" * 5000])
def test_odd_payloads(payload: bytes) -> None:
    refused(CommandCheck(KEY, FakeClock()), payload)


@given(
    st.dictionaries(
        st.sampled_from(["action", "at", "by", "nonce"]), st.none() | st.integers() | st.floats() | st.text()
    )
)
def test_a_wrong_value_of_any_key_is_refused(wrong: dict[str, object]) -> None:
    clock = FakeClock()
    body = json.loads(signed_command(KEY, "unlock", "x", clock.wall()))
    if wrong:
        refused(CommandCheck(KEY, clock), json.dumps({**body, **wrong}).encode())


def test_nobody_signs_without_a_name_or_a_key(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="cannot sign"):
        signed_command(KEY, "unlock", "", 0.0)
    (tmp_path / "key").write_text(KEY.hex() + "\n")
    assert key_in(tmp_path / "key") == KEY
    (tmp_path / "key").write_text("secret")
    with pytest.raises(BadInput, match="no key"):
        key_in(tmp_path / "key")
    with pytest.raises(BadInput, match="cannot be read"):
        key_in(tmp_path / "none")
