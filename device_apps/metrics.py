"""Figures of an app for Prometheus, kept up by listening to its events. A registry of its own: two apps do not mix."""

import threading
from typing import TYPE_CHECKING, Any

from device_apps.events import Event

if TYPE_CHECKING:
    pass

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MS_BUCKETS = (1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0)


class Metrics:
    """A listener that counts events and frames' outcomes, and knows the faults, the bolt and the stages' times."""

    def __init__(self, prefix: str) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry: CollectorRegistry = CollectorRegistry()
        where: dict[str, Any] = {"registry": self._registry, "namespace": prefix}
        self._events = Counter("events", "events by kind", ["kind"], **where)
        self._frames = Counter("frames", "frames by what they came to", ["outcome"], **where)
        self._open = Gauge("open", "1 while the door is open", **where)
        self._faults = Gauge("faults", "how many faults there are now", **where)
        self._fault = Gauge("fault", "1 while this part has a fault", ["source"], **where)
        self._stage = Histogram("stage_ms", "milliseconds of a stage", ["stage"], buckets=MS_BUCKETS, **where)
        self._age = Histogram("frame_age_ms", "a frame's age when it was decided on", buckets=MS_BUCKETS, **where)
        self._sources: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Count one event."""
        with self._lock:
            self._events.labels(event.kind).inc()
            if event.kind == "frame":
                self._see(event)
            elif event.kind in {"unlock", "locked"}:
                self._open.set(event.kind == "unlock")
            elif event.kind in {"fault", "fault ended"}:
                source, is_on = str(event.fields["source"]), event.kind == "fault"
                self._sources = self._sources | {source} if is_on else self._sources - {source}
                self._fault.labels(source).set(is_on)
                self._faults.set(len(self._sources))

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        from prometheus_client import generate_latest

        with self._lock:
            return generate_latest(self._registry)

    def _see(self, event: Event) -> None:
        self._frames.labels(event.fields["outcome"]).inc()
        self._age.observe(event.fields["age_ms"])
        for stage, ms in event.fields["stages_ms"].items():
            self._stage.labels(stage).observe(ms)
