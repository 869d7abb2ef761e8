"""Weight clustering, through tensorflow-model-optimization and the bridge to tf_keras."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edge.artifact import Artifact, Format
from edge.errors import BadRecipe
from edgetool.passes.step import TRAINABLE, PassResult, all_positive, label, needed, one_of, write_keras
from edgetool.progress import At
from edgetool.task import Task

INITS = ("linear", "density_based", "kmeans_plus_plus", "random")


@dataclass(frozen=True)
class ClusterWeights:
    """Each kernel is left with `clusters` distinct values; buys packed bytes, not time.

    `layers` names those to cluster, separated by spaces (empty: all that can be). `per_channel` counts for each
    output channel of a Conv2D alone. Zeros stay zeros with `preserve_sparsity`. `depthwise` kernels are left alone
    unless asked for.
    """

    name: ClassVar[str] = "cluster.weights"
    accepts: ClassVar[frozenset[Format]] = TRAINABLE | {"h5"}
    clusters: int = 16
    init: Literal["linear", "density_based", "kmeans_plus_plus", "random"] = "kmeans_plus_plus"
    per_channel: bool = False
    preserve_sparsity: bool = True
    depthwise: bool = False
    layers: str = ""
    epochs: int = 2
    learning_rate: float = 1e-3
    batch_size: int = 128

    def __post_init__(self) -> None:
        one_of(self.name, "init", self.init, INITS)
        all_positive(self, "epochs", "learning_rate", "batch_size")
        least = 3 if self.preserve_sparsity else 2
        if self.clusters < least:
            raise BadRecipe(f"{self.name}: clusters must be at least {least}, not {self.clusters}")

    def produces(self, source: Format) -> Format:
        return "keras"

    def __call__(
        self, artifact: Artifact, task: Task | None, workdir: Path, *, seed: int, trust: bool, progress: At
    ) -> PassResult:
        from compress.cluster.weights import WeightClustering, cluster, strip
        from compress.training import FineTune
        from convert.bridge.crossing import copy_weights
        from edgetool.passes.tf_keras_fit import fit, load_pair

        task = needed(task, self.name)
        settings = WeightClustering(
            self.clusters,
            self.init,
            self.per_channel,
            self.preserve_sparsity,
            self.depthwise,
            tuple(self.layers.split()) or None,
        )
        progress(0.0, "crossing to tf_keras")
        pair = load_pair(artifact.path, trust=trust)
        clustered = cluster(pair.tf_keras, settings)
        tune = FineTune(self.epochs, self.learning_rate, self.batch_size, seed)
        said = fit(clustered.model, pair.output, task, tune, progress)
        copy_weights(strip(clustered, settings), pair.keras)
        made = write_keras(pair.keras, artifact, workdir, label(self), trust=trust)
        return PassResult(made, (*clustered.skipped, *said))
