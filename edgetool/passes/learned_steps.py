"""Learned step size quantization: int8 training for recurrent, attention and embedding layers."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from edge.artifact import Artifact, Format
from edgetool.passes.recovery import recover
from edgetool.passes.step import TRAINABLE, PassResult, label, needed, positive, write_model
from edgetool.progress import At
from edgetool.task import Task, batches

CALIBRATION_BATCH = 64


@dataclass(frozen=True)
class LearnedSteps:
    """Steps of all weights and activations are learned with the weights; GRU, LSTM and attention become int8.

    They start from `samples` training examples. What comes out is a .tflite that computes in integers throughout.
    """

    name: ClassVar[str] = "quantize.lsq"
    accepts: ClassVar[frozenset[Format]] = TRAINABLE
    samples: int = 256
    epochs: int = 3
    learning_rate: float = 1e-3
    batch_size: int = 64

    def __post_init__(self) -> None:
        for key, value in (
            ("samples", self.samples),
            ("epochs", self.epochs),
            ("learning_rate", self.learning_rate),
            ("batch_size", self.batch_size),
        ):
            positive(self.name, key, value)

    def produces(self, source: Format) -> Format:
        return "tflite"

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        from compress.quantize.lsq.fake import calibrate, fake_quantized, learned
        from compress.quantize.lsq.lowering import lower
        from compress.quantize.lsq.to_litert import to_litert
        from compress.training import FineTune
        from convert.load import load_keras

        task = needed(task, self.name)
        source = load_keras(artifact.path, trust=trust)
        graph = lower(source)
        progress(0.0, f"calibrating on {min(self.samples, task.train.n)} training examples")
        drawn = np.random.default_rng(seed).permutation(task.train.n)[: self.samples]
        names = [spec.name for spec in artifact.inputs]
        examples = (inputs for inputs, _ in batches(task.train, CALIBRATION_BATCH, drawn))
        ordered = (dict(zip(graph.inputs, (one[name] for name in names), strict=True)) for one in examples)
        model = fake_quantized(source, graph, calibrate(graph, ordered))
        said = recover(model, task, FineTune(self.epochs, self.learning_rate, self.batch_size, seed), progress)
        progress(1.0, "writing the integer model")
        data = to_litert(graph, learned(model), names, [spec.name for spec in artifact.outputs])
        return PassResult(write_model(data, artifact, workdir, "tflite", label(self)), said)
