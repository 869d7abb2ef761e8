"""What `Engine.run` adds to the runtime's own call: `python -m benchmarks.engine_overhead`.

The raw side does what any program must: LiteRT's set_tensor, invoke and get_tensor, or ONNX Runtime's
session.run. Both sides run the same model in one process, in alternating blocks; the figure is the
difference of their medians with a bootstrap interval over pairs of blocks. The limit is 3 % of the raw
median or 5 µs, whichever is more.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.figures import Figure, write
from edge.engines import open_engine
from edge.engines.feeds import fixed
from edge.engines.litert import interpreter_class
from edge.engines.onnx import runtime
from edge.tensors import Array

REPOSITORY = Path(__file__).resolve().parent.parent
TINY = REPOSITORY / "tests" / "edge" / "data"
SHARED = Path(os.environ.get("EDGETOOL_DATA") or REPOSITORY.parent / "shared" / "data") / "models"
MODELS = {
    "litert.tiny": TINY / "tiny.tflite",
    "litert.kws": SHARED / "mlperf_tiny" / "keyword_spotting" / "kws_ref_model_float32.tflite",
    "onnxruntime.tiny": TINY / "tiny.onnx",
    "onnxruntime.vad": SHARED / "moonshine_micro" / "tinyvad_cnn_speech_mel.onnx",
}
BLOCKS = 60
BLOCK_SECONDS = 0.02
LIMIT_US = 5.0
LIMIT_FRACTION = 0.03


def main() -> None:
    """Measure every model that is here and write benchmarks/results/engine_overhead.json."""
    figures = []
    for name, path in MODELS.items():
        if not path.is_file():
            print(f"skipped {name}: {path.name} is in the shared data, which is not here")
            continue
        raw_us, added_us, interval = overhead(path)
        limit = max(LIMIT_US, LIMIT_FRACTION * raw_us)
        print(f"{name}: raw {raw_us:.2f} us, added {added_us:.2f} us ({interval[0]:.2f} to {interval[1]:.2f})")
        figures.append(
            Figure(
                name=f"engine_overhead.{name}",
                goal=f"<= {limit:.2f}",
                value=added_us,
                unit="us",
                ci95=interval,
                met=interval[1] <= limit,
            )
        )
    write("engine_overhead", "python -m benchmarks.engine_overhead", figures)


def overhead(path: Path) -> tuple[float, float, tuple[float, float]]:
    """The raw median, what the engine adds to it, and the 95 % interval of that, all in microseconds."""
    model_format = path.suffix.removeprefix(".")
    engine = open_engine(path, model_format)
    feeds = fixed(engine.inputs)
    raw = raw_litert(path, feeds) if model_format == "tflite" else raw_onnx(path, feeds)

    def ours() -> None:
        engine.run(feeds)

    calls = max(20, int(BLOCK_SECONDS * 1e6 / float(np.median(block_us(raw, 200)))))
    block_us(ours, calls)
    blocks = np.empty((BLOCKS, 2, calls))
    for i in range(BLOCKS):
        for side in (0, 1) if i % 2 else (1, 0):
            blocks[i, side] = block_us((raw, ours)[side], calls)
    picks = np.random.default_rng(0).integers(0, BLOCKS, (1000, BLOCKS))
    added = [difference(blocks[pick]) for pick in picks]
    low, high = (float(p) for p in np.percentile(added, (2.5, 97.5)))
    return float(np.median(blocks[:, 0])), difference(blocks), (low, high)


def difference(blocks: npt.NDArray[np.float64]) -> float:
    """Median of ours minus median of raw, over blocks [B, 2, calls]."""
    raw, ours = np.median(blocks, axis=(0, 2))
    return float(ours - raw)


def block_us(call: Callable[[], Any], calls: int) -> npt.NDArray[np.float64]:
    """Microseconds of each of `calls` calls."""
    durations = np.empty(calls)
    for i in range(calls):
        start = time.perf_counter_ns()
        call()
        durations[i] = time.perf_counter_ns() - start
    return durations / 1e3


def raw_litert(path: Path, feeds: dict[str, Array]) -> Callable[[], Any]:
    """One inference as LiteRT's own interface has it, for a model with one input and one output."""
    interpreter = interpreter_class()(str(path), num_threads=1)
    interpreter.allocate_tensors()
    (fed,) = (detail["index"] for detail in interpreter.get_input_details())
    (read,) = (detail["index"] for detail in interpreter.get_output_details())
    (values,) = feeds.values()

    def call() -> Any:
        interpreter.set_tensor(fed, values)
        interpreter.invoke()
        return interpreter.get_tensor(read)

    return call


def raw_onnx(path: Path, feeds: dict[str, Array]) -> Callable[[], Any]:
    """One inference as ONNX Runtime's own interface has it, with the options that the engine sets."""
    ort = runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda: session.run(names, feeds)


if __name__ == "__main__":
    main()
