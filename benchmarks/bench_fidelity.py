"""Whether `edgetool bench` says what a plain loop sees: `python -m benchmarks.bench_fidelity`.

The loop does what any program must: LiteRT's set_tensor, invoke and get_tensor, or ONNX Runtime's session.run, with the
clock around it. It runs in processes of its own, launched and warmed up in turn with those of `edgetool.verify.race`'s
worker, in alternating blocks; both figures are the median over launches of the median call. The goal is that they
differ by at most 3 %, with a bootstrap interval over pairs of launches.

python -m benchmarks.bench_fidelity [--launches 24]     some minutes; writes results/bench_fidelity.json
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from benchmarks.engine_overhead import block_us, raw_litert, raw_onnx
from benchmarks.figures import Figure, write
from edge.engines import open_engine
from edge.engines.feeds import fixed
from edge.runtime_process import RuntimeProcess
from edge.warm_up import warm_up
from edgetool.verify.race import LOCK, machine_to_itself

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("EDGETOOL_DATA") or REPOSITORY.parent / "shared" / "data") / "models"
TINY = SHARED / "mlperf_tiny"
MODELS = {
    "litert.kws": TINY / "keyword_spotting" / "kws_ref_model_float32.tflite",
    "litert.resnet": TINY / "image_classification" / "pretrainedResnet.tflite",
    "onnxruntime.vad": SHARED / "moonshine_micro" / "tinyvad_cnn_speech_mel.onnx",
    "onnxruntime.spelling": SHARED / "moonshine_micro" / "spelling_cnn_mel.onnx",
    "onnxruntime.antispoof": SHARED / "antispoof_minifas" / "best_model.onnx",
}
LAUNCHES = 24
BLOCKS = 6
BLOCK_SECONDS = 0.05
MIN_CALLS = 5
LEAD_IN = 2
LIMIT = 0.03


def main() -> None:
    """Measure every model that is here and write benchmarks/results/bench_fidelity.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launches", type=int, default=LAUNCHES, metavar="N", help=f"pairs of processes ({LAUNCHES})")
    parser.add_argument("--loop", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loop is not None:
        plain_loop(options.loop)
        return
    figures = []
    with machine_to_itself(LOCK, 3600, lambda what, fraction: print(what)):
        for name, path in MODELS.items():
            if not path.is_file():
                print(f"skipped {name}: {path.name} is in the shared data, which is not here")
                continue
            ours, raw = medians_us(path, options.launches)
            value, (low, high) = difference(ours, raw)
            medians = f"bench {np.median(ours):.2f} us, loop {np.median(raw):.2f} us"
            print(f"{name}: {medians}, {value:+.2%} ({low:+.2%} to {high:+.2%})")
            met = abs(value) <= LIMIT
            figures.append(
                Figure(f"bench_fidelity.{name}", "within 3 %", 100 * value, "%", (100 * low, 100 * high), met)
            )
    write("bench_fidelity", f"python -m benchmarks.bench_fidelity --launches {options.launches}", figures)


def medians_us(path: Path, launches: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The median call of each launch in microseconds: of the benchmark's worker, and of the plain loop."""
    model_format = path.suffix.removeprefix(".")
    ours, raw = [], []
    for launch in range(launches):
        with RuntimeProcess() as worker, Loop(path) as loop:
            worker.load(path, model_format)
            warmed = warm_up(worker, stretch_seconds=BLOCK_SECONDS, min_calls=MIN_CALLS, max_seconds=0.5)
            calls = max(MIN_CALLS, int(BLOCK_SECONDS / warmed.median_s))
            loop.block(calls)
            blocks: tuple[list[npt.NDArray[np.float64]], list[npt.NDArray[np.float64]]] = ([], [])
            for block in range(BLOCKS):
                for side in (0, 1) if (launch + block) % 2 else (1, 0):
                    timed = worker.time(calls=calls, lead_in=LEAD_IN) * 1e6 if side == 0 else loop.block(calls)
                    blocks[side].append(timed)
        ours.append(np.median(np.concatenate(blocks[0])))
        raw.append(np.median(np.concatenate(blocks[1])))
    return np.array(ours), np.array(raw)


def difference(ours: npt.NDArray[np.float64], raw: npt.NDArray[np.float64]) -> tuple[float, tuple[float, float]]:
    """The benchmark's median over the loop's, less 1, with a 95 % bootstrap interval over pairs of launches."""
    picks = np.random.default_rng(0).integers(0, len(ours), (9999, len(ours)))
    resampled = np.median(ours[picks], axis=1) / np.median(raw[picks], axis=1) - 1
    low, high = (float(q) for q in np.quantile(resampled, (0.025, 0.975)))
    return float(np.median(ours) / np.median(raw) - 1), (low, high)


class Loop:
    """A process with the plain loop: a line with a number of calls in, a line with the bytes of its times out."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.bench_fidelity", "--loop", str(path)]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            cwd=REPOSITORY, env=environment,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def block(self, calls: int) -> npt.NDArray[np.float64]:
        """Microseconds of each of `calls` calls."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{calls}\n".encode())
        self._process.stdin.flush()
        return np.frombuffer(self._process.stdout.read(8 * calls), np.float64)


def plain_loop(path: Path) -> None:
    """Answer each line with the microseconds of so many calls, after the same lead-in as the benchmark's."""
    model_format = path.suffix.removeprefix(".")
    engine = open_engine(path, model_format)
    feeds = fixed(engine.inputs)
    engine.close()
    call = raw_litert(path, feeds) if model_format == "tflite" else raw_onnx(path, feeds)
    for line in sys.stdin:
        block_us(call, LEAD_IN)
        sys.stdout.buffer.write(block_us(call, int(line)).tobytes())
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
