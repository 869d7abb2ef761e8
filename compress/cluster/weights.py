"""Weight clustering: each kernel is left with a few distinct values, which are trained on.

Han, Mao and Dally, "Deep Compression: Compressing Deep Neural Networks with Pruning, Trained Quantization and Huffman
Coding", 2016 (arXiv:1510.00149), section 3, by tensorflow-model-optimization: a weight is its nearest centroid,
w_ij = c_k with k = argmin |v_ij - c_k|, and a centroid moves by the sum of its weights' gradients.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from compress.tf_keras_training import load_tfmot
from edge.errors import CheckFailed, UnknownName
from edge.quiet import quiet
from edge.report import Skipped

NAME = "cluster.weights"
Init = Literal["linear", "density_based", "kmeans_plus_plus", "random"]


@dataclass(frozen=True)
class WeightClustering:
    """How many values, and where they start.

    Attributes:
        clusters: distinct values of a kernel at the end (of each channel of a Conv2D with `per_channel`).
        init: evenly between the extremes, evenly over the weights, k-means++, or uniformly at random.
        per_channel: a Conv2D kernel has its own values for each output channel, which an int8 file with one scale per
            channel keeps without loss.
        preserve_sparsity: zeros stay zeros; one of the values is 0.
        depthwise: depthwise kernels too, which tensorflow-model-optimization leaves alone by itself.
        layers: names of the layers to cluster; None is all that can be.

    """

    clusters: int = 16
    init: Init = "kmeans_plus_plus"
    per_channel: bool = False
    preserve_sparsity: bool = True
    depthwise: bool = False
    layers: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        least = 3 if self.preserve_sparsity else 2
        if self.clusters < least:
            raise ValueError(f"clusters must be at least {least}, not {self.clusters}")
        if self.init not in get_args(Init):
            raise ValueError(f"init must be one of {', '.join(get_args(Init))}, not {self.init!r}")


@dataclass(frozen=True)
class Clustered:
    """A tf_keras model whose kernels are clustered at every call, to be trained and then stripped.

    Attributes:
        model: with tensorflow-model-optimization's wrappers.
        zeros: fraction of zeros in each kernel before, by the name of its layer: the layers that are clustered.
        skipped: weights that are left alone, and why.

    """

    model: Any
    zeros: dict[str, tuple[float, ...]]
    skipped: tuple[Skipped, ...]


def cluster(model: Any, settings: WeightClustering) -> Clustered:
    """Wrap the layers of a tf_keras model (functional or Sequential, no models within) so that they are clustered.

    Raises:
        CheckFailed: no layer can be clustered.
        UnknownName: one of `settings.layers` is no layer with weights.

    """
    import tf_keras

    tfmot = load_tfmot()
    # its public namespace lacks the form that knows sparsity and channels
    from tensorflow_model_optimization.python.core.clustering.keras.experimental.cluster import cluster_weights

    known = {layer.name for layer in model.layers if layer.weights}
    for name in settings.layers or ():
        if name not in known:
            raise UnknownName("layer with weights", name, known)
    reasons = {layer.name: _why_not(layer, settings) for layer in model.layers if layer.weights}
    chosen = tuple(name for name, reason in reasons.items() if reason is None)
    skipped = tuple(Skipped(f"{NAME}: {name}", reason) for name, reason in reasons.items() if reason is not None)
    if not chosen:
        why = "; ".join(f"{entry.what.removeprefix(f'{NAME}: ')}: {entry.reason}" for entry in skipped)
        raise CheckFailed(
            f"{NAME} has nothing to cluster in model {model.name!r}: {why or 'it has no weights'}", "leave the pass out"
        )
    depthwise = _clusterable_depthwise()
    centroids = tfmot.clustering.keras.CentroidInitialization[settings.init.upper()]

    def wrap(layer: Any) -> Any:
        if layer.name not in chosen:
            return layer
        if type(layer) is tf_keras.layers.DepthwiseConv2D:
            weights, shape = layer.get_weights(), layer.input_shape
            layer = depthwise.from_config(layer.get_config())
            layer.build(shape)
            layer.set_weights(weights)
        return cluster_weights(
            layer,
            settings.clusters,
            centroids,
            preserve_sparsity=settings.preserve_sparsity and any(zeros[layer.name]),
            cluster_per_channel=settings.per_channel,
        )

    zeros = {name: tuple(_zeros(kernel) for kernel in _kernels(model.get_layer(name))) for name in chosen}
    with quiet():
        wrapped = tf_keras.models.clone_model(model, clone_function=wrap)
    return Clustered(wrapped, zeros, skipped)


def strip(clustered: Clustered, settings: WeightClustering) -> Any:
    """The trained model without the wrappers, its kernels holding the centroids.

    Raises:
        CheckFailed: a kernel has more values than asked for, or (with `preserve_sparsity`) fewer zeros than before.

    """
    tfmot = load_tfmot()
    with quiet():
        model = tfmot.clustering.keras.strip_clustering(clustered.model)
    for name, zeros in clustered.zeros.items():
        for variable, before in zip(_kernels(model.get_layer(name)), zeros, strict=True):
            _check(name, variable.numpy(), before, settings)
    return model


def _check(name: str, weights: Any, before: float, settings: WeightClustering) -> None:
    per_channel = settings.per_channel and weights.ndim == 4  # a Conv2D kernel is [h, w, in, out]
    limit = settings.clusters * (weights.shape[-1] if per_channel else 1)
    found = np.unique(weights).size
    if found > limit:
        raise CheckFailed(f"{NAME} left {found} values in {name}, not {limit}", "lower the learning rate")
    zeros = float(np.mean(weights == 0))
    if settings.preserve_sparsity and zeros < before:
        raise CheckFailed(
            f"{NAME} left {zeros:.1%} zeros in {name}, {before:.1%} before",
            "lower the learning rate",
        )


def _why_not(layer: Any, settings: WeightClustering) -> str | None:
    """Why a layer with weights is not clustered; None where it is."""
    if settings.layers is not None and layer.name not in settings.layers:
        return "not among the layers that the recipe names"
    if not layer.trainable_weights:
        return "it is not trained"
    reason = _why_not_kind(layer, settings)
    if reason is not None:
        return reason
    smallest = min((_fewest(kernel.numpy(), layer, settings) for kernel in _kernels(layer)), default=0)
    if smallest <= settings.clusters:
        return f"it has {smallest} weights for {settings.clusters} values"
    return None


def _why_not_kind(layer: Any, settings: WeightClustering) -> str | None:
    import tf_keras
    from tensorflow_model_optimization.python.core.clustering.keras.clustering_registry import ClusteringRegistry

    layers = tf_keras.layers
    if type(layer) is layers.DepthwiseConv2D and not settings.depthwise:
        return "depthwise kernels are few values and lose accuracy: depthwise = true clusters them"
    if isinstance(layer, layers.BatchNormalization | layers.LayerNormalization):
        return "normalization parameters are a few values a channel"
    if not ClusteringRegistry.supports(layer):
        return f"tensorflow-model-optimization cannot cluster a {type(layer).__name__}"
    return None


def _fewest(kernel: Any, layer: Any, settings: WeightClustering) -> int:
    """The weights that share one set of values; where zeros stay, those of the rarer sign."""
    import tf_keras

    alone = settings.per_channel and isinstance(layer, tf_keras.layers.Conv2D)
    parts = kernel.reshape(-1, kernel.shape[-1]).T if alone else [kernel]
    if settings.preserve_sparsity and np.any(kernel == 0):
        return min(int(min(np.sum(part > 0), np.sum(part < 0))) for part in parts)
    return min(int(part.size) for part in parts)


def _kernels(layer: Any) -> list[Any]:
    """The variables of a layer that clustering changes, found by their names."""
    ends = ("kernel", "embeddings")
    named = [(v.name.partition(":")[0].rsplit("/", 1)[-1], v) for v in layer.weights]
    separable = any(name == "pointwise_kernel" for name, _ in named)
    return [v for name, v in named if name.endswith(ends) and not (separable and name == "depthwise_kernel")]


def _zeros(kernel: Any) -> float:
    return float(np.mean(kernel.numpy() == 0))


def _clusterable_depthwise() -> Any:
    """DepthwiseConv2D as tensorflow-model-optimization lets a layer say itself what of it is clustered."""
    import tf_keras

    tfmot = load_tfmot()

    class ClusterableDepthwise(tf_keras.layers.DepthwiseConv2D, tfmot.clustering.keras.ClusterableLayer):  # type: ignore[misc, name-defined]  # both are untyped
        def get_clusterable_weights(self) -> list[tuple[str, Any]]:
            return [("depthwise_kernel", self.depthwise_kernel)]

        def get_clusterable_algorithm(self, weight_name: str) -> None:
            """None is the usual one."""
            del weight_name

    return ClusterableDepthwise
