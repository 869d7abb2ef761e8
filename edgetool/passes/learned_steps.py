"""Learned step size quantization: int8 training for recurrent, attention and embedding layers."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edge.artifact import Artifact, Format
from edge.errors import BadRecipe, CheckFailed
from edgetool.passes.recovery import recover
from edgetool.passes.step import KEPT, TRAINABLE, PassResult, all_positive, label, needed, one_of, write_model
from edgetool.progress import At
from edgetool.task import Batch, Task, batches

if TYPE_CHECKING:
    from compress.quantize.lsq.graph import Graph

CALIBRATION_BATCH = 64
GOLDEN = 8  # examples on which the one-step form is held against the form for sequences


@dataclass(frozen=True)
class LearnedSteps:
    """Steps of all weights and activations are learned with the weights; GRU, LSTM and attention become int8.

    They start from `samples` training examples. What comes out is a .tflite whose weights, matrix products and gates
    are int8, or with `format` "onnx" a QDQ .onnx with weights in 8 bits. `streaming` adds the one-step form of a
    recurrent model to the .tflite, for `python -m edge run --stream`.
    """

    name: ClassVar[str] = "quantize.lsq"
    accepts: ClassVar[frozenset[Format]] = TRAINABLE
    samples: int = 256
    epochs: int = 3
    learning_rate: float = 1e-3
    batch_size: int = 64
    format: str = "tflite"
    streaming: bool = False

    def __post_init__(self) -> None:
        all_positive(self, "samples", "epochs", "learning_rate", "batch_size")
        one_of(self.name, "format", self.format, ("tflite", "onnx"))
        if self.streaming and self.format != "tflite":
            raise BadRecipe(f"{self.name}: an .onnx has no one-step form", 'leave out streaming, or format = "onnx"')

    def produces(self, source: Format) -> Format:
        return "onnx" if self.format == "onnx" else "tflite"

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        from compress.quantize.lsq.one_step import one_step
        from compress.training import FineTune
        from convert.load import load_keras

        task = needed(task, self.name)
        source = load_keras(artifact.path, trust=trust)
        progress(0.0, f"calibrating on {min(self.samples, task.train.n)} training examples")
        drawn = np.random.default_rng(seed).permutation(task.train.n)[: self.samples]
        examples = (inputs for inputs, _ in batches(task.train, CALIBRATION_BATCH, drawn))
        model, graph = twin(source, artifact, examples)
        if self.streaming:
            one_step(graph)  # says before the training whether there is one
        tune = FineTune(self.epochs, self.learning_rate, self.batch_size, seed)
        said = recover(model, task, tune, workdir / KEPT, progress)
        progress(1.0, "writing the integer model")
        written = self.write(model, graph, artifact, task, workdir, label(self))
        return PassResult(written.artifact, (*said, *written.skipped))

    def write(self, model: Any, graph: "Graph", source: Artifact, task: Task, workdir: Path, step: str) -> PassResult:
        """The file of a trained twin in the form that the settings ask for, its one-step form checked on `val`."""
        form = self.produces(source.format)
        written = write_integer(model, graph, source, workdir, step, form, streaming=self.streaming)
        if self.streaming:
            (golden, _), *_ = batches(task.val, GOLDEN, np.arange(min(GOLDEN, task.val.n)))
            same_step_by_step(written.artifact.path.read_bytes(), golden)
        return written


def twin(source: Any, artifact: Artifact, examples: Iterable[Batch]) -> "tuple[Any, Graph]":
    """The model that computes on grids and shares the weights of `source`, and its graph; calibrated on `examples`."""
    from compress.quantize.lsq.fake import calibrate, fake_quantized
    from compress.quantize.lsq.lowering import lower

    graph = lower(source)
    names = [spec.name for spec in artifact.inputs]
    ordered = (dict(zip(graph.inputs, (one[name] for name in names), strict=True)) for one in examples)
    return fake_quantized(source, graph, calibrate(graph, ordered)), graph


def write_integer(
    model: Any,
    graph: "Graph",
    source: Artifact,
    workdir: Path,
    step: str,
    form: Format,
    *,
    streaming: bool = False,
) -> PassResult:
    """The integer .tflite or .onnx of a trained twin; `step` is what made it of `source`.

    Raises:
        CheckFailed: `streaming` asks for a one-step form and there is none, with the layer and the reason.

    """
    from compress.quantize.litert_model import stayed_float as stayed_float_litert
    from compress.quantize.lsq.fake import learned
    from compress.quantize.lsq.one_step import one_step
    from compress.quantize.lsq.to_litert import to_litert
    from compress.quantize.lsq.to_onnx import to_onnx
    from compress.quantize.onnx_model import stayed_float

    inputs, outputs = ([spec.name for spec in specs] for specs in (source.inputs, source.outputs))
    if form == "tflite":
        data = to_litert(graph, learned(model), inputs, outputs, one_step(graph) if streaming else None)
        skipped = stayed_float_litert(data, "8 bits are too coarse for it, or its integer kernel is slower than float")
    else:
        data = to_onnx(graph, learned(model), inputs, outputs)
        skipped = stayed_float(
            data, "it computes in float between integers: ONNX has it in pieces or in no integer form"
        )
    return PassResult(write_model(data, source, workdir, form, step), skipped)


def same_step_by_step(data: bytes, examples: Batch) -> None:
    """Hold the one-step form of a .tflite against its form for whole sequences: the last answers are bit-equal.

    Raises:
        CheckFailed: an answer differs.

    """
    from edge.engines import open_engine
    from edge.streaming import open_step, steps

    whole, step = open_engine(data, "tflite"), open_step(data, "tflite")
    for row in range(len(next(iter(examples.values())))):
        example = {spec.name: np.asarray(examples[spec.name][row], spec.dtype) for spec in whole.inputs}
        *_, last = steps(step, example)
        for name, wanted in whole.run({key: values[None] for key, values in example.items()}).items():
            ends = wanted[:, -1:] if wanted.ndim == last[name].ndim and wanted.shape != last[name].shape else wanted
            if not np.array_equal(ends, last[name]):
                worst = float(np.abs(ends - last[name]).max())
                raise CheckFailed(
                    f"step by step, output {name!r} differs by {worst:.3g} from that of the whole sequence"
                )
    whole.close()
    step.close()
