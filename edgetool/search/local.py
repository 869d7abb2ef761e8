"""Trials on this machine: as many worker processes as asked for, each with its own TensorFlow."""

import fcntl
import queue
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, Self

from edgetool.conversion_worker import ConversionWorker
from edgetool.results import Results
from edgetool.search.trial import Job, Tried, attempt
from edgetool.verify.race import LOCK


class Executor(Protocol):
    """Where trials run."""

    @property
    def workers(self) -> int:
        """How many at a time."""
        ...

    def submit(self, job: Job) -> "Future[Tried]":
        """Start a trial; a place that dies is the executor's to replace."""
        ...


class LocalWorkers:
    """`workers` threads, each with a warm conversion worker, that share the results in one folder."""

    def __init__(self, workers: int, results: Results, lock: Path = LOCK) -> None:
        self.workers = workers
        self._results, self._lock = results, lock
        self._free: queue.SimpleQueue[ConversionWorker] = queue.SimpleQueue()
        self._all = [ConversionWorker() for _ in range(workers)]
        for worker in self._all:
            self._free.put(worker)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="trial")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._all:
            worker.close()  # what a thread waits for ends with it
        self._threads.shutdown(cancel_futures=True)

    def submit(self, job: Job) -> "Future[Tried]":
        """Start a trial as soon as a worker is free."""
        return self._threads.submit(self._attempt, job)

    def _attempt(self, job: Job) -> Tried:
        worker = self._free.get()
        try:
            with beside_others(self._lock):
                return attempt(job, self._results, worker)
        finally:
            self._free.put(worker)


@contextmanager
def beside_others(lock: Path) -> Iterator[None]:
    """Work that may run beside other work, but not while anything on this machine is timed."""
    with lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        yield
