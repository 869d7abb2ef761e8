"""What a person sees of a rollout while it runs."""

from typing import Protocol

from edgetool.fleet.rollout import DeviceState, Rollout


class Watcher(Protocol):
    """Told by a rollout what happens."""

    def doing(self, fraction: float, what: str) -> None:
        """Something about the whole fleet takes a while: how far (0..1) and what."""
        ...

    def state(self, rollout: Rollout) -> None:
        """The rollout as it is now."""
        ...

    def step(self, device: DeviceState, fraction: float, what: str) -> None:
        """What a device that is being updated does, and how far that is (0..1)."""
        ...

    def note(self, text: str) -> None:
        """One line that stays."""
        ...


class Silent:
    """Says nothing; for callers that are not a terminal."""

    def doing(self, fraction: float, what: str) -> None:
        """Nothing is shown."""

    def state(self, rollout: Rollout) -> None:
        """Nothing is shown."""

    def step(self, device: DeviceState, fraction: float, what: str) -> None:
        """Nothing is shown."""

    def note(self, text: str) -> None:
        """Nothing is shown."""
