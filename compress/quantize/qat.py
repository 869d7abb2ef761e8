"""Quantization-aware training to int8: while it is trained, the model computes with rounded weights and activations.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018
(arXiv:1712.05877), section 3: q(x) = round((clamp(x, a, b) - a) / s) s + a with s = (b - a) / 255 in the forward pass,
and the identity in the backward pass. The fake-quantized layers are those of tensorflow-model-optimization.

It starts every activation at the range [-6, 6] and moves it by a thousandth of the way in a step, so that a short
training ends with ranges that fit nothing: here they are measured on examples first (`measure_ranges`).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.shared_values import Structure, structure, survived
from compress.tf_keras_training import call, feeds, load_tfmot
from compress.training import Batch
from edge.errors import CheckFailed
from edge.quiet import quiet
from edge.report import Skipped

NAME = "quantize.qat"
EMA = 0.999  # of tensorflow-model-optimization's moving ranges
# An activation behind clipped ones is seen too small until those have their ranges: again, but not for ever.
MOST_ROUNDS = 20
SETTLED = 0.01
INT8 = 9  # TensorType of the schema
Weights = npt.NDArray[Any]


@dataclass(frozen=True)
class FakeQuantized:
    """A tf_keras model that computes as its int8 file will, to be trained.

    Attributes:
        model: with tensorflow-model-optimization's wrappers.
        skipped: layers that stay float, and why.

    """

    model: Any
    skipped: tuple[Skipped, ...]


def fake_quantize(model: Any) -> FakeQuantized:
    """Wrap every layer of a tf_keras model (no models within) that tensorflow-model-optimization can quantize.

    Raises:
        CheckFailed: it can quantize none that has weights.

    """
    load_tfmot()
    reasons = {layer.name: _why_not(layer) for layer in model.layers}
    left = {name: reason for name, reason in reasons.items() if reason is not None}
    while True:
        chosen = {name for name in reasons if name not in left}
        if not any(layer.name in chosen and layer.weights for layer in model.layers):
            why = "; ".join(f"{name}: {reason}" for name, reason in left.items())
            raise CheckFailed(f"{NAME} has nothing to quantize in model {model.name!r}: {why}", "leave the pass out")
        ranged = {layer.name for layer in model.layers if layer.name in left and _plain(layer)}
        try:
            made = _wrapped(model, chosen, ranged)
            break
        except (RuntimeError, ValueError) as error:
            # what it can quantize depends on the neighbours, and only its message says which layer it was
            found = re.search(r"Layer (\S+?):<class '\S*?(\w+)'>", str(error))
            if found is None or found[1] not in chosen:
                raise CheckFailed(
                    f"{NAME}: tensorflow-model-optimization refused model {model.name!r}: {str(error)[:200]}",
                    "use quantize.int8",
                ) from error
            left[found[1]] = f"tensorflow-model-optimization cannot quantize this {found[2]} where it stands"
    return FakeQuantized(made, tuple(Skipped(f"{NAME}: {name}", reason) for name, reason in left.items()))


def measure_ranges(model: Any, batches: Sequence[Batch]) -> int:
    """Set the activation ranges of a fake-quantized model from batches of examples; returns the rounds it took.

    k steps of the moving range v <- d v + (1 - d) m leave v_k = d^k v_0 + (1 - d^k) M, with M a mean of what was seen:
    M = (v_k - d^k v_0) / (1 - d^k), the correction of Adam's moments (arXiv:1412.6980, section 3). The range of an
    input is the extremes that were seen. Weights and normalization statistics stay as they were.
    """
    import tensorflow as tf

    inputs = {id(v) for layer in model.layers if type(layer).__name__ == "QuantizeLayer" for v in layer.variables}
    ends = [v for v in model.variables if v.name.partition(":")[0].endswith(("_min", "_max"))]
    for variable in ends:
        if id(variable) in inputs:
            variable.assign(np.zeros_like(variable.numpy()))
    ranges = [v for v in ends if id(v) not in inputs and "kernel_m" not in v.name]
    known = {id(v) for v in ends}
    others = [(v, v.numpy()) for v in model.non_trainable_variables if id(v) not in known]
    forward = tf.function(lambda tensors: call(model, tensors, training=True), reduce_retracing=True)
    seen = [feeds(model, batch) for batch in batches]
    decay = EMA ** len(batches)
    rounds = 0
    for rounds in range(1, MOST_ROUNDS + 1):  # noqa: B007 -- returned
        start = [v.numpy() for v in ranges]
        for tensors in seen:
            forward(tensors)
            for variable, value in others:
                variable.assign(value)
        moved = 0.0
        for variable, before in zip(ranges, start, strict=True):
            after = (variable.numpy() - decay * before) / (1 - decay)
            variable.assign(after)
            moved = max(moved, float(np.max(np.abs(after - before) / (np.abs(before) + 1e-6))))
        if moved < SETTLED:
            break
    return rounds


def kernels(model: Any) -> list[Any]:
    """The weights of a fake-quantized model that its int8 file rounds: kernels, of two dimensions or more."""
    return list({id(v): v for v in model.trainable_variables if len(v.shape) > 1}.values())


def structures(model: Any) -> dict[str, Structure]:
    """The zeros and shared values of each kernel that has some, by the name of its variable."""
    found = {v.name: structure(v.numpy()) for v in kernels(model)}
    return {name: entry for name, entry in found.items() if entry.any}


def require_survival(before: dict[str, Structure], model: Any, tflite: bytes) -> None:
    """Hold the zeros and shared values of the kernels in the integer file against those of the model.

    Raises:
        CheckFailed: a kernel of the file has fewer zeros or more values in a channel than it had, or is not in it.

    """
    constants = list(_integer_constants(tflite))
    for variable in kernels(model):
        if variable.name not in before:
            continue
        reason = _lost(before[variable.name], variable.numpy(), constants)
        if reason is not None:
            raise CheckFailed(f"{NAME}: the .tflite lost the structure of {variable.name}: {reason}")


def as_channels_last(stored: Weights, kernel: Weights) -> Weights | None:
    """A constant of the .tflite in the layout of a Keras kernel, or None where the shapes are not those of one layer.

    Dense [in, out] is stored [out, in], Conv2D [h, w, in, out] [out, h, w, in] and depthwise [h, w, in, m]
    [1, h, w, in m].
    """
    if kernel.ndim == 2 and stored.shape == kernel.shape[::-1]:
        return np.asarray(stored.T)
    if kernel.ndim == 4 and stored.shape == (kernel.shape[3], *kernel.shape[:3]):
        return np.asarray(np.transpose(stored, (1, 2, 3, 0)))
    if kernel.ndim == 4 and stored.shape == (1, *kernel.shape[:2], kernel.shape[2] * kernel.shape[3]):
        return np.asarray(stored[0])
    return None


def _lost(before: Structure, kernel: Weights, constants: list[Weights]) -> str | None:
    found = [laid for stored in constants if (laid := as_channels_last(stored, kernel)) is not None]
    if not found:
        return "the file has no integer weights of its shape"
    # a folded batch normalization scales channels, so they are compared by their shape, each over its largest
    wanted = _shape_of(kernel.reshape(found[0].shape))
    nearest = min(found, key=lambda laid: float(np.abs(_shape_of(laid) - wanted).sum()))
    return survived(before, nearest)


def _shape_of(weights: Weights) -> Weights:
    size = np.abs(weights.astype(np.float64))
    peak = size.max(axis=tuple(range(size.ndim - 1)), keepdims=True)
    return np.asarray(size / np.where(peak > 0, peak, 1))


def _integer_constants(tflite: bytes) -> Iterator[Weights]:
    from compress.quantize.litert_model import read_model

    model = read_model(tflite)
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            data = model.buffers[tensor.buffer].data
            if tensor.type == INT8 and data is not None and len(data):
                yield np.frombuffer(bytes(data), np.int8).reshape(tensor.shape)


def _wrapped(model: Any, chosen: set[str], ranged: set[str]) -> Any:
    """The layers `chosen` quantized, and the outputs of those `ranged`, so that what follows them can be."""
    import tf_keras

    tfmot = load_tfmot()
    annotate = tfmot.quantization.keras.quantize_annotate_layer
    output_only = _output_only()

    def mark(layer: Any) -> Any:
        copy = type(layer).from_config(layer.get_config())
        if layer.name in ranged:
            return annotate(copy, output_only())
        return annotate(copy) if layer.name in chosen else copy

    scope = tfmot.quantization.keras.quantize_scope({output_only.__name__: output_only})
    with quiet(), scope:
        annotated = tf_keras.models.clone_model(model, clone_function=mark)
        annotated.set_weights(model.get_weights())
        # without a prefix the file's inputs and outputs keep the model's names
        return tfmot.quantization.keras.quantize_apply(annotated, quantized_layer_name_prefix="")


@lru_cache(maxsize=1)
def _output_only() -> Any:
    """How tensorflow-model-optimization is told to compute a layer in float and to quantize what it gives."""
    tfmot = load_tfmot()
    keras = tfmot.quantization.keras

    class OutputOnly(keras.QuantizeConfig):  # type: ignore[misc, name-defined]  # it is untyped
        def get_weights_and_quantizers(self, _layer: Any) -> list[Any]:
            return []

        def get_activations_and_quantizers(self, _layer: Any) -> list[Any]:
            return []

        def set_quantize_weights(self, _layer: Any, _weights: Any) -> None:
            """There are none."""

        def set_quantize_activations(self, _layer: Any, _activations: Any) -> None:
            """There are none."""

        def get_output_quantizers(self, _layer: Any) -> list[Any]:
            return [
                keras.quantizers.MovingAverageQuantizer(num_bits=8, per_axis=False, symmetric=False, narrow_range=False)
            ]

        def get_config(self) -> dict[str, Any]:
            return {}

    return OutputOnly


def _plain(layer: Any) -> bool:
    """Whether a layer is called once, with one tensor, and gives one: only then can its output be wrapped."""
    nodes = layer._inbound_nodes  # noqa: SLF001 -- tf_keras has no public way to ask
    if len(nodes) != 1 or type(layer).__name__.endswith("OpLambda"):
        return False
    return len(nodes[0].keras_inputs) == 1 and hasattr(nodes[0].outputs, "shape") and len(nodes[0].call_args) == 1


def _why_not(layer: Any) -> str | None:
    """Why a layer stays float; None where it is tried."""
    import tf_keras
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import default_8bit_quantize_registry

    kinds = tf_keras.layers
    registry = default_8bit_quantize_registry.Default8BitQuantizeRegistry()
    if isinstance(layer, kinds.InputLayer):
        return None
    if len(layer._inbound_nodes) > 1:  # noqa: SLF001 -- tf_keras has no public way to ask
        return "it is used more than once, and its activations have a range in each place"
    if isinstance(layer, kinds.BatchNormalization):
        return None if _folds(layer) else "a batch normalization is quantized only right behind a convolution"
    if isinstance(layer, kinds.SeparableConv1D | kinds.SeparableConv2D) or registry.supports(layer):
        return None
    return f"tensorflow-model-optimization cannot quantize a {type(layer).__name__}"


def _folds(layer: Any) -> bool:
    """Whether a batch normalization stands right behind the only layer that it could be folded into."""
    import tf_keras

    kinds = tf_keras.layers
    before = layer._inbound_nodes[0].inbound_layers  # noqa: SLF001 -- as above
    foldable = (kinds.Conv2D, kinds.DepthwiseConv2D, kinds.Dense, kinds.SeparableConv1D, kinds.SeparableConv2D)
    return isinstance(before, foldable) and len(before._outbound_nodes) == 1  # noqa: SLF001 -- as above
