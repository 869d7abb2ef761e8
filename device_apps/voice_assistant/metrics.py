"""The assistant's figures for Prometheus, kept up by listening to its events."""

import threading
from typing import Any

from device_apps.events import Event
from device_apps.metrics import MS_BUCKETS


class Metrics:
    """A listener. Words that were said are in no figure."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry: CollectorRegistry = CollectorRegistry()
        where: dict[str, Any] = {"registry": self._registry, "namespace": "voice_assistant"}
        self._events = Counter("events", "events by kind", ["kind"], **where)
        self._wakes = Counter("wakes", "wake words heard", ["word"], **where)
        self._intents = Counter("intents", "commands by what they came to", ["outcome"], **where)
        self._muted = Gauge("muted", "1 while the microphone is closed", **where)
        self._fault = Gauge("fault", "1 while this part has a fault", ["source"], **where)
        self._loudness = Gauge("loudness_dbfs", "the microphone's level", **where)
        self._rtf = Gauge("realtime_factor", "seconds of work in a second of sound", ["stage"], **where)
        self._stage = Histogram("stage_ms", "milliseconds of a stage", ["stage"], buckets=MS_BUCKETS, **where)
        self._late = Histogram(
            "after_hangover_ms", "from the end of the hang-over to the action", buckets=MS_BUCKETS, **where
        )
        self._hours = Gauge("listened_hours", "hours listened", **where)
        self._false = Gauge("false_accepts", "wake words that nobody spoke after, or that were called wrong", **where)
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Count one event."""
        fields = event.fields
        with self._lock:
            self._events.labels(event.kind).inc()
            if event.kind == "level":
                self._loudness.set(fields["rms_db"])
                for stage, factor in fields["rtf"].items():
                    self._rtf.labels(stage).set(factor)
            elif event.kind == "wake":
                self._wakes.labels(fields["word"]).inc()
            elif event.kind == "intent":
                outcome = "unknown" if fields["intent"] is None else ("done" if fields["done"] else "refused")
                self._intents.labels(outcome).inc()
                self._late.observe(fields["after_hangover_ms"])
                for stage, ms in fields["stages_ms"].items():
                    self._stage.labels(stage).observe(ms)
            elif event.kind in {"muted", "unmuted"}:
                self._muted.set(event.kind == "muted")
            elif event.kind in {"fault", "fault ended"}:
                self._fault.labels(fields["source"]).set(event.kind == "fault")
            elif event.kind == "meter":
                self._hours.set(fields["hours"])
                self._false.set(fields["false_accepts"])

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        from prometheus_client import generate_latest

        with self._lock:
            return generate_latest(self._registry)
