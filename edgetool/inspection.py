"""What is in a model file: `edgetool inspect`."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from edge.artifact import Artifact, gzip_bytes
from edge.bundle import MODEL_NAMES, open_bundle
from edge.errors import BadModel
from edge.report import Placement, to_json
from edge.runtime_process import RuntimeProcess
from edge.tensors import TensorSpec
from edgetool.conversion_worker import ConversionWorker, describe_model, load_source, model_operations
from edgetool.data.load import require_data
from edgetool.passes.step import KERAS
from edgetool.progress import At, Progress
from edgetool.recipe import TaskSource
from edgetool.sensitivity import SensitivityReport, sensitivity_report
from edgetool.units import format_bytes


@dataclass(frozen=True)
class Inspection:
    """What is in a model file. `placement` is None for formats that no engine runs as they are, and for files that the
    runtime refuses: `refused` has its reason then. `made_for` says what a compiled file is made for and where it runs;
    `bundle` what a bundle says of itself.
    """

    path: str
    format: str
    sha256: str
    size_bytes: int
    gzip_bytes: int
    params: int | None
    macs: int | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operations: dict[str, int]
    placement: Placement | None
    refused: str | None = None
    made_for: str | None = None
    bundle: str | None = None

    def as_json(self) -> str:
        """The same as JSON."""
        return to_json(self).rstrip()

    def as_text(self) -> str:
        """One fact a line."""
        lines = [
            f"model       {self.path}",
            *([] if self.bundle is None else [f"bundle      {self.bundle}"]),
            f"format      {self.format}, {format_bytes(self.size_bytes)}, {format_bytes(self.gzip_bytes)} gzipped",
            f"parameters  {'unknown' if self.params is None else format(self.params, ',')}",
            f"MACs        {'unknown' if self.macs is None else format(self.macs, ',')} per example",
            *(f"input       {_spec_words(spec)}" for spec in self.inputs),
            *(f"output      {_spec_words(spec)}" for spec in self.outputs),
            f"operations  {', '.join(f'{count} {name}' for name, count in self.operations.items())}",
        ]
        if self.made_for is not None:
            lines.append(f"made for    {self.made_for}")
        if self.placement is not None:
            at = self.placement
            lines.append(f"placement   {at.ops_offloaded} of {at.ops_total} operations on {at.actual}")
            lines += [f"            not {op.op}: {op.reason}" for op in at.fallback_ops]
        if self.refused is not None:
            lines.append(f"placement   none on this machine's CPU: {self.refused}")
        return "\n".join(lines)


def inspect_model(path: Path, trust: bool, progress: Progress) -> Inspection:
    """Everything the file or bundle says, and where its operations run on this machine's CPU.

    Raises BadInput: the file cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="edgetool-") as scratch, ConversionWorker() as worker:
        file, bundle = path, None
        if path.suffix == ".edge":
            opened = open_bundle(path)
            file = Path(scratch) / MODEL_NAMES[opened.manifest.format]
            file.write_bytes(opened.model)
            says = opened.manifest
            bundle = f"{says.name}, made for {says.target}, task {says.task}, steps {' -> '.join(says.steps) or 'none'}"
        artifact, params, macs = worker.call(describe_model, file, trust, False, progress=progress.at)
        operations = worker.call(model_operations, artifact, trust, progress=progress.at)
        placement = refused = made = None
        if artifact.format not in KERAS:
            made = _made_for(file, artifact.format)
            try:
                with RuntimeProcess() as process:
                    placement = process.load(artifact.path, artifact.format).placement
            except BadModel as error:
                refused = error.message
        return Inspection(
            str(path), artifact.format, artifact.sha256, artifact.size_bytes, gzip_bytes(artifact.path),
            params, macs, artifact.inputs, artifact.outputs, operations, placement, refused, made, bundle,
        )  # fmt: skip


def inspect_sensitivity(path: Path, source: TaskSource, trust: bool, progress: Progress) -> SensitivityReport:
    """How much each layer's precision changes a float model on the data: measured once, then read from the cache.

    Raises:
        BadInput: the model or the data cannot be read or do not fit each other, or the model is quantized already.
        CheckFailed: it has no layer that could be quantized.

    """
    require_data(source.data)
    with ConversionWorker() as worker:
        artifact, _, _ = worker.call(describe_model, path, trust, progress=progress.at)
        return worker.call(_measured, artifact, source, trust, progress=progress.at)


def _measured(artifact: Artifact, source: TaskSource, trust: bool, *, progress: At) -> SensitivityReport:
    task = load_source(source, artifact)
    return sensitivity_report(str(artifact.path), artifact, task, seed=source.seed, trust=trust, progress=progress)


def _made_for(path: Path, model_format: str) -> str | None:
    from convert.census import census
    from edgetool.doctor.advice import made_for

    made = made_for(census(path, model_format).operations)
    return None if made is None else made[0]


def _spec_words(spec: TensorSpec) -> str:
    shape = ", ".join("any" if length is None else str(length) for length in spec.shape)
    affine = (
        "" if spec.quantization is None else f", {spec.quantization.scale:.4g} (q - {spec.quantization.zero_point})"
    )
    return f"{spec.name}: {spec.dtype} [{shape}]{affine}"
