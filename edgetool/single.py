"""Single steps of the main job on one model: convert, evaluate."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edge.artifact import Artifact
from edge.durable import write_whole
from edge.errors import BadInput, BadRecipe, CheckFailed, UnknownName
from edge.report import Accuracy, to_json
from edge.runtime_process import RuntimeProcess
from edgetool.conversion_worker import (
    ConversionWorker,
    describe_model,
    load_source,
    reference_outputs,
    run_pass,
)
from edgetool.data.load import require_data
from edgetool.judge import BATCH, Outputs, doubt_about, golden_inputs, parity_of, run_on
from edgetool.metrics import metric as metric_named
from edgetool.passes import check_sequence, pass_from_settings
from edgetool.passes.step import KERAS, Pass, label
from edgetool.progress import Progress
from edgetool.recipe import TaskSource
from edgetool.render.words import accuracy_words
from edgetool.task import Task, batches
from edgetool.units import format_bytes
from edgetool.workspace import require_writable

PRECISIONS = ("float32", "float16", "dynamic", "int8", "int16x8")


@dataclass(frozen=True)
class Evaluation:
    """The metric of one model on one split."""

    model: str
    task: str
    accuracy: Accuracy
    doubt: str | None = None

    def as_json(self) -> str:
        """The same as JSON."""
        return to_json(self).rstrip()

    def as_text(self) -> str:
        """One line, and another where the figure says that something is wrong with the inputs."""
        text = f"{self.task}: {self.accuracy.metric} {accuracy_words(self.accuracy)}, n = {self.accuracy.n:,}"
        return text if self.doubt is None else f"{text}\nwarning: {self.doubt.replace('float32 model', 'model')}"


def convert_model(
    path: Path,
    *,
    to: str,
    precision: str,
    data: str | None,
    pixels: str | None = None,
    out: Path | None,
    batch_1: bool = False,
    seed: int,
    trust: bool,
    progress: Progress,
) -> str:
    """Convert, prove parity in the runtime that will run the file, and write it; returns a sentence on it.

    Raises:
        BadInput: the model, the data or the combination of format and precision cannot be used.
        CheckFailed: the converted model does not say the same; nothing is written.

    """
    if to not in ("tflite", "onnx"):
        raise UnknownName("format to convert to", to, ("tflite", "onnx", "qnn", "ethos-u", "rknn"))
    if precision not in PRECISIONS:
        raise UnknownName("precision", precision, PRECISIONS)
    if data is not None:
        require_data(data)
    elif precision in ("int8", "int16x8"):
        raise BadRecipe(f"{precision} needs data to calibrate on", "add --data FOLDER, .npz, .csv, task.py or a name")
    written = out if out is not None else _beside(path, to, precision)
    if written.is_dir():
        raise BadInput(f"the output {written} is a folder", "give a file with --out")
    require_writable(written)
    source = TaskSource(data, pixels=pixels, seed=seed) if data is not None else None
    with ConversionWorker() as worker, tempfile.TemporaryDirectory() as scratch:
        artifact, _, _ = worker.call(describe_model, path, trust, progress=progress.at)
        sequence = _steps(artifact, to, precision, batch_1=batch_1)
        current = artifact
        for number, step in enumerate(sequence):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            current = worker.call(run_pass, step, current, source, folder, seed, trust, progress=progress.at).artifact
        golden = _golden(artifact, source, seed)
        reference = (
            worker.call(reference_outputs, artifact, golden, trust, progress=progress.at)
            if artifact.format in KERAS
            else run_on(artifact, golden)
        )
        parity = parity_of(current, reference, run_on(current, golden), artifact.format)
        if parity.first_divergence is not None:
            raise CheckFailed(
                f"the converted model differs at output {parity.first_divergence!r} by {parity.max_abs:.3g}",
                "nothing was written; convert to float32 to see whether the conversion or the precision does it",
            )
        written.parent.mkdir(parents=True, exist_ok=True)
        write_whole(written, current.path.read_bytes())
    on = "data" if source is not None else "synthetic inputs (no data was given)"
    return (
        f"{written}: {format_bytes(written.stat().st_size)}, {' -> '.join(map(label, sequence))}; "
        f"largest difference {parity.max_abs:.3g} on {parity.n} {on}"
    )


def evaluate_model(path: Path, source: TaskSource, *, split: str, trust: bool, progress: Progress) -> Evaluation:
    """The metric with its interval; a Keras model runs in Keras, the others on their engine.

    Raises BadInput: the model or the data cannot be used.
    """
    from edgetool.verify.accuracy_gate import interval

    if split not in ("val", "test"):
        raise UnknownName("split", split, ("val", "test"))
    require_data(source.data)
    if source.metric is not None:
        metric_named(source.metric)
    with ConversionWorker() as worker:
        artifact, _, _ = worker.call(describe_model, path, trust, progress=progress.at)
        task = load_source(source, artifact)
        outputs = _outputs(artifact, task, split, trust, worker, progress)
    examples = task.val if split == "val" else task.test
    value, ci95 = interval(task.metric, outputs, examples.labels(), groups=examples.groups, seed=source.seed)
    chosen: Literal["val", "test"] = "val" if split == "val" else "test"
    accuracy = Accuracy(task.metric.name, value, examples.n, chosen, ci95)
    return Evaluation(str(path), task.name, accuracy, doubt_about(task.metric, accuracy, examples.labels()))


def _steps(artifact: Artifact, to: str, precision: str, *, batch_1: bool) -> tuple[Pass, ...]:
    if batch_1 and (artifact.format, to) != ("tflite", "onnx"):
        raise BadRecipe(f"--batch-1 is from .tflite to onnx, and this is from {artifact.format} to {to}")
    quantize = () if precision == "float32" else (pass_from_settings(f"quantize.{precision}", {}),)
    if artifact.format == to:
        if not quantize:
            raise BadRecipe(f"{artifact.path} is .{to} already", "name another --precision")
        return quantize
    if to == "onnx":
        steps: tuple[Pass, ...] = (pass_from_settings("convert.onnx", {"batch_1": batch_1}), *quantize)
    else:
        steps = quantize or (pass_from_settings("convert.litert", {}),)
    if artifact.format == "onnx":
        from convert.to_onnx import refuse_onnx_to_litert

        refuse_onnx_to_litert(artifact.path)
    check_sequence(artifact.format, steps)
    return steps


def _golden(artifact: Artifact, source: TaskSource | None, seed: int) -> Outputs:
    if source is not None:
        return golden_inputs(load_source(source, artifact).val, seed)
    rng = np.random.default_rng(seed)
    golden = {}
    for spec in artifact.inputs:
        shape = (32, *(1 if length is None else length for length in spec.example_shape))
        dtype = np.dtype(spec.dtype)
        whole = np.issubdtype(dtype, np.integer)
        values = rng.integers(0, 2, shape) if whole else rng.standard_normal(shape)
        golden[spec.name] = values.astype(dtype)
    return golden


def _outputs(
    artifact: Artifact, task: Task, split: str, trust: bool, worker: ConversionWorker, progress: Progress
) -> npt.NDArray[Any]:
    examples = task.val if split == "val" else task.test
    first = artifact.outputs[0].name
    parts = []
    with RuntimeProcess() as process:
        if artifact.format not in KERAS:
            process.load(artifact.path, artifact.format)
        for number, (inputs, _) in enumerate(batches(examples, BATCH)):
            progress.at(number * BATCH / examples.n, f"{artifact.path.name} on {split}")
            if artifact.format in KERAS:
                parts.append(worker.call(reference_outputs, artifact, inputs, trust)[first])
            else:
                parts.append(process.predict(inputs)[first])
    return np.concatenate(parts)


def _beside(path: Path, to: str, precision: str) -> Path:
    written = path.with_name(f"{path.stem}{'' if precision == 'float32' else '-' + precision}.{to}")
    if written == path:
        raise BadInput(f"{written} would overwrite the model", "give another file with --out")
    return written
