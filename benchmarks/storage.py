"""How fast packed models of a megabyte come back, in how much memory, and what they take in a bundle.

python -m benchmarks.storage     under a minute; writes results/storage.json

Two dense layers stored three ways: float32 as initialised, float32 with one weight in twenty kept and eight values
shared, and int8 by dynamic range. Initial weights code as trained ones do: the time depends on how many
symbols there are. Decoding is `edge.packing.unpack` in one process and one thread.
"""

import statistics
import time
import tracemalloc
from typing import Any

import numpy as np

from benchmarks.figures import Figure, write
from edge.packing import pack, unpack
from edge.report import Interval

REPETITIONS = 15
MEGABYTE = 1e6
# The decoder's own arrays beside the model and the packed file; 16 bytes for each symbol, two passes.
MOST_BYTES_PER_BYTE = 40.0


def net(units: int) -> Any:
    """Two dense layers of units x units weights each: [N, units] -> [N, units]."""
    import keras

    keras.utils.set_random_seed(0)
    values = keras.Input((units,), name="values")
    x = keras.layers.Dense(units, activation="relu", name="first")(values)
    return keras.Model(values, keras.layers.Dense(units, name="second")(x))


def models() -> dict[str, bytes]:
    """The three files of about a megabyte, by name."""
    import tensorflow as tf

    dense = net(362)
    made = {"float32": bytes(tf.lite.TFLiteConverter.from_keras_model(dense).convert())}
    rng = np.random.default_rng(0)
    shared = net(362)
    for layer in shared.layers[1:]:
        kernel, bias = layer.get_weights()
        kept = rng.random(kernel.shape) < 0.05
        layer.set_weights([np.where(kept, rng.choice(np.linspace(-0.2, 0.2, 8), kernel.shape), 0), bias])
    made["sparse"] = bytes(tf.lite.TFLiteConverter.from_keras_model(shared).convert())
    converter = tf.lite.TFLiteConverter.from_keras_model(net(724))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    made["int8"] = bytes(converter.convert())
    return made


def seconds(packed: bytes, size: int) -> tuple[float, Interval]:
    """Median wall-clock seconds of `REPETITIONS` decodings with its 95 % interval from order statistics."""
    taken = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        unpack(packed, size)
        taken.append(time.perf_counter() - start)
    ordered = sorted(taken)
    # n = 15: the 4th and the 12th value enclose the median with 96.5 % (binomial).
    return statistics.median(ordered), (ordered[3], ordered[11])


def main() -> None:
    """Pack, unpack, compare, and write the figures."""
    figures = []
    for name, model in models().items():
        packed = pack(model, "tflite")
        if unpack(packed, len(model)) != model:
            raise SystemExit(f"{name} did not come back bit for bit")
        median, (low, high) = seconds(packed, len(model))
        megabytes = len(model) / MEGABYTE
        per_mb = (low / megabytes, high / megabytes)
        tracemalloc.start()
        unpack(packed, len(model))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        figures += [
            Figure(f"{name}.decode_s_per_mb", "< 1", median / megabytes, "s", per_mb, per_mb[1] < 1),
            Figure(
                f"{name}.decode_mb_per_s", "reported", megabytes / median, "MB/s", (1 / per_mb[1], 1 / per_mb[0]), True
            ),
            Figure(
                f"{name}.decode_peak_per_byte", f"<= {MOST_BYTES_PER_BYTE:g}", peak / len(model), "B", None,
                peak / len(model) <= MOST_BYTES_PER_BYTE,
            ),
            Figure(f"{name}.stored_ratio", "reported", len(model) / len(packed), "x", None, True),
        ]  # fmt: skip
    write("storage", "python -m benchmarks.storage", figures)
    for figure in figures:
        print(f"{figure.name}: {figure.value:.4g} {figure.unit} ({figure.goal})")


if __name__ == "__main__":
    main()
