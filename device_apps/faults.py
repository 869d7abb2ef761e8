"""What is wrong with a device at the moment, by where: anyone may say so, from any thread."""

import threading


class Faults:
    """The reasons why nothing may be trusted now, by source ("camera", "mqtt", …). Empty is healthy."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reasons: dict[str, str] = {}

    def set(self, source: str, reason: str | None) -> bool:
        """Say what is wrong with a source, or None that nothing is any more; whether that is news.

        A reason holds no figure that moves: each new one is told and recorded.
        """
        with self._lock:
            changed = self._reasons.get(source) != reason
            if reason is None:
                self._reasons.pop(source, None)
            else:
                self._reasons[source] = reason
            return changed

    def reasons(self) -> tuple[str, ...]:
        """All of them, in the order in which they began."""
        with self._lock:
            return tuple(self._reasons.values())

    def __bool__(self) -> bool:
        with self._lock:
            return bool(self._reasons)
