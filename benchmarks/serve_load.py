"""`edgetool serve` with the keyword-spotting model of MLPerf Tiny: 500 requests/s, and what a request costs.

    python -m benchmarks.serve_load              both in full (about two minutes); writes results/serve_load.json
    python -m benchmarks.serve_load --slice      a tenth of it, for CI: only errors fail it; writes nothing
    python -m benchmarks.serve_load --contract   schemathesis against the served document, 300 examples an operation

Load: a client in a process of its own asks over kept connections at a constant rate, whatever the answers do. A
latency counts from the moment at which the request was meant to be sent, so that a stall is felt by every request
that should have been sent meanwhile (Tene's coordinated omission). Intervals are bootstrapped over seconds.

Cost: blocks of requests to this server, to a bare FastAPI application that echoes the same body, and of the model's own
runs in a process, in alternating order, one request at a time on one kept connection. The overhead is the median of
the first minus the medians of the other two, bootstrapped over blocks. Beside it stands what the process that holds
the runtime costs over the same runtime called in the caller's process.
"""

import argparse
import contextlib
import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.figures import Figure, table, write
from benchmarks.serve_client import SHARED, connection, exchange, kws_bundle, request_bytes
from edge.engines import open_engine, predict
from edge.report import Interval
from edge.runtime_process import RuntimeProcess

RATE, SECONDS, CONNECTIONS = 500, 60.0, 16
GRACE_S = 1.0  # an answer that comes later than this after the last one was due is not an answer at 500 per second
BLOCKS, BLOCK_CALLS = 200, 50
LIMIT_MS = 1.0
CONTRACT_EXAMPLES = 300
TOKEN = "benchmark-token-0123456789"

Samples = npt.NDArray[np.float64]


def main() -> int:
    """Measure what was asked for; 1 where a figure is not met (of a slice: where a request failed)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", action="store_true", help="a tenth of the work, for CI; writes nothing")
    parser.add_argument("--contract", action="store_true", help="schemathesis instead; writes nothing")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long the load lasts")
    arguments = parser.parse_args()
    if not SHARED.is_dir():
        print("skipped: the keyword-spotting model is in the shared data, which is not here")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        bundle, features = kws_bundle(Path(scratch))
        if arguments.contract:
            return contract(bundle, Path(scratch))
        json_body = json.dumps({"inputs": {"input_1": np.round(features, 3).tolist()}}).encode()
        with served(bundle) as port, echo() as echo_port:
            figures = cost_figures(port, echo_port, json_body, features, BLOCKS // 10 if arguments.slice else BLOCKS)
            seconds = min(arguments.seconds, 5.0) if arguments.slice else arguments.seconds
            figures += load_figures(port, json_body, seconds, Path(scratch) / "latencies.npy")
        figures += worker_figures(bundle, features, BLOCKS // 10 if arguments.slice else BLOCKS)
    print(table([("serve_load", figure) for figure in figures]))
    if not arguments.slice:
        write("serve_load", shlex.join(["python", "-m", "benchmarks.serve_load", *sys.argv[1:]]), figures)
    binding = [figure for figure in figures if not arguments.slice or figure.goal == "== 0"]
    return 1 if any(not figure.met for figure in binding) else 0


def load_figures(port: int, body: bytes, seconds: float, kept: Path) -> list[Figure]:
    """RATE requests a second for `seconds`: errors, answers in time, latencies from the intended start."""
    command = [sys.executable, "-m", "benchmarks.serve_client", str(port), TOKEN, str(RATE), str(seconds)]
    subprocess.run([*command, str(CONNECTIONS), str(kept)], input=body, check=True)
    latencies_ms = np.load(kept) * 1e3  # NaN where there was no answer, or another one than 200
    errors = int(np.isnan(latencies_ms).sum())
    due_ms = np.arange(len(latencies_ms)) * 1e3 / RATE
    in_time = int((due_ms + latencies_ms <= seconds * 1e3 + GRACE_S * 1e3).sum())
    answered = in_time / seconds
    figures = [
        Figure("serve.kws.answered_per_s", f">= {RATE}", answered, "1/s", None, answered >= RATE),
        Figure("serve.kws.errors", "== 0", float(errors), f"of {len(latencies_ms)}", None, errors == 0),
    ]
    blocks = np.array_split(latencies_ms, max(1, int(seconds)))
    for percent in (50, 90, 99, 99.9):
        value, interval = bootstrap([blocks], lambda parts, q=percent: float(np.nanpercentile(parts[0], q)))
        figures.append(Figure(f"serve.kws.latency_p{percent:g}_ms", "reported", value, "ms", interval, True))
    longest = float(np.nanmax(latencies_ms))
    return [*figures, Figure("serve.kws.latency_max_ms", "reported", longest, "ms", None, True)]


def cost_figures(port: int, echo_port: int, json_body: bytes, features: Samples, blocks: int) -> list[Figure]:
    """What a request costs beside the inference and the bare framework, for each form of the body."""
    figures = []
    with RuntimeProcess() as process:
        process.load(SHARED / "kws_ref_model.tflite", "tflite")
        for form, body, kind in (
            ("json", json_body, "application/json"),
            ("npy", npy(features), "application/x-npy"),
        ):
            ours = client(port, request_bytes("/v1/models/kws/predict", body, kind, TOKEN))
            bare = client(echo_port, request_bytes("/echo", body, kind, TOKEN))

            def inference(calls: int) -> Samples:
                return process.time(calls=calls)

            rounds = interleaved((ours, bare, inference), blocks)
            value, interval = bootstrap(rounds, lambda parts: medians(parts) @ np.array([1, -1, -1]) * 1e3)
            goal = f"<= {LIMIT_MS:g}"
            figures.append(Figure(f"serve.overhead.{form}_ms", goal, value, "ms", interval, interval[1] <= LIMIT_MS))
            for name, index in (("request", 0), ("echo", 1), ("inference", 2)):
                value, interval = bootstrap(rounds, lambda parts, i=index: float(medians(parts)[i]) * 1e3)
                figures.append(Figure(f"serve.{name}.{form}_ms", "reported", value, "ms", interval, True))
    return figures


def worker_figures(bundle: Path, features: Samples, blocks: int) -> list[Figure]:
    """What a process for the runtime costs over the runtime in the caller's process."""
    model = SHARED / "kws_ref_model.tflite"
    engine = open_engine(model, "tflite")
    feeds = {"input_1": features[None]}
    with RuntimeProcess() as process:
        process.load(model, "tflite")
        rounds = interleaved((timed(lambda: process.predict(feeds)), timed(lambda: predict(engine, feeds))), blocks)
    engine.close()
    value, interval = bootstrap(rounds, lambda parts: medians(parts) @ np.array([1, -1]) * 1e3)
    return [Figure("serve.worker_process_adds_ms", "reported", value, "ms", interval, True)]


def interleaved(sides: Sequence[Callable[[int], Samples]], blocks: int) -> list[list[Samples]]:
    """Seconds of BLOCK_CALLS calls a block, [side][block], in another order every time; the first blocks warm up."""
    rng = np.random.default_rng(0)
    kept: list[list[Samples]] = [[] for _ in sides]
    for block in range(blocks + 2):
        for side in rng.permutation(len(sides)):
            taken = sides[side](BLOCK_CALLS)
            if block >= 2:
                kept[side].append(taken)
    return kept


def bootstrap(
    sides: Sequence[Sequence[Samples]], statistic: Callable[[list[Samples]], float]
) -> tuple[float, Interval]:
    """A statistic of the concatenated blocks of each side and its 95 % interval; blocks are drawn together."""
    rng = np.random.default_rng(0)
    number = len(sides[0])
    drawn = []
    for _ in range(500):
        pick = rng.integers(0, number, number)
        drawn.append(statistic([np.concatenate([side[i] for i in pick]) for side in sides]))
    low, high = (float(p) for p in np.percentile(drawn, (2.5, 97.5)))
    return float(statistic([np.concatenate(side) for side in sides])), (low, high)


def medians(parts: Sequence[Samples]) -> Samples:
    """The median of each side."""
    return np.array([np.median(part) for part in parts])


def client(port: int, request: bytes) -> Callable[[int], Samples]:
    """Asks one request after the other on one kept connection."""
    kept = connection(port)

    def ask(calls: int) -> Samples:
        return timed(lambda: exchange(kept, request))(calls)

    return ask


def timed(call: Callable[[], Any]) -> Callable[[int], Samples]:
    """Seconds of each of a number of calls."""

    def run(calls: int) -> Samples:
        taken = np.empty(calls)
        for i in range(calls):
            start = time.perf_counter()
            call()
            taken[i] = time.perf_counter() - start
        return taken

    return run


def npy(array: Samples) -> bytes:
    """An array as the bytes of an .npy file."""
    import io

    stream = io.BytesIO()
    np.save(stream, array.astype(np.float32))
    return stream.getvalue()


@contextlib.contextmanager
def served(bundle: Path) -> Iterator[int]:
    """The port of a server of its own process, stopped at the end in order."""
    command = [sys.executable, "-m", "edgetool", "serve", str(bundle), "--port", "0", "--token", TOKEN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield port_of(process)
        process.terminate()
        process.communicate()
    if process.returncode:
        raise RuntimeError(f"the server ended with exit code {process.returncode}")


@contextlib.contextmanager
def echo() -> Iterator[int]:
    """The port of a bare FastAPI application that answers with what it was sent."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.serve_echo"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield port_of(process)
        finally:
            process.terminate()


def port_of(process: "subprocess.Popen[str]") -> int:
    """The port in the first line that a server prints."""
    assert process.stdout is not None
    found = re.search(r":(\d+)$", process.stdout.readline().strip())
    if found is None:
        raise RuntimeError("the server did not start")
    return int(found[1])


def contract(bundle: Path, scratch: Path) -> int:
    """Schemathesis against the served document."""
    with served(bundle) as port:
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{port}/openapi.json"),
            *("-H", f"Authorization: Bearer {TOKEN}", "--max-examples", str(CONTRACT_EXAMPLES)),
            *("--phases", "coverage,fuzzing", "--continue-on-failure", "--suppress-health-check", "all"),
        ]
        return subprocess.run(command, cwd=scratch, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
