"""No more tries after too many failures, also after a reboot.

Only the monotonic clock counts, so that setting the time ends nothing. It starts anew with each boot: a lock-out that
was running then starts again from its beginning.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from device_apps.clock import Clock
from device_apps.durable import write_whole
from edge.errors import EnvironmentFailed

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class LockoutRules:
    """After `max_failures` in a row nothing is accepted for `first_s`; each further failure doubles it up to `max_s`.

    Failures are forgotten `forget_s` after the last: people who only pass by must not lock a door for good.
    """

    max_failures: int = 5
    first_s: float = 60.0
    max_s: float = 3600.0
    forget_s: float = 7200.0

    def __post_init__(self) -> None:
        if not 1 <= self.max_failures <= 20 or not 1 <= self.first_s <= self.max_s <= self.forget_s <= 604800:
            raise ValueError("max_failures is 1 to 20, and 1 <= first_s <= max_s <= forget_s <= 604800")

    def duration_s(self, failures: int) -> float:
        """How long a lock-out lasts after so many failures in a row."""
        over = failures - self.max_failures
        return 0.0 if over < 0 else min(self.max_s, self.first_s * 2.0 ** min(over, 32))


@dataclass(frozen=True)
class _State:
    failures: int = 0
    until_s: float = 0.0  # of the monotonic clock of `boot`
    boot: str = ""


class Lockout:
    """The failures in a row of one way to come in, kept in a file.

    A file that is damaged, or that cannot be read, counts as a lock-out that has just begun.
    """

    def __init__(self, path: Path, rules: LockoutRules, clock: Clock, boot: str | None = None) -> None:
        self._path, self._rules, self._clock = path, rules, clock
        self._boot = boot if boot is not None else this_boot()
        self._state = self._loaded()
        self._failed_s = clock.monotonic()

    @property
    def name(self) -> str:
        """The name of its file."""
        return self._path.stem

    @property
    def failures(self) -> int:
        """How often in a row it failed."""
        return self._state.failures

    def remaining_s(self) -> float:
        """Seconds until tries are accepted again; 0 where they are."""
        return max(0.0, self._state.until_s - self._clock.monotonic())

    def settle(self) -> None:
        """Keep that a lock-out is over, so that a reboot does not start it again; forget what is old.

        Raises:
            EnvironmentFailed: as `failed`.

        """
        if self._state.failures and self._clock.monotonic() - self._failed_s > self._rules.forget_s:
            self.succeeded()
        elif self._state.until_s and not self.remaining_s():
            self._save(_State(self._state.failures, 0.0, self._boot))

    def failed(self) -> None:
        """Count a failure. Raises EnvironmentFailed: it cannot be kept; it counts until the next start all the same."""
        failures = self._state.failures + 1
        duration = self._rules.duration_s(failures)
        self._failed_s = self._clock.monotonic()
        self._save(_State(failures, self._clock.monotonic() + duration if duration else 0.0, self._boot))

    def succeeded(self) -> None:
        """Start counting anew. Raises EnvironmentFailed as `failed`."""
        if self._state.failures:
            self._save(_State(0, 0.0, self._boot))

    def _save(self, state: _State) -> None:
        self._state = state
        write_whole(self._path, json.dumps(asdict(state)).encode())

    def _loaded(self) -> _State:
        now = self._clock.monotonic()
        try:
            data = json.loads(self._path.read_text())
            state = _State(int(data["failures"]), float(data["until_s"]), str(data["boot"]))
        except FileNotFoundError:
            return _State(boot=self._boot)
        except (OSError, ValueError, KeyError, TypeError):
            worst = self._rules.max_failures
            return _State(worst, now + self._rules.duration_s(worst), self._boot)
        duration = self._rules.duration_s(state.failures)
        if state.until_s > 0 and (state.boot != self._boot or not self._boot):
            state = _State(state.failures, now + duration, self._boot)
            try:
                self._save(state)
            except EnvironmentFailed:
                return state
        # neither more than its rule, nor without end where the file holds infinity
        until = min(now + duration, state.until_s)  # in this order NaN is the longer
        return _State(max(0, state.failures), until, self._boot)


def this_boot() -> str:
    """The kernel's id of this boot; "" where it tells none, which makes every start a new boot."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
