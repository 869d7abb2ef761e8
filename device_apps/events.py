"""What an app tells whoever listens: one plain record each, to a file, a page, a broker or a test."""

import contextlib
import json
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Event:
    """Something that happened: its kind ("decision", "fault", …), when on the wall clock, and plain JSON fields."""

    kind: str
    at: float
    fields: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> str:
        """One line of JSON."""
        return json.dumps({"at": round(self.at, 3), "event": self.kind, **self.fields}, ensure_ascii=False)


Listener = Callable[[Event], None]


class TextStream(Protocol):
    """A text stream that is written to."""

    def write(self, text: str, /) -> Any: ...

    def flush(self) -> None: ...


class JsonLines:
    """A listener that writes each event as a line of JSON, those of `kinds` only where they are given."""

    def __init__(self, stream: TextStream, kinds: frozenset[str] | None = None) -> None:
        self._stream, self._kinds = stream, kinds

    def __call__(self, event: Event) -> None:
        """Write one event."""
        if self._kinds is None or event.kind in self._kinds:
            self._stream.write(event.as_json() + "\n")
            self._stream.flush()


class Background:
    """A listener that hands events to another one in a thread of its own: that may be slow, or hang.

    Where it is so slow that `limit` events wait, further ones are counted in `lost` and left out. A listener that fails
    gets no more events; `failure` says why.
    """

    def __init__(self, listener: Listener, limit: int = 1000) -> None:
        self._listener = listener
        self._waiting: queue.Queue[Event | None] = queue.Queue(limit)
        self.lost = 0
        self.failure: str | None = None
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        """Take one event; returns at once."""
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            self.lost += 1

    def close(self, timeout_s: float = 1.0) -> None:
        """Wait a moment for what is still to be told; one that hangs is left behind."""
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=timeout_s)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (event := self._waiting.get()) is not None:
            if self.failure is not None:
                continue
            try:
                self._listener(event)
            except Exception as error:  # noqa: BLE001  # whatever a listener does, the app goes on
                self.failure = f"{type(error).__name__}: {error}"


class Events:
    """Hands each event to every listener, which has to return at once (`Background` makes any listener one that does).

    One that fails is dropped and named; it never costs the app anything else.
    """

    def __init__(self, listeners: tuple[Listener, ...] = ()) -> None:
        self._listeners = list(listeners)
        self.dropped: list[str] = []

    def add(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def tell(self, event: Event) -> None:
        """Hand an event on; returns when every listener has had it."""
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001  # whatever a listener does, the lock goes on
                self._listeners.remove(listener)
                self.dropped.append(f"{type(listener).__name__}: {error}")
