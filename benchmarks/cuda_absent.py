"""Whether an onnxruntime-gpu wheel on a machine without a GPU is found out: it lists CUDA and runs on the CPU.

.venv-gpu/bin/python -m benchmarks.cuda_absent     in an environment of its own with onnxruntime-gpu and numpy

Prints what the wheel claims, what a bare session does, and what the engine says; exit 1 where a delegate opens that
put nothing on a GPU, or fails without naming what is missing. On a machine with the GPU it prints where the model ran.
"""

import sys

from edge.engines import open_engine
from edge.engines.onnx import runtime
from edge.errors import DelegateFailed
from edge.proof import MODELS

MODEL = MODELS / "conv.onnx"


def main() -> None:
    """Try both delegates; exit 1 where one is believed that did not run."""
    ort = runtime()
    print(f"onnxruntime {ort.__version__} lists {', '.join(ort.get_available_providers())}")
    failed = False
    for delegate, provider in (("cuda", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")):
        if provider not in ort.get_available_providers():
            print(f"{delegate}: FAILED: this is not the GPU wheel, which the check is about")
            failed = True
            continue
        print(f"{delegate}: a bare session: {bare(ort, provider)}")
        verdict, good = engine(delegate)
        print(f"{delegate}: the engine: {verdict}")
        failed = failed or not good
    cpu = open_engine(MODEL, "onnx").placement()
    print(f"cpu: the engine: {cpu.ops_offloaded} of {cpu.ops_total} operations on {cpu.actual}")
    sys.exit(failed)


def bare(ort: object, provider: str) -> str:
    """What a program sees that trusts the runtime: a session that opens, on whatever it opens."""
    options = ort.SessionOptions()  # type: ignore[attr-defined]
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(str(MODEL), options, providers=[provider], enable_fallback=0)  # type: ignore[attr-defined]
    except Exception as error:  # noqa: BLE001  # the runtime's errors share no class but this
        return f"refused: {' '.join(str(error).split())[:120]}"
    return f"opened on {', '.join(session.get_providers())}"


def engine(delegate: str) -> tuple[str, bool]:
    """What the engine says, and whether that is true: where it ran, or which library is missing."""
    try:
        placement = open_engine(MODEL, "onnx", delegate=delegate).placement()
    except DelegateFailed as error:
        return f"{error.message} (hint: {error.hint})", ".so" in error.message
    told = f"{placement.ops_offloaded} of {placement.ops_total} operations on {placement.actual} ({placement.device})"
    return told, placement.ops_offloaded > 0


if __name__ == "__main__":
    main()
