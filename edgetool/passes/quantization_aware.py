"""Quantization-aware training to int8, through tensorflow-model-optimization and the bridge to tf_keras."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from edge.artifact import Artifact, Format
from edge.errors import CheckFailed
from edgetool.passes.step import TRAINABLE, PassResult, all_positive, label, needed, write_model
from edgetool.progress import At
from edgetool.task import Task, batches

RANGE_BATCHES, RANGE_BATCH = 8, 64


@dataclass(frozen=True)
class QuantizationAware:
    """The model is trained with rounded weights and activations, and becomes an int8 .tflite.

    With `keep_structure` the zeros and shared values that its kernels come with survive into the file, or the pass
    fails: after prune.magnitude it is PQAT, after cluster.weights CQAT, after both PCQAT.
    """

    name: ClassVar[str] = "quantize.qat"
    accepts: ClassVar[frozenset[Format]] = TRAINABLE | {"h5"}
    keep_structure: bool = True
    epochs: int = 2
    learning_rate: float = 1e-3
    batch_size: int = 128

    def __post_init__(self) -> None:
        all_positive(self, "epochs", "learning_rate", "batch_size")

    def produces(self, source: Format) -> Format:
        return "tflite"

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        from compress.quantize.litert_model import count_ops, stayed_float
        from compress.quantize.qat import fake_quantize, kernels, measure_ranges, require_survival, structures
        from compress.shared_values import Keeper
        from compress.training import FineTune
        from convert.to_litert import to_litert
        from edgetool.passes.tf_keras_fit import fit, load_pair

        task = needed(task, self.name)
        progress(0.0, "crossing to tf_keras")
        pair = load_pair(artifact.path, trust=trust)
        quantized = fake_quantize(pair.tf_keras)
        model = quantized.model
        kept = structures(model) if self.keep_structure else {}
        keeper = Keeper(kernels(model) if self.keep_structure else ())
        progress(0.0, "measuring activation ranges")
        drawn = np.random.default_rng(seed).permutation(task.train.n)[: RANGE_BATCHES * RANGE_BATCH]
        measure_ranges(model, list(batches(task.train, RANGE_BATCH, drawn)))
        tune = FineTune(self.epochs, self.learning_rate, self.batch_size, seed)
        said = fit(model, pair.output, task, tune, progress, keeper.keep)
        progress(1.0, "converting to int8")
        # "dynamic" is the converter without calibration: the ranges stand in the model
        tflite = to_litert(model, "dynamic", None)
        if count_ops(tflite).quantized == 0:
            raise CheckFailed(f"{self.name}: no operation of the file computes in integers", "use quantize.int8")
        require_survival(kept, model, tflite)
        left = stayed_float(tflite, "its layer was not trained for int8, or what feeds it was not")
        made = write_model(tflite, artifact, workdir, "tflite", label(self))
        return PassResult(made, (*quantized.skipped, *left, *said))
