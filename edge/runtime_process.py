"""The client of `edge.worker`: a runtime in a process of its own, that may crash or hang without us."""

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from edge import errors, frames
from edge.energy import Energy
from edge.errors import EdgetoolError, EnvironmentFailed, ProcessCrashed
from edge.frames import Frame
from edge.probe import Clocks
from edge.profile import RanOp
from edge.report import Placement, from_plain
from edge.tensors import Array, TensorSpec

# `-m` puts the working directory first on the module path: start where `edge` is, so that a file in
# the user's folder that happens to be named like a module is never run
PACKAGES = Path(__file__).resolve().parent.parent
COMMAND = (sys.executable, "-m", "edge.worker")
STOP_S = 2.0
LOAD_LIMIT_S = 120.0


@dataclass(frozen=True)
class Loaded:
    """What a worker says about the model it loaded. `load_ms` counts the model, not the runtime's import."""

    engine: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    load_ms: float
    placement: Placement


@dataclass(frozen=True)
class WorkerStatus:
    """`first_ms` is the first run after the load, None before it; the others are of the whole process so far."""

    first_ms: float | None
    peak_rss_bytes: int | None
    cpu_s: float


class RuntimeProcess:
    """A worker process, as a context manager. Any command whose standard streams speak the protocol will do.

    `environment` is set on top of this process's own.

    Expected errors inside the worker are raised here as the same class. In addition every request raises

        ProcessCrashed     the worker died: how, and what it was doing
        EnvironmentFailed  it could not be started, or gave no answer within its time limit (it is then killed)
    """

    def __init__(self, command: Sequence[str] = COMMAND, environment: Mapping[str, str] | None = None) -> None:
        self._command = tuple(command)
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        self._title = "the model"
        self._in_request = False

    def __enter__(self) -> "RuntimeProcess":  # noqa: PYI034  # typing.Self needs Python 3.11
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the process; it inherits the environment, with one thread for numpy's own algebra."""
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                bufsize=0,
                cwd=PACKAGES,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1", **self._environment},
                start_new_session=True,  # Ctrl-C is for the client, which then closes the worker in order
            )
        except OSError as error:
            raise EnvironmentFailed(f"cannot start {self._command[0]}: {error.strerror}") from None

    def import_runtime(self, format: str) -> None:  # noqa: A002  # the word that Artifact and the reports use
        """Import the runtime for a format ahead of `load`, and wait until that is done."""
        self.request(Frame({"op": "import", "format": format}), f"importing the runtime for {format}", LOAD_LIMIT_S)

    def load(
        self,
        path: Path,
        format: str,  # noqa: A002  # the word that Artifact and the reports use
        *,
        threads: int = 1,
        delegate: str = "cpu",
        settings: Mapping[str, str] | None = None,
        limit_s: float = LOAD_LIMIT_S,
    ) -> Loaded:
        """Load a model, in place of the one before. Errors are those of `edge.engines.open_engine`."""
        self._title = path.name
        where = {
            "path": str(path.absolute()),
            "format": format,
            "threads": threads,
            "delegate": str(Path(delegate).absolute()) if "/" in delegate else delegate,  # the worker starts elsewhere
            "settings": dict(settings or {}),
        }
        reply = self.request(Frame({"op": "load", **where}), f"loading {path.name}", limit_s).message
        return Loaded(
            engine=reply["engine"],
            inputs=from_plain(tuple[TensorSpec, ...], reply["inputs"]),
            outputs=from_plain(tuple[TensorSpec, ...], reply["outputs"]),
            load_ms=reply["load_ms"],
            placement=from_plain(Placement, reply["placement"]),
        )

    def predict(self, inputs: Mapping[str, Array], *, limit_s: float = 600.0) -> dict[str, Array]:
        """Run stacked examples [N, ...] one batch at a time; real outputs [N, ...], as `edge.engines.predict`.

        Raises:
            BadData: inputs that do not fit the model, or more bytes than one frame may have.

        """
        n = max((len(array) for array in inputs.values() if array.ndim), default=0)
        doing = f"running {self._title} on {n} examples"
        return self.request(Frame({"op": "predict"}, dict(inputs)), doing, limit_s).arrays

    def time(
        self,
        *,
        calls: int | None = None,
        seconds: float = 0.0,
        min_calls: int = 1,
        lead_in: int = 0,
        slowdown: float = 0.0,
        limit_s: float = 120.0,
    ) -> npt.NDArray[np.float64]:
        """Seconds of each run on fixed inputs, taken around `Engine.run` inside the worker: [calls].

        Runs `calls` times, or for about `seconds` and at least `min_calls` times, after `lead_in` runs that
        are not counted. `slowdown` adds that fraction to every run: a planted effect for calibration.
        """
        how = {"calls": calls, "seconds": seconds, "min_calls": min_calls, "lead_in": lead_in, "slowdown": slowdown}
        reply = self.request(Frame({"op": "time", **how}), f"timing {self._title}", limit_s)
        return np.asarray(reply.arrays["seconds"], np.float64)

    def status(self) -> WorkerStatus:
        """The first run's time, the peak memory and the processor time so far."""
        reply = self.request(Frame({"op": "status"}), "reporting its status", 30.0).message
        return WorkerStatus(reply["first_ms"], reply["peak_rss_bytes"], reply["cpu_s"])

    def end_to_end(
        self, preprocess: Mapping[str, Any], raw: Mapping[str, Array], *, seconds: float, min_calls: int = 1
    ) -> npt.NDArray[np.float64]:
        """Seconds of each whole inference, from one raw example to real outputs: preprocessing counts too: [calls].

        `preprocess` is the plain form of each input's step, as a bundle's manifest has it.
        """
        how = {"preprocess": dict(preprocess), "seconds": seconds, "min_calls": min_calls}
        frame = Frame({"op": "end_to_end", **how}, dict(raw))
        reply = self.request(frame, f"timing {self._title} with its preprocessing", seconds + 120)
        return np.asarray(reply.arrays["seconds"], np.float64)

    def throughput(self, *, streams: int, seconds: float, limit_s: float = 600.0) -> float:
        """Inferences a second of `streams` engines of the loaded model, each in a thread of its own."""
        frame = Frame({"op": "throughput", "streams": streams, "seconds": seconds})
        reply = self.request(frame, f"running {self._title} in {streams} streams", limit_s).message
        return float(reply["examples"] / reply["seconds"])

    def profile(self, *, runs: int, limit_s: float = 300.0) -> tuple[RanOp, ...] | None:
        """The median time of each operation over `runs` runs; None where the runtime keeps no such record."""
        reply = self.request(Frame({"op": "profile", "runs": runs}), f"profiling {self._title}", limit_s).message
        ops: tuple[RanOp, ...] | None = None if reply["ops"] is None else from_plain(tuple[RanOp, ...], reply["ops"])
        return ops

    def clocks(self) -> Clocks:
        """Frequency, temperature and throttling where the worker runs."""
        reply = self.request(Frame({"op": "clocks"}), "reading the clocks", 30.0).message
        clocks: Clocks = from_plain(Clocks, reply["clocks"])
        return clocks

    def energy(self, *, seconds: float, idle_seconds: float) -> Energy | None:
        """Joules of one inference by the meter where the worker runs; None where there is none."""
        frame = Frame({"op": "energy", "seconds": seconds, "idle_seconds": idle_seconds})
        reply = self.request(frame, f"measuring the energy of {self._title}", seconds + idle_seconds + 120).message
        energy: Energy | None = from_plain(Energy, reply["energy"]) if reply["energy"] is not None else None
        return energy

    def request(self, frame: Frame, doing: str, limit_s: float) -> Frame:
        """Send one request and wait for its reply at most `limit_s` seconds; `doing` says what it is in errors."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise EnvironmentFailed(f"no worker process is running for {doing}")
        end = time.monotonic() + limit_s
        reply = None
        self._in_request = True
        try:
            frames.write(_Pipe(process.stdin.fileno(), select.POLLOUT, end), frame)
            reply = frames.read(_Pipe(process.stdout.fileno(), select.POLLIN, end))
            self._in_request = False
        except errors.BadData:
            self._in_request = False
            raise
        except TimeoutError:
            process.kill()
            process.wait()
            raise EnvironmentFailed(f"no answer within {limit_s:g} s while {doing}; the worker was stopped") from None
        except (BrokenPipeError, EnvironmentFailed) as error:
            if process.poll() is None and not isinstance(error, BrokenPipeError) and "truncated" not in error.message:
                raise
        if reply is None:
            raise self._crash(process, doing)
        if "error" in reply.message:
            raise _rebuilt(reply.message)
        return reply

    def close(self) -> None:
        """End the worker: in order where it waits for requests, at once where it is busy or does not listen."""
        process, self._process = self._process, None
        if process is None:
            return
        if self._in_request:
            process.kill()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()  # the worker ends when its input does
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._stderr.close()

    def _crash(self, process: subprocess.Popen[bytes], doing: str) -> ProcessCrashed:
        try:
            code = process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        how = f"was killed by {_signal(-code)}" if code < 0 else f"ended with exit code {code}"
        last = self._last_line()
        hint = "the machine may be out of memory" if code == -signal.SIGKILL else None
        return ProcessCrashed(f"the worker {how} while {doing}{': ' + last if last else ''}", hint)

    def _last_line(self) -> str:
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, self._stderr.tell() - 4096))
        lines = self._stderr.read().decode("utf-8", "replace").splitlines()
        # runtimes announce themselves with INFO lines (ONNX Runtime: "[I:onnxruntime:"), which explain nothing
        told = [line.strip() for line in lines if line.strip() and not re.match(r"INFO:|\d\S+ \S+ \[I:", line)]
        return told[-1][:300] if told else ""


class _Pipe:
    """One end of a pipe whose reads and writes end at a moment, since a worker that hangs would block them."""

    def __init__(self, descriptor: int, ready: int, end: float) -> None:
        self._descriptor, self._end = descriptor, end
        self._poll = select.poll()
        self._poll.register(descriptor, ready)
        os.set_blocking(descriptor, False)

    def read(self, size: int, /) -> bytes:
        self._wait()
        return os.read(self._descriptor, size)

    def write(self, data: bytes, /) -> None:
        left = memoryview(data)
        while left:
            self._wait()
            left = left[os.write(self._descriptor, left) :]

    def flush(self) -> None:
        """Nothing is kept back."""

    def _wait(self) -> None:
        if not self._poll.poll(max(0.0, self._end - time.monotonic()) * 1e3):
            raise TimeoutError


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _rebuilt(message: Mapping[str, Any]) -> Exception:
    kind = getattr(errors, message["error"], None)
    if not (isinstance(kind, type) and issubclass(kind, EdgetoolError)):
        return RuntimeError(f"a bug in the worker:\n{message['message']}")
    error = kind.__new__(kind)
    EdgetoolError.__init__(error, message["message"], message["hint"])
    return error
