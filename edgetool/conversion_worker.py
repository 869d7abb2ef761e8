"""A warm process for everything that imports TensorFlow or may crash: conversion, calibration, training.

The LiteRT converter is known to kill its process (int8 calibration of recurrent layers); here that ends as a
`ProcessCrashed` with the signal's name, and the next call gets a fresh process.
"""

import contextlib
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self, TypeVar

from edge.artifact import Artifact
from edge.errors import EdgetoolError, ProcessCrashed, from_system
from edgetool.passes.step import Pass, PassResult
from edgetool.progress import At
from edgetool.recipe import TaskSource
from edgetool.task import Task

T = TypeVar("T")


class ConversionWorker:
    """Runs module-level functions in one spawned process, which is restarted after a crash.

    The process is started at the first call and kept until `close`. What libraries print there goes to a log
    file, whose last lines come with a crash.
    """

    def __init__(self) -> None:
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None
        self._scratch = Path(tempfile.mkdtemp(prefix="edgetool-"))
        self._log = self._scratch / "worker.log"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, function: Callable[..., T], *arguments: Any, progress: At | None = None) -> T:
        """`function(*arguments, progress=…)` in the worker; the function and all arguments must pickle.

        Raises:
            EdgetoolError: whatever expected error the function raised.
            ProcessCrashed: the process died; the message has the signal and the function's name.
            RuntimeError: the function failed unexpectedly; the worker's traceback is the message.

        """
        pipe = self._started()
        pipe.send((function, arguments))
        while True:
            try:
                kind, value = pipe.recv()
            except (EOFError, ConnectionResetError) as error:
                raise self._crashed(function.__name__) from error
            if kind == "progress":
                if progress is not None:
                    progress(*value)
            elif kind == "done":
                result: T = value
                return result
            elif kind == "expected":
                raise value
            else:
                raise RuntimeError(f"in the conversion worker:\n{value}")

    def close(self) -> None:
        """End the process at once and remove its log and whatever it left in its temporary folder."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _started(self) -> Connection:
        if self._process is not None and self._process.is_alive() and self._pipe is not None:
            return self._pipe
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, str(self._scratch), str(self._log)), daemon=True)
        # Spawn would run the caller's __main__ again, which for a script means the whole program.
        with _without_main():
            self._process.start()
        theirs.close()
        self._pipe = ours
        return ours

    def _crashed(self, doing: str) -> ProcessCrashed:
        assert self._process is not None
        self._process.join()
        code = self._process.exitcode
        self._process = None
        died = f"was killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exited with {code}"
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        last = f"; it last printed: {lines[-1][:300]}" if lines else ""
        return ProcessCrashed(
            f"the conversion worker {died} during {doing}{last}",
            "the model or a library in it crashes the converter; finished work is kept, leave that pass out",
        )


def run_pass(
    step: Pass,
    artifact: Artifact,
    source: TaskSource | None,
    workdir: Path,
    seed: int,
    trust: bool,
    *,
    progress: At,
) -> PassResult:
    """One pass, called in the worker. The task is loaded once per process; None for passes that need no data."""
    task = None if source is None else load_source(source, artifact)
    return step(artifact, task, workdir, seed=seed, trust=trust, progress=progress)


def describe_model(
    path: Path, trust: bool, fixed: bool = True, *, progress: At
) -> tuple[Artifact, int | None, int | None]:
    """What a model file takes and gives, its parameters and its MACs (None: not counted).

    With `fixed`, a model with an open dimension other than the batch is refused.
    """
    from convert.cost import count
    from convert.load import describe

    progress(0.0, f"reading {path.name}")
    artifact = describe(path, trust=trust, fixed=fixed)
    params, macs = count(artifact.path, artifact.format, trust=trust)
    return artifact, params, macs


def model_operations(artifact: Artifact, trust: bool, *, progress: At) -> dict[str, int]:
    """The operations (Keras: layers) of a model by type."""
    from convert.operations import operations

    progress(0.0, "counting operations")
    return operations(artifact.path, artifact.format, trust=trust)


def reference_outputs(artifact: Artifact, inputs: Any, trust: bool, *, progress: At) -> Any:
    """The source model's own outputs, in its own framework: name -> [n, ...]."""
    from convert.reference import predict

    progress(0.0, "running the source model")
    return predict(artifact.path, artifact.format, inputs, trust=trust)


def load_source(source: TaskSource, artifact: Artifact) -> Task:
    """The task for a model with these inputs and outputs; loaded once per process and signature."""
    return _load(source, artifact.inputs, artifact.outputs)


@lru_cache(maxsize=4)
def _load(source: TaskSource, inputs: Any, outputs: Any) -> Task:
    from edgetool.data.load import load_task

    return load_task(
        source.data,
        inputs=inputs,
        outputs=outputs,
        seed=source.seed,
        metric=source.metric,
        target_column=source.target_column,
        pixels=source.pixels,
    )


def _serve(pipe: Connection, scratch: str, log: str) -> None:
    # The terminal sends Ctrl-C to the whole group; the parent decides what it means and ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_parent, args=(scratch,), daemon=True).start()
    # What converters leave in the temporary folder when they are killed goes with the worker.
    os.environ["TMPDIR"] = tempfile.tempdir = scratch
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        try:
            answer = ("done", function(*arguments, progress=lambda *at: pipe.send(("progress", at))))
        except EdgetoolError as error:
            answer = ("expected", error)
        except Exception as error:  # noqa: BLE001 - the process must live on; the parent raises it again as a bug
            answer = ("bug", traceback.format_exc())
            expected = from_system(error) if isinstance(error, OSError) else None
            if expected is not None:
                answer = ("expected", expected)
        _answer(pipe, answer)


def _end_with_the_parent(scratch: str) -> None:
    """A parent that is killed closes nothing: without this, a training would go on for nobody."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(1)


def _answer(pipe: Connection, answer: tuple[str, Any]) -> None:
    try:
        pipe.send(answer)
    except (pickle.PicklingError, AttributeError, TypeError):
        pipe.send(("bug", f"the result of kind {answer[0]} does not pickle: {answer[1]!r}"))


@contextlib.contextmanager
def _without_main() -> Any:
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    try:
        main.__spec__ = None
        if file is not None:
            del main.__file__
        yield
    finally:
        main.__spec__ = spec
        if file is not None:
            main.__file__ = file
