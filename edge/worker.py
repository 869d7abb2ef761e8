"""One runtime in a process of its own: `python -m edge.worker` answers frames on its standard streams.

Two runtimes in one process slow each other down (their thread pools spin), and a damaged model may end
the process. So latency is measured, and untrusted models are run, here. A request is a frame with the
message `{"op": …}`; the reply is one frame, `{"ok": true, …}` or `{"error": class, "message", "hint"}`.

    import   format                            ->  nothing; its runtime is imported before a load needs it
    load     path, format, threads, delegate, settings   ->  engine, inputs, outputs, load_ms, placement
    predict  arrays [N, ...] by input          ->  arrays [N, ...] by output, real values
    time     calls or seconds (with min_calls), lead_in, slowdown  ->  array "seconds" [calls]
    end_to_end  preprocess, seconds, min_calls, arrays (one raw example by input)  ->  array "seconds" [calls]
    throughput  streams, seconds               ->  examples, seconds: so many engines run at the same time
    profile  runs                              ->  ops [{op, name, provider, us}], null where the runtime keeps none
    energy   seconds, idle_seconds             ->  energy {joules_per_inference, method, ...}, null without a meter
    clocks                                     ->  clocks {current_mhz, temperature_c, throttle_events, ...}
    status                                     ->  first_ms, peak_rss_bytes, cpu_s
    stop                                       ->  nothing; the worker ends

The client is `edge.runtime_process.RuntimeProcess`; any pair of streams carries the protocol.
"""

import contextlib
import dataclasses
import gc
import os
import resource
import select
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge import energy, frames, probe
from edge.engines import Engine, Feeds, import_runtime, open_engine, predict
from edge.engines.feeds import fixed
from edge.errors import BadData, BadModel, BadRecipe, EdgetoolError, EnvironmentFailed
from edge.frames import Frame, Reader, Writer
from edge.preprocess import from_plain
from edge.profile import profile
from edge.tensors import Array


class Worker:
    """Answers requests with at most one model loaded."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._first_ms: float | None = None
        self._fixed: Feeds = {}
        self._path = Path()
        self._where: dict[str, Any] = {}
        self._streams: list[Engine] = []
        self._told: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "throughput": self._throughput,
            "profile": self._profile,
            "energy": self._energy,
            "clocks": lambda message: {"clocks": dataclasses.asdict(probe.clocks())},
            "status": self._status,
        }

    def answer(self, request: Frame) -> Frame:
        """The reply to one request; expected errors become part of it."""
        try:
            return self._dispatch(request)
        except EdgetoolError as error:
            return Frame({"error": type(error).__name__, "message": error.message, "hint": error.hint})
        except MemoryError as error:
            return Frame({"error": EnvironmentFailed.__name__, "message": f"out of memory: {error}", "hint": None})
        except Exception:  # noqa: BLE001  # a bug: its traceback must reach the client, which raises it there
            return Frame({"error": "Exception", "message": traceback.format_exc(), "hint": None})

    def _dispatch(self, request: Frame) -> Frame:
        message = request.message
        op = message.get("op")
        if op == "import":
            import_runtime(message["format"])
            return Frame({"ok": True})
        if op == "load":
            return self._load(message)
        if op == "predict":
            return Frame({"ok": True}, self._predict(request.arrays))
        if op == "time":
            return Frame({"ok": True}, {"seconds": self._time(message)})
        if op == "end_to_end":
            return Frame({"ok": True}, {"seconds": self._end_to_end(message, request.arrays)})
        if op in self._told:
            return Frame({"ok": True, **self._told[op](message)})
        known = ("import", "load", "predict", "time", "end_to_end", *self._told)
        raise BadRecipe(f"unknown request {op!r}", f"{', '.join(known)} or stop")

    def _load(self, message: Mapping[str, Any]) -> Frame:
        import_runtime(message["format"])
        for loaded in (*([] if self._engine is None else [self._engine]), *self._streams):
            loaded.close()
        self._engine, self._streams = None, []
        self._where = {
            "format": message["format"],
            "threads": message["threads"],
            "delegate": message["delegate"],
            "settings": message.get("settings"),
        }
        self._path = Path(message["path"])
        start = time.perf_counter_ns()
        engine = open_engine(self._path, **self._where)
        load_ms = (time.perf_counter_ns() - start) / 1e6
        self._engine, self._first_ms, self._fixed = engine, None, {}
        return Frame(
            {
                "ok": True,
                "engine": engine.name,
                "inputs": [dataclasses.asdict(spec) for spec in engine.inputs],
                "outputs": [dataclasses.asdict(spec) for spec in engine.outputs],
                "load_ms": load_ms,
                "placement": dataclasses.asdict(engine.placement()),
            }
        )

    def _predict(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        engine = self._loaded()
        for spec in engine.inputs:
            if spec.name in arrays and not spec.shape:
                raise BadData(f"input {spec.name!r} is a scalar: it has no axis to stack examples on")
        lengths = {array.shape[0] if array.ndim else 0 for array in arrays.values()}
        if len(lengths) != 1 or 0 in lengths:
            raise BadData(f"inputs of {sorted(lengths)} examples cannot be run together", "stack them as [N, ...]")
        batch = engine.inputs[0].shape[0] or 1
        total = lengths.pop()
        if total % batch:
            raise BadData(f"{total} examples are no multiple of the model's fixed batch of {batch}")
        engine.reset()
        gathered: dict[str, list[Array]] = {spec.name: [] for spec in engine.outputs}
        for start in range(0, total, batch):
            outputs = self._timed_first({name: a[start : start + batch] for name, a in arrays.items()})
            for name, values in outputs.items():
                gathered[name].append(values)
        return {name: _stack(name, values, batch) for name, values in gathered.items()}

    def _timed_first(self, feeds: Feeds) -> dict[str, Array]:
        start = time.perf_counter_ns()
        outputs = predict(self._loaded(), feeds)
        if self._first_ms is None:
            self._first_ms = (time.perf_counter_ns() - start) / 1e6
        return outputs

    def _time(self, message: Mapping[str, Any]) -> Array:
        engine = self._loaded()
        if not self._fixed:
            self._fixed = fixed(engine.inputs)
        if self._first_ms is None:
            self._first_ms = float(_durations(engine.run, self._fixed, calls=1)[0]) * 1e3
        _durations(engine.run, self._fixed, calls=message.get("lead_in", 0))
        return _durations(
            engine.run,
            self._fixed,
            calls=message.get("calls") or message.get("min_calls", 1),
            seconds=0.0 if message.get("calls") else message["seconds"],
            slowdown=message.get("slowdown", 0.0),
        )

    def _end_to_end(self, message: Mapping[str, Any], raw: Mapping[str, Array]) -> Array:
        engine = self._loaded()
        steps = {name: from_plain(plain) for name, plain in message["preprocess"].items()}
        batch = {spec.name: spec.shape[0] or 1 for spec in engine.inputs}

        def whole(feeds: Feeds) -> None:
            inputs = {name: step(feeds[name])[None] for name, step in steps.items()}
            predict(engine, {k: x if batch[k] == 1 else np.repeat(x, batch[k], axis=0) for k, x in inputs.items()})

        _durations(whole, raw, calls=1)
        return _durations(whole, raw, calls=message.get("min_calls", 1), seconds=message["seconds"])

    def _throughput(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Every stream has an engine and a thread; runtimes leave Python's lock while they compute."""
        first = self._loaded()
        streams, seconds = message["streams"], message["seconds"]
        while len(self._streams) < streams - 1:
            self._streams.append(open_engine(self._path, **self._where))
        engines, feeds = [first, *self._streams][:streams], fixed(first.inputs)
        for engine in engines:
            engine.run(feeds)
        counts = [0] * streams
        ready = threading.Barrier(streams + 1)
        failed: list[Exception] = []

        def stream(k: int) -> None:
            run = engines[k].run
            ready.wait()
            try:
                while time.perf_counter() < until[0]:
                    run(feeds)
                    counts[k] += 1
            except EdgetoolError as error:
                failed.append(error)

        until = [0.0]
        threads = [threading.Thread(target=stream, args=(k,)) for k in range(streams)]
        for thread in threads:
            thread.start()
        start = time.perf_counter()
        until[0] = start + seconds
        ready.wait()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]
        batch = (first.inputs[0].shape[0] or 1) if first.inputs[0].shape else 1
        return {"examples": sum(counts) * batch, "seconds": time.perf_counter() - start}

    def _profile(self, message: Mapping[str, Any]) -> dict[str, Any]:
        ops = profile(self._path, self._where, fixed(self._loaded().inputs), message["runs"])
        return {"ops": None if ops is None else [dataclasses.asdict(op) for op in ops]}

    def _energy(self, message: Mapping[str, Any]) -> dict[str, Any]:
        engine = self._loaded()
        feeds = fixed(engine.inputs)
        meter = energy.meter()
        if meter is None:
            return {"energy": None}
        found = energy.measure(
            meter,
            lambda seconds: len(_durations(engine.run, feeds, calls=1, seconds=seconds)),
            seconds=message["seconds"],
            idle_seconds=message["idle_seconds"],
        )
        return {"energy": dataclasses.asdict(found)}

    def _status(self, message: Mapping[str, Any]) -> dict[str, Any]:
        return {"first_ms": self._first_ms, "peak_rss_bytes": peak_rss_bytes(), "cpu_s": time.process_time()}

    def _loaded(self) -> Engine:
        if self._engine is None:
            raise BadRecipe("no model is loaded", "send a load request first")
        return self._engine


def serve(reader: Reader, writer: Writer) -> None:
    """Answer requests until the stream ends or a stop request comes.

    Raises:
        EnvironmentFailed: the stream ends inside a frame, or holds something that is no frame.

    """
    worker = Worker()
    while (request := frames.read(reader)) is not None and request.message.get("op") != "stop":
        reply = worker.answer(request)
        try:
            frames.write(writer, reply)
        except BadData as error:
            frames.write(writer, Frame({"error": "BadData", "message": error.message, "hint": error.hint}))


def peak_rss_bytes() -> int | None:
    """The most memory this process ever had resident (VmHWM), or None where the system does not say."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def _durations(
    run: Callable[[Feeds], Any], feeds: Feeds, *, calls: int, seconds: float = 0.0, slowdown: float = 0.0
) -> Array:
    """Seconds of each run: at least `calls`, and more until about `seconds` have gone by.

    `slowdown` plants a known effect: that fraction is added to the time of each run. It is added, not waited for,
    since a processor that waits in between runs the next one slower, and the effect is no longer the known one.
    """
    clock = time.perf_counter_ns
    durations: list[int] = []
    gc.disable()
    try:
        until = clock() + int(seconds * 1e9)
        while len(durations) < calls or clock() < until:
            start = clock()
            run(feeds)
            durations.append(clock() - start)
    finally:
        gc.enable()
    return np.asarray(durations, np.float64) * (1 + slowdown) / 1e9


def _stack(name: str, values: list[Array], batch: int) -> Array:
    if len({value.shape for value in values}) > 1:
        raise BadModel(f"output {name!r} has another shape for each example: its examples cannot be stacked")
    batched = values[0].ndim > 0 and values[0].shape[0] == batch
    return np.concatenate(values) if batched else np.stack(values)


def _die_with_parent(stream: int) -> None:
    """End the process as soon as nobody holds the other end of its input, even in the middle of a run."""
    poll = select.poll()
    poll.register(stream, 0)  # an empty mask still reports POLLHUP
    if any(event & select.POLLHUP for _, event in poll.poll()):
        os._exit(0)


def main() -> None:
    """Serve on the standard streams. What runtimes print to them must not end up between the frames."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a damaged model's core file helps nobody
    reader, writer = os.dup(0), os.dup(1)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    threading.Thread(target=_die_with_parent, args=(reader,), daemon=True).start()
    with os.fdopen(reader, "rb") as requests, os.fdopen(writer, "wb") as replies, contextlib.suppress(BrokenPipeError):
        try:
            serve(requests, replies)
        except EdgetoolError as error:
            sys.exit(error.message)


if __name__ == "__main__":
    main()
