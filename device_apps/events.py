"""What an app tells whoever listens: one plain record each, to a file, a page, a broker or a test."""

import json
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


class Events:
    """Hands each event to every listener. One that fails is dropped and named; it never costs the app anything else."""

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
