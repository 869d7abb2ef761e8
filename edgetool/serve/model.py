"""One served model: its bundle, its workers, and the bounded queue before them."""

import asyncio
import contextlib
import json
import logging
import math
import queue
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.answer import answer, rank
from edge.bundle import Bundle
from edge.engines import Feeds
from edge.errors import BadInput, EdgetoolError, ProcessCrashed
from edge.preprocess import finite
from edge.runtime_process import Loaded, RuntimeProcess
from edge.tensors import Array
from edgetool.serve.metrics import Metrics
from edgetool.serve.payload import NAME, Payload, raw_example, require_shapes
from edgetool.serve.refusal import Refusal, refusal_of
from edgetool.serve.settings import Settings
from edgetool.serve.worker import Worker, start_proven

LOG = logging.getLogger("edgetool.serve")
RECENT = 32  # latencies that the page shows
RETRY_AFTER_S = 1


@dataclass(frozen=True)
class Answer:
    """The response's body, and what its parts took."""

    body: bytes
    inference_s: float


class ServedModel:
    """A bundle that was checked and proven, ready to be asked from one event loop.

    A runtime runs one request at a time, so requests wait in a queue; each worker takes the next one.

    Raises what `edgetool.serve.worker.start_proven` raises.
    """

    def __init__(self, bundle: Bundle, folder: Path, settings: Settings, metrics: Metrics) -> None:
        self.bundle, self.name = bundle, bundle.manifest.name
        self.recent_ms: deque[float] = deque(maxlen=RECENT)
        self.pending = 0
        self._settings, self._metrics = settings, metrics
        self._jobs: queue.SimpleQueue[Callable[[RuntimeProcess], bool] | None] = queue.SimpleQueue()
        self._workers: list[Worker] = []
        try:
            for _ in range(settings.workers):
                self._workers.append(self._worker(folder))
        except BaseException:
            self.close()
            raise
        metrics.add_model(self)

    @property
    def loaded(self) -> Loaded:
        """What the runtime says of the model: engine, specs, placement."""
        return self._workers[0].loaded

    @property
    def ready_workers(self) -> int:
        """How many processes are ready."""
        return sum(worker.ready for worker in self._workers)

    def begin(self) -> None:
        """Start to take requests."""
        for worker in self._workers:
            worker.begin()

    def close(self, limit_s: float | None = None) -> None:
        """End the workers. What they run is waited for: `limit_s` at most, else as long as an answer may take."""
        for worker in self._workers:
            worker.stop()
        for worker in self._workers:
            worker.join(self._settings.timeout_s + 1 if limit_s is None else limit_s)

    async def predict(self, payload: Payload, top: int, began: float) -> bytes:
        """The answer to one request, as JSON; `began` is when its head was there (time.perf_counter).

        Raises:
            Refusal: the queue is full, the input does not fit, the time is over, or the runtime crashed.

        """
        if self.pending >= self._settings.workers + self._settings.queue:
            raise Refusal(
                "queue_full",
                f"{self.pending} requests wait for {self.name} already",
                "try again; --workers and --queue of the server set how many are taken",
                retry_after_s=RETRY_AFTER_S,
            )
        failures = [worker.failure for worker in self._workers if worker.failure is not None]
        if len(failures) == len(self._workers):
            raise Refusal("unavailable", f"{self.name} cannot be started again: {failures[0]}", None, RETRY_AFTER_S)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        job = _Job(self, payload, top, time.monotonic() + self._settings.timeout_s, loop, future)
        self.pending += 1
        self._jobs.put(job)
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                done = await future
        except TimeoutError:
            raise Refusal(
                "timeout",
                f"{self.name} gave no answer within {self._settings.timeout_s:g} s",
                "--timeout of the server sets it",
                retry_after_s=RETRY_AFTER_S,
            ) from None
        took_s = time.perf_counter() - began
        self.recent_ms.append(took_s * 1e3)
        self._metrics.answered(self.name, took_s, done.inference_s)
        return done.body

    def _worker(self, folder: Path) -> Worker:
        return Worker(
            lambda: start_proven(self.bundle, folder, self._settings),
            self._jobs,
            lambda: self._metrics.restarted(self.name),
            self.name,
        )


class _Job:
    """One request on its way through a worker's thread."""

    def __init__(
        self,
        model: ServedModel,
        payload: Payload,
        top: int,
        end: float,
        loop: asyncio.AbstractEventLoop,
        future: "asyncio.Future[Answer]",
    ) -> None:
        self._model, self._payload, self._top, self._end = model, payload, top, end
        self._loop, self._future = loop, future
        self._queued = time.perf_counter()
        self._inference_s = 0.0
        self._asked = False

    def __call__(self, process: RuntimeProcess) -> bool:
        """Run in the worker's thread; False where the process is not good any more."""
        done: Answer | Refusal
        good = True
        try:
            if self._future.done() or time.monotonic() >= self._end:  # its client has been told already
                done = Refusal("timeout", "the time was over before it began")
            else:
                done = self._answer(process)
        except Refusal as refusal:
            done = refusal
        except EdgetoolError as error:
            # the worker's own refusals come as BadInput; anything else of it means that it is dead or was stopped
            good = isinstance(error, BadInput) or not self._asked
            done = refusal_of(error) if good else self._broken(error)
        except Exception as error:
            LOG.exception("a bug, while %s was asked", self._model.name)
            good = not self._asked
            done = Refusal("bug", f"a bug in edgetool: {type(error).__name__}", "the server's log has its traceback")
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server was stopped by force
            self._loop.call_soon_threadsafe(self._settle, done)
        return good

    def _answer(self, process: RuntimeProcess) -> Answer:
        manifest, steps = self._model.bundle.manifest, self._model.bundle.preprocess
        began = time.perf_counter()

        def predict(feeds: Feeds) -> dict[str, Array]:
            for name, values in feeds.items():
                finite(values, f"input {name!r}, as the model would see it,")
            start = time.perf_counter()
            self._asked = True
            try:
                return process.predict(feeds, limit_s=max(0.01, self._end - time.monotonic()))
            finally:
                self._inference_s = time.perf_counter() - start

        inputs = self._model.loaded.inputs
        raw = raw_example(self._payload, steps)
        require_shapes(raw, steps, inputs)
        with np.errstate(over="ignore", invalid="ignore"):  # what is too large for a float32 is refused by name
            outputs = answer(NAME, raw, predict, steps, inputs)
        prepare_s = time.perf_counter() - began - self._inference_s
        plain = {
            "model": self._model.name,
            "top": rank(outputs, manifest, self._top),
            "outputs": {name: np.asarray(values).tolist() for name, values in outputs.items()},
            "milliseconds": {
                "queue": round(1e3 * (began - self._queued), 4),
                "prepare": round(1e3 * prepare_s, 4),
                "inference": round(1e3 * self._inference_s, 4),
            },
        }
        return Answer(_to_json(plain), self._inference_s)

    def _broken(self, error: EdgetoolError) -> Refusal:
        LOG.error("%s: %s", self._model.name, error)
        if isinstance(error, ProcessCrashed):
            return Refusal("crashed", error.message, "the model is started again in a new process", RETRY_AFTER_S)
        return Refusal("timeout", error.message, "--timeout of the server sets it", RETRY_AFTER_S)

    def _settle(self, done: Answer | Refusal) -> None:
        self._model.pending -= 1
        if self._future.done():
            return
        if isinstance(done, Refusal):
            self._future.set_exception(done)
        else:
            self._future.set_result(done)


def _to_json(plain: Any) -> bytes:
    try:
        return json.dumps(plain, allow_nan=False).encode()
    except ValueError:
        return json.dumps(_with_null(plain)).encode()


def _with_null(plain: Any) -> Any:
    """NaN and infinity, which a model may answer and JSON does not have, as null."""
    if isinstance(plain, dict):
        return {key: _with_null(value) for key, value in plain.items()}
    if isinstance(plain, list):
        return [_with_null(value) for value in plain]
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
