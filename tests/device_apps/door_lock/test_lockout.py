from pathlib import Path

import pytest

from device_apps.clock import FakeClock
from device_apps.door_lock.lockout import Lockout, LockoutRules, this_boot
from edge.errors import EdgetoolError

RULES = LockoutRules(max_failures=3, first_s=60, max_s=200, forget_s=1000)


def fail(lockout: Lockout, times: int) -> None:
    for _ in range(times):
        lockout.failed()


def test_the_third_failure_locks_and_each_further_one_doubles(tmp_path: Path) -> None:
    clock = FakeClock()
    lockout = Lockout(tmp_path / "face.json", RULES, clock, "boot")
    fail(lockout, 2)
    assert lockout.remaining_s() == 0
    durations = []
    for _ in range(4):
        lockout.failed()
        durations.append(lockout.remaining_s())
    assert durations == [60, 120, 200, 200]
    clock.advance(199)
    assert lockout.remaining_s() == pytest.approx(1)
    clock.advance(1)
    assert lockout.remaining_s() == 0


def test_setting_the_wall_clock_ends_nothing(tmp_path: Path) -> None:
    clock = FakeClock()
    lockout = Lockout(tmp_path / "face.json", RULES, clock, "boot")
    fail(lockout, 3)
    clock.set_wall(clock.wall() + 1e6)
    assert lockout.remaining_s() == 60


def test_a_restart_goes_on_and_a_reboot_starts_again(tmp_path: Path) -> None:
    clock = FakeClock()
    fail(Lockout(tmp_path / "face.json", RULES, clock, "boot"), 3)
    clock.advance(50)
    assert Lockout(tmp_path / "face.json", RULES, clock, "boot").remaining_s() == 10
    rebooted = Lockout(tmp_path / "face.json", RULES, FakeClock(monotonic=5), "another boot")
    assert rebooted.remaining_s() == 60
    assert rebooted.failures == 3
    assert Lockout(tmp_path / "face.json", RULES, FakeClock(monotonic=15), "another boot").remaining_s() == 50


def test_a_kernel_that_tells_no_boot_makes_every_start_a_reboot(tmp_path: Path) -> None:
    clock = FakeClock()
    fail(Lockout(tmp_path / "face.json", RULES, clock, ""), 3)
    clock.advance(50)
    assert Lockout(tmp_path / "face.json", RULES, clock, "").remaining_s() == 60


def test_one_that_is_over_does_not_start_again_with_a_reboot(tmp_path: Path) -> None:
    clock = FakeClock()
    lockout = Lockout(tmp_path / "face.json", RULES, clock, "boot")
    fail(lockout, 3)
    clock.advance(61)
    lockout.settle()
    rebooted = Lockout(tmp_path / "face.json", RULES, FakeClock(monotonic=1), "another boot")
    assert (rebooted.remaining_s(), rebooted.failures) == (0, 3)


def test_success_and_a_long_time_forget(tmp_path: Path) -> None:
    clock = FakeClock()
    lockout = Lockout(tmp_path / "face.json", RULES, clock, "boot")
    fail(lockout, 2)
    lockout.succeeded()
    fail(lockout, 2)
    assert lockout.remaining_s() == 0
    clock.advance(1001)
    lockout.settle()
    assert lockout.failures == 0
    assert Lockout(tmp_path / "face.json", RULES, clock, "boot").failures == 0


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"failures": 1}',
        '{"failures": "many", "until_s": 0, "boot": ""}',
        '{"failures": null, "until_s": 1, "boot": ""}',
    ],
)
def test_a_damaged_file_is_a_lock_out(tmp_path: Path, content: str) -> None:
    (tmp_path / "face.json").write_text(content)
    assert Lockout(tmp_path / "face.json", RULES, FakeClock(), "boot").remaining_s() == 60


@pytest.mark.parametrize("until", ["1e300", "Infinity", "NaN"])
def test_no_file_locks_out_for_longer_than_the_rule(tmp_path: Path, until: str) -> None:
    (tmp_path / "face.json").write_text(f'{{"failures": 3, "until_s": {until}, "boot": "boot"}}')
    assert Lockout(tmp_path / "face.json", RULES, FakeClock(), "boot").remaining_s() == 60


def test_a_failure_that_cannot_be_kept_counts_all_the_same(tmp_path: Path) -> None:
    lockout = Lockout(tmp_path / "gone" / "face.json", RULES, FakeClock(), "boot")
    for _ in range(3):
        with pytest.raises(EdgetoolError):
            lockout.failed()
    assert lockout.remaining_s() == 60


def test_this_boot_has_an_id() -> None:
    assert len(this_boot()) == 36
