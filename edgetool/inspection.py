"""What is in a model file: `edgetool inspect`."""

from dataclasses import dataclass
from pathlib import Path

from edge.artifact import gzip_bytes
from edge.report import Placement, to_json
from edge.runtime_process import RuntimeProcess
from edge.tensors import TensorSpec
from edgetool.conversion_worker import ConversionWorker, describe_model, model_operations
from edgetool.passes.step import KERAS
from edgetool.progress import Progress
from edgetool.units import format_bytes


@dataclass(frozen=True)
class Inspection:
    """What is in a model file. `placement` is None for formats that no engine runs as they are."""

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

    def as_json(self) -> str:
        """The same as JSON."""
        return to_json(self).rstrip()

    def as_text(self) -> str:
        """One fact a line."""
        lines = [
            f"model       {self.path}",
            f"format      {self.format}, {format_bytes(self.size_bytes)}, {format_bytes(self.gzip_bytes)} gzipped",
            f"parameters  {'unknown' if self.params is None else format(self.params, ',')}",
            f"MACs        {'unknown' if self.macs is None else format(self.macs, ',')} per example",
            *(f"input       {_spec_words(spec)}" for spec in self.inputs),
            *(f"output      {_spec_words(spec)}" for spec in self.outputs),
            f"operations  {', '.join(f'{count} {name}' for name, count in self.operations.items())}",
        ]
        if self.placement is not None:
            at = self.placement
            lines.append(f"placement   {at.ops_offloaded} of {at.ops_total} operations on {at.actual}")
            lines += [f"            not {op.op}: {op.reason}" for op in at.fallback_ops]
        return "\n".join(lines)


def inspect_model(path: Path, trust: bool, progress: Progress) -> Inspection:
    """Everything the file says, and where its operations run on this machine's CPU.

    Raises BadModel: the file cannot be read.
    """
    with ConversionWorker() as worker:
        artifact, params, macs = worker.call(describe_model, path, trust, progress=progress.at)
        operations = worker.call(model_operations, artifact, trust, progress=progress.at)
    placement = None
    if artifact.format not in KERAS:
        with RuntimeProcess() as process:
            placement = process.load(artifact.path, artifact.format).placement
    return Inspection(
        str(path), artifact.format, artifact.sha256, artifact.size_bytes, gzip_bytes(artifact.path),
        params, macs, artifact.inputs, artifact.outputs, operations, placement,
    )  # fmt: skip


def _spec_words(spec: TensorSpec) -> str:
    shape = ", ".join("any" if length is None else str(length) for length in spec.shape)
    affine = (
        "" if spec.quantization is None else f", {spec.quantization.scale:.4g} (q - {spec.quantization.zero_point})"
    )
    return f"{spec.name}: {spec.dtype} [{shape}]{affine}"
