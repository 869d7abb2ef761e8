"""Learned step size quantization: int8 training for recurrent, attention and embedding layers."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edge.artifact import Artifact, Format
from edgetool.passes.recovery import recover
from edgetool.passes.step import TRAINABLE, PassResult, all_positive, label, needed, one_of, write_model
from edgetool.progress import At
from edgetool.results import KEPT
from edgetool.task import Batch, Task, batches

if TYPE_CHECKING:
    from compress.quantize.lsq.graph import Graph

CALIBRATION_BATCH = 64


@dataclass(frozen=True)
class LearnedSteps:
    """Steps of all weights and activations are learned with the weights; GRU, LSTM and attention become int8.

    They start from `samples` training examples. What comes out is a .tflite that computes in integers throughout, or
    with `format` "onnx" a QDQ .onnx with weights in 8 bits.
    """

    name: ClassVar[str] = "quantize.lsq"
    accepts: ClassVar[frozenset[Format]] = TRAINABLE
    samples: int = 256
    epochs: int = 3
    learning_rate: float = 1e-3
    batch_size: int = 64
    format: str = "tflite"

    def __post_init__(self) -> None:
        all_positive(self, "samples", "epochs", "learning_rate", "batch_size")
        one_of(self.name, "format", self.format, ("tflite", "onnx"))

    def produces(self, source: Format) -> Format:
        return "onnx" if self.format == "onnx" else "tflite"

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        from compress.training import FineTune
        from convert.load import load_keras

        task = needed(task, self.name)
        source = load_keras(artifact.path, trust=trust)
        progress(0.0, f"calibrating on {min(self.samples, task.train.n)} training examples")
        drawn = np.random.default_rng(seed).permutation(task.train.n)[: self.samples]
        examples = (inputs for inputs, _ in batches(task.train, CALIBRATION_BATCH, drawn))
        model, graph = twin(source, artifact, examples)
        tune = FineTune(self.epochs, self.learning_rate, self.batch_size, seed)
        said = recover(model, task, tune, workdir / KEPT, progress)
        progress(1.0, "writing the integer model")
        written = write_integer(model, graph, artifact, workdir, label(self), self.produces(artifact.format))
        return PassResult(written.artifact, (*said, *written.skipped))


def twin(source: Any, artifact: Artifact, examples: Iterable[Batch]) -> "tuple[Any, Graph]":
    """The model that computes on grids and shares the weights of `source`, and its graph; calibrated on `examples`."""
    from compress.quantize.lsq.fake import calibrate, fake_quantized
    from compress.quantize.lsq.lowering import lower

    graph = lower(source)
    names = [spec.name for spec in artifact.inputs]
    ordered = (dict(zip(graph.inputs, (one[name] for name in names), strict=True)) for one in examples)
    return fake_quantized(source, graph, calibrate(graph, ordered)), graph


def write_integer(model: Any, graph: "Graph", source: Artifact, workdir: Path, step: str, form: Format) -> PassResult:
    """The integer .tflite or .onnx of a trained twin; `step` is what made it of `source`."""
    from compress.quantize.lsq.fake import learned
    from compress.quantize.lsq.to_litert import to_litert
    from compress.quantize.lsq.to_onnx import to_onnx
    from compress.quantize.onnx_model import stayed_float

    names = [[spec.name for spec in specs] for specs in (source.inputs, source.outputs)]
    if form == "tflite":
        return PassResult(write_model(to_litert(graph, learned(model), *names), source, workdir, form, step))
    data = to_onnx(graph, learned(model), *names)
    return PassResult(
        write_model(data, source, workdir, form, step),
        stayed_float(data, "it computes in float between integers: ONNX has it in pieces or in no integer form"),
    )
