"""What the page shows of a running assistant: its events, first those that are remembered."""

import threading
from collections import deque
from collections.abc import Iterator

from device_apps.events import Event
from device_apps.web.server_sent import server_sent

KEPT = 100


class Live:
    """A listener that remembers the newest events, for whoever watches; of levels only the last few seconds."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._events: deque[tuple[int, Event]] = deque(maxlen=KEPT)
        self._levels: deque[tuple[int, Event]] = deque(maxlen=KEPT)
        self._number = 0
        self.stopping = threading.Event()

    def __call__(self, event: Event) -> None:
        """Take one event."""
        with self._condition:
            self._number += 1
            (self._levels if event.kind == "level" else self._events).append((self._number, event))
            self._condition.notify_all()

    def forget(self) -> None:
        """Drop what was heard, as when the microphone is muted."""
        with self._condition:
            self._levels.clear()

    def newer_than(self, number: int, timeout_s: float) -> list[tuple[int, Event]]:
        """The events after `number`, once there are some; none where none come in time."""
        with self._condition:
            self._condition.wait_for(lambda: self._number > number, timeout_s)
            found = [one for one in (*self._events, *self._levels) if one[0] > number]
        return sorted(found, key=lambda one: one[0])

    def lines(self) -> Iterator[str]:
        """The events as server-sent events."""
        return server_sent(self.newer_than, self.stopping)
