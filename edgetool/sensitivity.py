"""How sensitive each layer of a model is to its precision, on the task's data: measured once, kept, shown.

`quantize.mixed` and `edgetool inspect --sensitivity` share what is kept.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from compress.quantize.mixable import Mixable, Precision
from compress.quantize.sensitivity import Outputs, Sensitivity, measure
from edge.artifact import Artifact
from edge.durable import write_whole
from edge.probe import environment
from edge.report import Skipped, from_plain, to_json
from edgetool.data.fashion_mnist import cache_folder
from edgetool.passes.step import KERAS, calibration_samples
from edgetool.progress import At
from edgetool.results import key_of
from edgetool.task import Task, batches

SAMPLES, EXAMPLES = 512, 256
_VERSION = 1  # of what is kept: another one is measured anew
BAR, QUIET_DB = 40, 60.0  # signs of the longest bar; the SQNR at which there is none


@dataclass(frozen=True)
class PrecisionEffect:
    """One precision of one layer, everything else float. `sqnr_db` is None where no output changes; `drop` is how much
    worse the metric is, in its own unit.
    """

    precision: Precision
    sqnr_db: float | None
    value: float
    drop: float


@dataclass(frozen=True)
class LayerRow:
    """One layer; `macs` is None where they are unknown."""

    layer: str
    kind: str
    weights: int
    macs: int | None
    effects: tuple[PrecisionEffect, ...]


@dataclass(frozen=True)
class SensitivityReport:
    """Every layer that can be given a precision, in the order they run, on `n` examples of val."""

    model: str
    format: str
    metric: str
    drop_unit: str
    value: float
    n: int
    samples: int
    layers: tuple[LayerRow, ...]
    skipped: tuple[Skipped, ...]
    schema: str = field(default="edgetool.sensitivity/1")

    def as_json(self) -> str:
        """The same as JSON."""
        return to_json(self).rstrip()

    def as_text(self) -> str:
        """A row a layer, with a bar for the noise of the narrowest precision: the longer, the more it loses."""
        heads = list(dict.fromkeys(effect.precision for row in self.layers for effect in row.effects))
        titles = " ".join(f"{head:>8} {'drop':>8}" for head in heads)
        lines = [
            f"model       {self.model}",
            f"float       {self.metric} {self.value:.4g} on {self.n:,} examples of val",
            "alone       each layer quantized alone: SQNR of the outputs in dB, and the drop of the metric",
            f"bars        {heads[0]}: none at {QUIET_DB:g} dB or more, {BAR} signs at 0 dB",
            "",
            f"{'':>3} {'layer':<28} {'kind':<18} {'weights':>9} {titles}",
        ]
        for number, row in enumerate(self.layers, 1):
            by = {effect.precision: effect for effect in row.effects}
            cells = " ".join(f"{_db(by.get(head)):>8} {_drop(by.get(head), self.drop_unit):>8}" for head in heads)
            bar = "#" * _bar(by.get(heads[0]))
            words = f"{number:>3} {short_name(row.layer):<28} {row.kind:<18} {row.weights:>9,} {cells}  {bar}"
            lines.append(words.rstrip())
        lines += [f"skipped     {short_name(entry.what)}: {entry.reason}" for entry in self.skipped]
        return "\n".join(lines)


def short_name(layer: str, most: int = 28) -> str:
    """A layer's name as a table has room for it: converters join the names of everything that they fused."""
    name = layer.partition(";")[0]
    return name if len(name) <= most else "..." + name[3 - most :]


def _bar(effect: PrecisionEffect | None) -> int:
    if effect is None or effect.sqnr_db is None:
        return 0
    return round(BAR * min(1.0, max(0.0, 1 - effect.sqnr_db / QUIET_DB)))


def _db(effect: PrecisionEffect | None) -> str:
    if effect is None:
        return "-"
    return "exact" if effect.sqnr_db is None else f"{effect.sqnr_db:.1f}"


def _drop(effect: PrecisionEffect | None, unit: str) -> str:
    if effect is None:
        return "-"
    return {"points": f"{100 * effect.drop:.2f}pp", "relative": f"{100 * effect.drop:.2f}%"}.get(
        unit, f"{effect.drop:.2f}dB"
    )


def mixable(
    artifact: Artifact, task: Task, samples: int, seed: int, *, per_channel: bool = True, trust: bool = False
) -> Mixable:
    """A model whose layers can be given a precision each, calibrated on `samples` training examples.

    A Keras model becomes a .tflite first.

    Raises:
        BadModel: damaged, quantized already, or with loops.
        BadData: the examples do not fit the inputs.

    """
    from compress.quantize import litert_mixed, onnx_mixed
    from convert.load import load_keras, read_onnx
    from convert.to_litert import to_litert

    calibration = calibration_samples(task, samples, seed)
    if artifact.format == "onnx":
        content: bytes = read_onnx(artifact.path).SerializeToString()
        return _with_macs(onnx_mixed.mixable(content, calibration, per_channel=per_channel))
    if artifact.format in KERAS:
        content = to_litert(load_keras(artifact.path, trust=trust), "float32", None)
    else:
        content = artifact.path.read_bytes()
    return _with_macs(litert_mixed.mixable(content, calibration, per_channel=per_channel))


def _with_macs(source: Mixable) -> Mixable:
    macs = _macs(source.model, source.format)
    return replace(source, layers=tuple(replace(layer, macs=macs.get(layer.name)) for layer in source.layers))


def _macs(model: bytes, model_format: str) -> dict[str, int]:
    """The multiply-accumulates of operations by the name of their first output; unknown ones are left out."""
    from convert.cost import onnx_macs, onnx_shapes, tflite_macs
    from convert.flatbuffer import parse_flatbuffer

    if model_format == "onnx":
        import onnx

        parsed = onnx.load_model_from_string(model)
        shapes = onnx_shapes(parsed)
        counted = {node.output[0]: onnx_macs(node, shapes) for node in parsed.graph.node}
        return {name: macs for name, macs in counted.items() if macs is not None}
    flat = parse_flatbuffer(model, "the model")
    graph = flat.subgraphs[0]
    found = {}
    for operator in graph.operators:
        code = flat.operatorCodes[operator.opcodeIndex]
        kind = max(code.builtinCode, code.deprecatedBuiltinCode)
        found[graph.tensors[operator.outputs[0]].name.decode()] = tflite_macs(graph.tensors, operator, kind)
    return found


def runner(source: Mixable, task: Task, examples: int, seed: int) -> tuple[Callable[[bytes], Outputs], Any]:
    """What runs a model on the same `examples` of val each time, one at a time, and their labels."""
    from edge.engines import open_engine, predict

    drawn = np.random.default_rng(seed).permutation(task.val.n)[:examples]
    given = list(batches(task.val, 1, drawn))
    labels = np.concatenate([truth for _, truth in given])

    def run(model: bytes) -> Outputs:
        engine = open_engine(model, source.format)
        rows = [predict(engine, inputs) for inputs, _ in given]
        engine.close()
        return {spec.name: np.concatenate([row[spec.name] for row in rows]) for spec in engine.outputs}

    return run, labels


def kept_sensitivity(
    artifact: Artifact,
    task: Task,
    source: Callable[[], Mixable],
    *,
    samples: int,
    examples: int,
    per_channel: bool,
    seed: int,
    progress: At,
) -> Sensitivity:
    """What is kept of this model, data, settings and versions; measured now where nothing is.

    Raises:
        CheckFailed: no layer can be treated.

    """
    key = key_of(_VERSION, artifact.sha256, task.sha256, samples, examples, per_channel, seed, environment().versions)
    kept = cache_folder() / "sensitivity" / f"{key}.json"
    try:
        found: Sensitivity = from_plain(Sensitivity, json.loads(kept.read_text()))
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        ready = source()
        run, labels = runner(ready, task, examples, seed)
        metric = task.metric
        found = measure(ready, run, lambda outputs: metric.value(next(iter(outputs.values())), labels), progress)
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, to_json(found).encode())
    return found


def sensitivity_report(
    path: str, artifact: Artifact, task: Task, *, seed: int = 0, trust: bool = False, progress: At
) -> SensitivityReport:
    """Everything `inspect --sensitivity` says of a float model, with the default settings of `quantize.mixed`."""

    def source() -> Mixable:
        progress(0.0, "calibrating")
        return mixable(artifact, task, SAMPLES, seed, trust=trust)

    found = kept_sensitivity(
        artifact, task, source, samples=SAMPLES, examples=EXAMPLES, per_channel=True, seed=seed, progress=progress
    )
    metric = task.metric
    rows = tuple(
        LayerRow(
            entry.layer.name,
            entry.layer.kind,
            entry.layer.weights,
            entry.layer.macs,
            tuple(
                PrecisionEffect(e.precision, e.sqnr_db, e.score, metric.drop(found.score, e.score))
                for e in entry.effects
            ),
        )
        for entry in found.layers
    )
    counted = min(EXAMPLES, task.val.n), min(SAMPLES, task.train.n)
    return SensitivityReport(
        path, artifact.format, metric.name, metric.drop_unit, found.score, *counted, rows, found.skipped
    )
