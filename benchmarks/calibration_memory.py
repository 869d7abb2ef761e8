"""Does calibration hold its samples? Peak memory of a process that calibrates on 100 and on 10,000 of them.

    python -m benchmarks.calibration_memory     about two minutes; writes results/calibration_memory.json

Each measurement is a process of its own. The samples are random images, made one at a time.
"""

import argparse
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, write

MODEL = Path(__file__).parent.parent / "recipes" / "models" / "fashion_mnist.keras"
FEW, MANY = 100, 10_000
# What 9,900 images of 28 x 28 float32 would add if they were held: 31 MB. Allocators vary by a few.
GOAL_MB = 10.0


def litert_converter(samples: Callable[[], Iterator[dict[str, Any]]]) -> None:
    """Keras to a static int8 .tflite by the LiteRT converter."""
    from convert.load import load_keras
    from convert.to_litert import to_litert

    to_litert(load_keras(MODEL), "int8", samples)


def litert_quantizer(samples: Callable[[], Iterator[dict[str, Any]]]) -> None:
    """A float .tflite to static int8 on the flatbuffer."""
    from compress.quantize.litert_static import quantize_static
    from convert.load import load_keras
    from convert.to_litert import to_litert

    quantize_static(to_litert(load_keras(MODEL), "float32", None), samples)


def onnx_runtime(samples: Callable[[], Iterator[dict[str, Any]]]) -> None:
    """A float .onnx to static int8 by all three calibration methods at once."""
    from compress.quantize.onnx_static import quantize_static_each
    from convert.load import load_keras
    from convert.to_onnx import to_onnx

    quantize_static_each(to_onnx(load_keras(MODEL)), samples)


ROUTES = {function.__name__: function for function in (litert_converter, litert_quantizer, onnx_runtime)}


def peak_mb(route: str, n: int) -> float:
    """Peak resident memory, in MB, of a fresh process that calibrates `route` on `n` samples."""
    command = [sys.executable, "-m", "benchmarks.calibration_memory", "--route", route, "--samples", str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Measure every route, or (as the process that is measured) run one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--route", choices=ROUTES)
    parser.add_argument("--samples", type=int, default=FEW)
    arguments = parser.parse_args()
    if arguments.route is None:
        figures = []
        for route in ROUTES:
            few, many = peak_mb(route, FEW), peak_mb(route, MANY)
            figures.append(Figure(f"{route}.peak_mb_at_{FEW}", "reported", few, "MB", None, True))
            grown = many - few
            figures.append(Figure(f"{route}.growth_mb", f"<= {GOAL_MB:g}", grown, "MB", None, grown <= GOAL_MB))
        write("calibration_memory", "python -m benchmarks.calibration_memory", figures)
        return

    import numpy as np

    def samples() -> Iterator[dict[str, Any]]:
        rng = np.random.default_rng(0)
        for _ in range(arguments.samples):
            yield {"image": rng.random((1, 28, 28, 1), np.float32)}

    ROUTES[arguments.route](samples)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
