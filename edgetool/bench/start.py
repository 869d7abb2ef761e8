"""How a model starts on a delegate, and what it answers there: with every compile cache empty, then with them full."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from edge.bench_report import Start
from edge.runtime_process import Loaded, RuntimeProcess
from edgetool.bench.cases import Case
from edgetool.bench.difference import Outputs

# The model's outputs on all examples come after the first inference; a slow emulator is given this long for them
ANSWER_LIMIT_S = 600.0


@dataclass(frozen=True, eq=False)
class Started:
    """What the two processes showed."""

    start: Start
    loaded: Loaded
    outputs: Outputs


def start(case: Case, limit_s: float) -> Started:
    """Load and run in a fresh process twice, with a cache folder of their own that is empty at first.

    Raises:
        EdgetoolError: the delegate does not take the model, is missing, crashes or hangs, as
            `edge.runtime_process.RuntimeProcess` says it.

    """
    with tempfile.TemporaryDirectory(prefix="edgetool-cache-") as folder:
        cache = {"XDG_CACHE_HOME": folder, "MESA_SHADER_CACHE_DIR": folder}
        cold, loaded, outputs = _once(case, cache, limit_s)
        cached, _, _ = _once(case, cache, limit_s, answer=False)
    return Started(
        Start(
            import_ms=cold[0],
            cold_load_ms=cold[1],
            cold_first_ms=cold[2],
            cached_load_ms=cached[1],
            cached_first_ms=cached[2],
        ),
        loaded,
        outputs,
    )


def _once(
    case: Case, environment: dict[str, str], limit_s: float, *, answer: bool = True
) -> tuple[tuple[float, float, float], Loaded, Outputs]:
    """Milliseconds until the runtime is imported, of the load and of the first inference; and all outputs."""
    examples = case.subject.examples
    begun = time.perf_counter()
    with RuntimeProcess(environment=environment) as process:
        process.import_runtime(case.subject.model.format)
        import_ms = (time.perf_counter() - begun) * 1e3
        loaded = load(process, case, limit_s)
        batch = (loaded.inputs[0].shape[0] or 1) if loaded.inputs and loaded.inputs[0].shape else 1
        first = process.predict({name: values[:batch] for name, values in examples.items()}, limit_s=limit_s)
        first_ms = process.status().first_ms
        n = len(next(iter(examples.values()))) // batch * batch
        outputs = (
            process.predict({name: values[:n] for name, values in examples.items()}, limit_s=ANSWER_LIMIT_S)
            if answer
            else first
        )
    assert first_ms is not None
    return (import_ms, loaded.load_ms, first_ms), loaded, outputs


def load(process: RuntimeProcess, case: Case, limit_s: float) -> Loaded:
    """Load a case's model on its delegate."""
    return process.load(
        Path(case.subject.path),
        case.subject.model.format,
        threads=case.threads,
        delegate=case.delegate.name,
        settings=case.settings,
        limit_s=limit_s,
    )
