"""Running models on data, in the runtime that will run them and in a process of their own."""

import io
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.artifact import Artifact
from edge.report import Accuracy, Drop, Parity
from edge.runtime_process import RuntimeProcess
from edgetool.metrics import Metric
from edgetool.progress import At
from edgetool.results import Results, key_of
from edgetool.task import Batch, Examples, batches

BATCH = 256
GOLDEN_EXAMPLES = 32

Outputs = dict[str, npt.NDArray[Any]]


def golden_inputs(examples: Examples, seed: int, n: int = GOLDEN_EXAMPLES) -> Batch:
    """The inputs on which parity is checked and that travel in the bundle: `n` seeded examples, [n, ...] each."""
    drawn = np.sort(np.random.default_rng(seed).permutation(examples.n)[:n])
    return examples.take(drawn)[0]


def run_on(artifact: Artifact, inputs: Mapping[str, npt.NDArray[Any]]) -> Outputs:
    """All outputs of a .tflite or .onnx for stacked inputs: name -> [n, ...]."""
    with RuntimeProcess() as process:
        process.load(artifact.path, artifact.format)
        return process.predict(inputs)


def outputs_on(
    artifact: Artifact, examples: Examples, task_sha256: str, results: Results, what: str, at: At
) -> npt.NDArray[Any]:
    """The first output of a model on all examples, [n, ...], run one at a time as on a device.

    Kept in `results` under the model's and the task's hashes and `what`, so that a resumed run has them.
    """

    def compute() -> bytes:
        first = artifact.outputs[0].name
        parts: list[npt.NDArray[Any]] = []
        done = 0
        with RuntimeProcess() as process:
            process.load(artifact.path, artifact.format)
            for inputs, labels in batches(examples, BATCH):
                at(done / examples.n, what)
                parts.append(process.predict(inputs)[first])
                done += len(labels)
        stream = io.BytesIO()
        np.save(stream, np.concatenate(parts))
        return stream.getvalue()

    kept = results.cached_file(f"outputs-{key_of(artifact.sha256, task_sha256, what)}.npy", compute)
    outputs: npt.NDArray[Any] = np.load(io.BytesIO(kept), allow_pickle=False)
    return outputs


def parity_of(artifact: Artifact, reference: Outputs, outputs: Outputs, reference_name: str) -> Parity:
    """The outputs of a converted or quantized model against its reference's, with the tolerance of its precision."""
    from convert.parity import TOLERANCES, compare

    # train.joint names the pass that quantizes among its transforms
    quantized = [name for step in artifact.steps for name in re.findall(r"quantize\.(\w+)", step)]
    scale = artifact.outputs[0].quantization
    return compare(
        reference,
        outputs,
        quantization_scale=None if scale is None else scale.scale,
        tolerance=TOLERANCES[quantized[-1] if quantized else "float32"],
        name=reference_name,
    )


def doubt_about(metric: Metric, accuracy: Accuracy, labels: npt.NDArray[Any]) -> str | None:
    """Why a classifier's accuracy says that its inputs or classes are not what it was trained on; None where not.

    The yardstick is the share of the most frequent class: naming it always is right as often.
    """
    if metric.name != "accuracy":
        return None
    _, counts = np.unique(labels, return_counts=True)
    most = float(counts.max() / counts.sum())
    if accuracy.value > most:
        return None
    return (
        f"the float32 model is right on {accuracy.value:.1%} of {accuracy.split}, the most frequent class alone on "
        f"{most:.1%}: check the range of its pixels (--pixels) and the order of its classes"
    )


def paired_drop(
    metric: Metric,
    baseline: npt.NDArray[Any],
    candidate: npt.NDArray[Any],
    examples: Examples,
    max_drop: float,
    seed: int,
    confirmed: int = 1,
) -> Drop:
    """The drop by the accuracy gate, in the unit of the report: percentage points where the gate has fractions.

    `confirmed` is how many candidates are confirmed on these examples.
    """
    from edgetool.verify.accuracy_gate import drop

    factor = 100.0 if metric.drop_unit == "points" else 1.0
    found = drop(metric, baseline, candidate, examples.labels(), max_drop / factor, examples.groups, seed, confirmed)
    low, high = found.ci95
    return replace(
        found,
        value=found.value * factor,
        upper95=found.upper95 * factor,
        ci95=(low * factor, high * factor),
        upper_of_all=None if found.upper_of_all is None else found.upper_of_all * factor,
    )
