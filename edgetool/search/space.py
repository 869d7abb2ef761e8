"""What a search chooses from: axes of passes, and only those that the model's layers and the target allow."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from edge.artifact import Format
from edge.errors import BadRecipe
from edge.target import Target
from edgetool.passes import check_sequence, pass_from_settings
from edgetool.passes.step import KERAS, Pass, label

Choice = tuple[Pass, ...]
Point = tuple[int, ...]

# Keras layers that tell what a model is made of
DENSE = frozenset({"Dense", "EinsumDense"})
CONVOLUTION = frozenset({"Conv1D", "Conv2D", "SeparableConv1D", "SeparableConv2D"})
SEQUENCE = frozenset({"GRU", "LSTM", "MultiHeadAttention"})
# Rolled recurrent layers crash TensorFlow's int8 calibration; quantize.lsq is their way to integers
RECURRENT = frozenset({"GRU", "LSTM"})
# LiteRT has no fast kernels for it: running one on val takes ten times as long as the others, so it waits
SLOW = frozenset({"quantize.int16x8"})


@dataclass(frozen=True)
class Axis:
    """One decision. `choices` are sequences of passes from mild to strong; an empty one leaves the model as it is."""

    name: str
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class Space:
    """All that may be tried: one choice of every axis, in the order of the axes."""

    source: Format
    axes: tuple[Axis, ...]

    @property
    def size(self) -> int:
        """How many points there are, those included that fit no engine."""
        return prod(len(axis.choices) for axis in self.axes)

    def sequence(self, point: Point) -> Choice:
        """The passes of a point, in order."""
        chosen = (axis.choices[index] for axis, index in zip(self.axes, point, strict=True))
        return tuple(itertools.chain.from_iterable(chosen))

    def points(self) -> Iterator[Point]:
        """Every point, the last axis fastest."""
        return itertools.product(*(range(len(axis.choices)) for axis in self.axes))

    def start(self) -> tuple[Point, ...]:
        """What is tried first: every choice of the last axis with the model as it is, since that needs no training."""
        still = (0,) * (len(self.axes) - 1)
        choices = self.axes[-1].choices
        order = sorted(range(len(choices)), key=lambda index: any(step.name in SLOW for step in choices[index]))
        return tuple((*still, index) for index in order)


def space_for(source: Format, layers: Mapping[str, int], target: Target) -> Space:
    """The space of a model with these layers (Keras) or operations, for a target.

    Raises BadRecipe where the target's engines run nothing that can be made of it.
    """
    axes = []
    if source == "keras":
        axes = [Axis("shrink", _shrinking(layers)), Axis("sparsify", _sparsifying(layers))]
    axes.append(Axis("quantize", _quantizing(source, layers, target)))
    return Space(source, tuple(axis for axis in axes if len(axis.choices) > 1 or axis.name == "quantize"))


def trained(sequence: Sequence[Pass]) -> bool:
    """Whether any pass of a sequence trains."""
    return any(_epochs(step) for step in sequence)


def shortened(sequence: Choice, fraction: float) -> Choice:
    """The same passes with that fraction of their epochs, at least one where there were any."""
    return tuple(
        dataclasses.replace(step, epochs=max(1, round(_epochs(step) * fraction))) if _epochs(step) else step  # type: ignore[type-var]  # every pass is a dataclass, which a Protocol cannot say
        for step in sequence
    )


def label_of(sequence: Sequence[Pass]) -> str:
    """A sequence as people read it."""
    return " -> ".join(map(label, sequence)) or "the model as it is"


def _epochs(step: Pass) -> int:
    epochs: int = getattr(step, "epochs", 0)
    return epochs


def _shrinking(layers: Mapping[str, int]) -> tuple[Choice, ...]:
    choices: list[Choice] = [()]
    if layers.keys() & (DENSE | CONVOLUTION):
        choices += [_one("prune.channel", macs=macs) for macs in (0.75, 0.5, 0.35)]
    return tuple(choices)


def _sparsifying(layers: Mapping[str, int]) -> tuple[Choice, ...]:
    choices: list[Choice] = [()]
    if layers.keys() & (DENSE | CONVOLUTION):
        choices += [_one("prune.magnitude", sparsity=sparsity) for sparsity in (0.5, 0.8)]
    return tuple(choices)


def _quantizing(source: Format, layers: Mapping[str, int], target: Target) -> tuple[Choice, ...]:
    lite = [("quantize.float16",), ("quantize.dynamic",), ("quantize.int16x8",), ("quantize.int8",), ("quantize.int4",)]
    open_neural = [("quantize.dynamic",), ("quantize.int8",)]
    if layers.keys() & RECURRENT:
        lite = [("quantize.float16",), ("quantize.dynamic",)]
    if layers.keys() & SEQUENCE and source == "keras":
        lite.append(("quantize.lsq",))
    choices: list[Choice] = []
    if (source in KERAS and "litert" in target.engines) or source == "tflite":
        choices += [_named(names) for names in lite]
    if source in KERAS and "onnxruntime" in target.engines:
        choices += [_named(("convert.onnx", *names)) for names in open_neural]
    elif source == "onnx":
        choices += [_named(names) for names in [("quantize.float16",), *open_neural]]
    usable = tuple(choice for choice in choices if _fits(source, choice))
    if not usable:
        raise BadRecipe(f"no engine of {target.name} runs what can be made of a {source} model", "see edgetool targets")
    return usable


def _fits(source: Format, choice: Choice) -> bool:
    try:
        check_sequence(source, choice)
    except BadRecipe:
        return False
    return True


def _named(names: Sequence[str]) -> Choice:
    return tuple(pass_from_settings(name, {}) for name in names)


def _one(name: str, **settings: Any) -> Choice:
    return (pass_from_settings(name, settings),)
