"""An app's events for a page that watches, as server-sent events (HTML Living Standard, section 9.2)."""

import threading
import time
from collections.abc import Callable, Iterator

from device_apps.events import Event

KEEP_ALIVE_S = 5


def server_sent(
    newer_than: Callable[[int, float], list[tuple[int, Event]]], stopping: threading.Event
) -> Iterator[str]:
    """The events as lines, first those that are remembered; a comment where none come for 5 s.

    `newer_than` gives the numbered events after a number, waiting so many seconds for one.
    """
    number, spoken_s = 0, time.monotonic()
    while not stopping.is_set():
        for own, event in newer_than(number, 0.5):
            number, spoken_s = own, time.monotonic()
            yield f"data: {event.as_json()}\n\n"
        if time.monotonic() - spoken_s > KEEP_ALIVE_S:
            spoken_s = time.monotonic()
            yield ": still here\n\n"
