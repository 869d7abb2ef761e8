"""A process with a bundle's model, proven before it serves, and the thread that talks to it.

A runtime may abort, and a model may hang: both end a process that is not the server. The process is then replaced by
a new one that is proven in the same way.
"""

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from edge.answer import outside, replay, require_names
from edge.bundle import Bundle
from edge.delegates import DEFAULT, require_placement
from edge.errors import CheckFailed, EdgetoolError
from edge.runtime_process import Loaded, RuntimeProcess
from edgetool.serve.settings import Settings

LOG = logging.getLogger("edgetool.serve")
LONGEST_PAUSE_S = 30.0  # between two attempts to replace a process that cannot be started


def start_proven(bundle: Bundle, folder: Path, settings: Settings) -> tuple[RuntimeProcess, Loaded]:
    """A process that has loaded the model, on the delegate, and answered the golden vectors as the bundle says.

    The model's file in `folder` is written from the bytes that were checked, so that nothing on disk counts.

    Raises:
        CheckFailed: other answers than the bundle's, or operations that fell back from a delegate that was named.
        BadInput, EnvironmentFailed: as `edge.engines.open_engine`; the process crashed or hung.

    """
    manifest = bundle.manifest
    path = folder / f"{manifest.name}.{manifest.format}"
    path.write_bytes(bundle.model)
    process = RuntimeProcess()
    process.start()
    try:
        loaded = process.load(
            path,
            manifest.format,
            threads=settings.threads,
            delegate=settings.delegate,
            settings=settings.delegate_settings,
        )
        require_names(manifest, loaded.inputs, loaded.outputs)
        if settings.delegate != DEFAULT:
            require_placement(loaded.placement, settings.allow_fallback)
        _require_golden(bundle, loaded, replay(process.predict, bundle.golden, loaded.inputs))
    except BaseException:
        process.close()
        raise
    return process, loaded


def _require_golden(bundle: Bundle, loaded: Loaded, differences: Mapping[str, float]) -> None:
    manifest = bundle.manifest
    for name in outside(differences, manifest.tolerance):
        raise CheckFailed(
            f"{manifest.name}: output {name!r} differs by {differences[name]:.3g} from the golden vectors on "
            f"{loaded.placement.actual}, {manifest.tolerance[name]:.3g} is allowed",
            "this runtime computes otherwise than the one that made the bundle: see `python -m edge info`",
        )


class Worker:
    """One process and its thread, which takes jobs from a queue that workers share until it gets None."""

    def __init__(
        self,
        start: Callable[[], tuple[RuntimeProcess, Loaded]],
        jobs: "queue.SimpleQueue[Callable[[RuntimeProcess], bool] | None]",
        restarted: Callable[[], None],
        name: str,
    ) -> None:
        self._start, self._jobs, self._restarted, self._name = start, jobs, restarted, name
        self._process: RuntimeProcess | None
        self._process, self.loaded = start()
        self.failure: EdgetoolError | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"serve {name}", daemon=True)

    @property
    def ready(self) -> bool:
        """Whether a proven process waits for jobs or runs one."""
        return self._process is not None

    def begin(self) -> None:
        """Take jobs. A job is called with the process, and says whether the process is still good."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more jobs. All workers of a queue are told before the first is waited for: any may get the None."""
        self._stopping.set()
        self._jobs.put(None)

    def join(self, limit_s: float) -> None:
        """Wait for the job that it runs, and end its process."""
        if self._thread.ident is not None:
            self._thread.join(limit_s)
        if self._process is not None:
            self._process.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._process is None:
                self._replace()
                continue
            job = self._jobs.get()
            if job is not None and not job(self._process):
                process, self._process = self._process, None
                process.close()

    def _replace(self) -> None:
        pause_s = 1.0
        while not self._stopping.is_set():
            try:
                process, self.loaded = self._start()
            except EdgetoolError as error:
                self.failure = error
                LOG.error("%s cannot be started again: %s; next attempt in %g s", self._name, error, pause_s)  # noqa: TRY400  # expected errors have no traceback
                self._stopping.wait(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            else:
                self._process, self.failure = process, None
                self._restarted()
                LOG.warning("%s runs in a new process", self._name)
                return
