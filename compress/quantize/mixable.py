"""A float model whose layers can be given a precision each, whatever its format."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from compress.quantize import Quantized
from edge.report import Skipped

Precision = Literal["int8", "int16x8", "float32"]
# The narrowest first: bits of a weight and of an activation.
BITS: dict[Precision, tuple[int, int]] = {"int8": (8, 8), "int16x8": (8, 16), "float32": (32, 32)}
PRECISIONS: tuple[Precision, ...] = tuple(BITS)
Chosen = Mapping[str, Precision]


@dataclass(frozen=True)
class Layer:
    """An operation with constant weights; each of its `channels` has a bias and a scale. `macs` is None if unknown."""

    name: str
    kind: str
    weights: int
    channels: int
    macs: int | None = None

    def bit_operations(self, precision: Precision) -> int:
        """Multiply-accumulates x bits of a weight x bits of an activation; each weight counts once at least."""
        weight_bits, activation_bits = BITS[precision]
        return max(self.macs or 0, self.weights) * weight_bits * activation_bits

    def size_bytes(self, precision: Precision) -> int:
        """The bytes of its constants, about: biases are int32, int64 under 16-bit activations, scales float32."""
        if precision == "float32":
            return 4 * (self.weights + self.channels)
        return self.weights + (4 if precision == "int8" else 8) * self.channels + 4 * self.channels


@dataclass(frozen=True)
class Mixable:
    """A float model and what makes a quantized one of it, given the precision of every layer by its name.

    `model` is the float model that the layers' names belong to. `build` raises BadModel where the quantizer refuses.
    `skipped` are operations with weights that can only stay float.
    """

    model: bytes
    format: Literal["tflite", "onnx"]
    layers: tuple[Layer, ...]
    precisions: tuple[Precision, ...]
    build: Callable[[Chosen], Quantized]
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True)
class Operation:
    """One operation of a graph, in the order they run: its name, and the tensors it reads and makes."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def follow(operations: Sequence[Operation], chosen: Chosen) -> dict[str, Precision]:
    """The precision of every operation by name, where only those of the layers are `chosen`.

    An operation without weights computes in the widest precision of what it reads, so that nothing is narrowed between
    two layers; one that reads only inputs of the model in the widest of what reads it.
    """
    made: dict[str, Precision] = {}
    found: dict[str, Precision] = dict(chosen)
    for operation in operations:
        if operation.name not in found:
            read = [made[tensor] for tensor in operation.inputs if tensor in made]
            if read:
                found[operation.name] = _widest(read)
        if operation.name in found:
            made |= dict.fromkeys(operation.outputs, found[operation.name])
    readers: dict[str, list[Precision]] = {}
    for operation in reversed(operations):
        if operation.name not in found:
            after = [precision for tensor in operation.outputs for precision in readers.get(tensor, [])]
            found[operation.name] = _widest(after) if after else "float32"
        for tensor in operation.inputs:
            readers.setdefault(tensor, []).append(found[operation.name])
    return found


def _widest(precisions: Sequence[Precision]) -> Precision:
    return max(precisions, key=PRECISIONS.index)
