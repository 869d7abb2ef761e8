"""Every pass, in one literal table. A pass turns one model file into another; conversion is a pass.

The algorithms live in `compress` and `convert`, which know models and batches; here they meet the task.
"""

import dataclasses
from typing import Any

from edge.artifact import Format
from edge.errors import BadRecipe, UnknownName
from edgetool.passes.channels import ChannelPrune
from edgetool.passes.clustering import ClusterWeights
from edgetool.passes.conversions import ConvertLiteRT, ConvertONNX
from edgetool.passes.distillation import DistillHints, DistillLogits, DistillRelational
from edgetool.passes.entropy import EntropyCluster
from edgetool.passes.int4 import Int4
from edgetool.passes.joint import Joint
from edgetool.passes.learned_steps import LearnedSteps
from edgetool.passes.lowrank import LowRankSVD
from edgetool.passes.mixed import MixedPrecision
from edgetool.passes.post_training import Dynamic, Float16, Int8, Int16x8
from edgetool.passes.pruning import BlockPrune, MagnitudePrune, NMPrune, TaylorPrune
from edgetool.passes.quantization_aware import QuantizationAware
from edgetool.passes.repair import AdaRound, CorrectBias, Equalize
from edgetool.passes.step import KERAS, Pass

PASSES: dict[str, type[Any]] = {
    kind.name: kind
    for kind in (
        ConvertLiteRT,
        ConvertONNX,
        Float16,
        Dynamic,
        Int8,
        Int16x8,
        Int4,
        MixedPrecision,
        Equalize,
        CorrectBias,
        AdaRound,
        ClusterWeights,
        QuantizationAware,
        LearnedSteps,
        MagnitudePrune,
        TaylorPrune,
        NMPrune,
        BlockPrune,
        DistillLogits,
        DistillHints,
        DistillRelational,
        Joint,
        ChannelPrune,
        LowRankSVD,
        EntropyCluster,
    )
}  # fmt: skip


def pass_from_settings(name: str, given: dict[str, Any]) -> Pass:
    """The pass called `name` with its settings checked by name and type.

    Raises UnknownName (with the nearest names) or BadRecipe (a value of the wrong type or out of range).
    """
    if name not in PASSES:
        raise UnknownName("pass", name, PASSES)
    fields = {field.name: field for field in dataclasses.fields(PASSES[name])}
    for key, value in given.items():
        if key not in fields:
            raise UnknownName(f"setting of {name}", key, fields)
        default = fields[key].default
        if isinstance(default, tuple):
            entries: type[Any] = dict if key in getattr(PASSES[name], "parts", ()) else str
            if not isinstance(value, (list, tuple)) or not all(isinstance(entry, entries) for entry in value):
                raise BadRecipe(
                    f"{name}: {key} must be a list of {'texts' if entries is str else 'tables'}, not {value!r}"
                )
            given = {**given, key: tuple(value)}
            continue
        kind = float if isinstance(default, float) else type(default)
        if not isinstance(value, (int, float) if kind is float else kind) or isinstance(value, bool) != (kind is bool):
            raise BadRecipe(f"{name}: {key} must be of type {kind.__name__}, not {value!r}")
    made: Pass = PASSES[name](**given)
    return made


def default_sequences(source: Format) -> tuple[tuple[Pass, ...], ...]:
    """What is tried when the user names no passes: every post-training treatment the format allows, on each engine."""
    post_training: tuple[Pass, ...] = (Float16(), Dynamic(), Int8(), Int16x8())
    direct = tuple((step,) for step in post_training)
    if source not in KERAS:
        return direct
    return direct + tuple((ConvertONNX(), step) for step in (Dynamic(), Int8()))


def check_sequence(source: Format, sequence: tuple[Pass, ...]) -> Format:
    """The format that comes out of `sequence` for a model in format `source`.

    Raises BadRecipe naming the first pass that does not take what reaches it, and what it does take.
    """
    current = source
    for step in sequence:
        if current not in step.accepts:
            able = ", ".join(sorted(step.accepts))
            raise BadRecipe(f"{step.name} cannot treat a {current} model", f"{step.name} takes: {able}")
        current = step.produces(current)
    return current
