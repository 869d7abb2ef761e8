"""What a server counts, in Prometheus' text format: calls, errors by kind and latencies of each model."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgetool.serve.model import ServedModel

# Seconds: inference on a CPU takes from 50 us (keyword spotting) to seconds (large pictures)
BUCKETS = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
NO_MODEL = ""  # the label of what was refused before a model was known


class Metrics:
    """The counters of one server, in a registry of its own: nothing of the process or of other libraries."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

        disable_created_metrics()  # type: ignore[no-untyped-call]  # as the library has it; else each series has its birth beside it
        self._registry = CollectorRegistry(auto_describe=False)
        self._calls = Counter(
            "edgetool_predict_calls",
            "Predictions asked for, answered or refused.",
            ["model"],
            registry=self._registry,
        )
        self._errors = Counter(
            "edgetool_errors", "Requests that were refused, by kind.", ["model", "kind"], registry=self._registry
        )
        self._request = Histogram(
            "edgetool_predict_seconds",
            "From the head of an answered request to its answer.",
            ["model"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._inference = Histogram(
            "edgetool_inference_seconds",
            "The model's run in its process, with the way there and back.",
            ["model"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._pending = Gauge(
            "edgetool_pending_requests", "Requests that wait for the model or run.", ["model"], registry=self._registry
        )
        self._ready = Gauge(
            "edgetool_ready_workers", "Processes that are ready to run the model.", ["model"], registry=self._registry
        )
        self._restarts = Counter(
            "edgetool_worker_restarts",
            "Processes that were replaced.",
            ["model"],
            registry=self._registry,
        )

    def add_model(self, model: "ServedModel") -> None:
        """Every series of a model is there from the start, at zero."""
        name = model.name
        for series in (self._calls, self._request, self._inference, self._restarts):
            series.labels(name)
        self._pending.labels(name).set_function(lambda: model.pending)
        self._ready.labels(name).set_function(lambda: model.ready_workers)

    def called(self, model: str) -> None:
        """A prediction was asked for."""
        self._calls.labels(model).inc()

    def answered(self, model: str, request_s: float, inference_s: float) -> None:
        """It was answered."""
        self._request.labels(model).observe(request_s)
        self._inference.labels(model).observe(inference_s)

    def refused(self, model: str, kind: str) -> None:
        """A request was refused; `kind` is one of `edgetool.serve.refusal.STATUS`."""
        self._errors.labels(model, kind).inc()

    def restarted(self, model: str) -> None:
        """A worker process was replaced."""
        self._restarts.labels(model).inc()

    def text(self) -> bytes:
        """All of them, in the text format 0.0.4."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)


CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
