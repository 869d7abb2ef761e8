"""Which operation takes how long, from the runtime's own profiler."""

import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from edge.tensors import Array

WARM_UP_RUNS = 3


@dataclass(frozen=True)
class RanOp:
    """One operation: its type, its name in the graph, where it ran, and its median microseconds in one run."""

    op: str
    name: str
    provider: str
    us: float


def profile(path: Path, where: Mapping[str, Any], feeds: Mapping[str, Array], runs: int) -> tuple[RanOp, ...] | None:
    """Operations in the order they ran, over `runs` runs of an engine of its own; None for other runtimes than ONNX's.

    LiteRT's Python interface has no profiler: the wheel's wrapper offers none (0 of its methods), and the C++ tool
    `benchmark_model` is not in it.
    """
    if where["format"] != "onnx":
        return None
    from edge.delegates import find_delegate
    from edge.engines.onnx import ONNXRuntimeEngine
    from edge.settings import parse_settings

    delegate = find_delegate(where["delegate"], "onnx")
    settings = parse_settings(delegate.settings, where.get("settings") or {}, delegate.name)
    with tempfile.TemporaryDirectory() as folder:
        engine = ONNXRuntimeEngine(path, where["threads"], delegate, settings, profile_to=Path(folder) / "run")
        for _ in range(WARM_UP_RUNS + runs):
            engine.run(feeds)
        engine.close()  # ends the profile
        (file,) = Path(folder).iterdir()
        return ran_ops(json.loads(file.read_text()))


def ran_ops(events: list[dict[str, Any]]) -> tuple[RanOp, ...]:
    """The kernel times in ONNX Runtime's profile, without those of the first runs."""
    times: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for event in events:
        told = event.get("args", {})
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            times[told.get("op_name", "?"), name, told.get("provider", "?")].append(float(event["dur"]))
    return tuple(
        RanOp(op, name, provider, median(durations[WARM_UP_RUNS:] or durations))
        for (op, name, provider), durations in times.items()
    )
