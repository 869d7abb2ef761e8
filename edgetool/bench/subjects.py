"""The models that are benchmarked: files and bundles, described without running them."""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from convert.census import census
from convert.cost import count
from convert.flatbuffer import DTYPES, read_flatbuffer
from convert.load import describe, read_onnx
from edge.artifact import gzip_bytes, sha256_of
from edge.bench_report import BenchModel
from edge.bundle import open_bundle
from edge.engines.feeds import fixed
from edge.errors import BadModel
from edge.preprocess import Preprocess
from edge.report import from_plain
from edge.tensors import Array, TensorSpec
from edgetool.doctor.advice import made_for

EXAMPLES = 32
FORMATS = {".tflite": "tflite", ".onnx": "onnx", ".fake": "fake"}
# TensorType of the .tflite schema -> the name; 17 is INT4, which numpy does not know
TFLITE_TYPES = {**DTYPES, 17: "int4"}
# TensorProto.DataType of ONNX: what weights come in
ONNX_TYPES = {1: "float32", 2: "uint8", 3: "int8", 10: "float16", 16: "bfloat16", 21: "uint4", 22: "int4"}


@dataclass(frozen=True)
class Subject:
    """One model to time, and the inputs on which delegates are compared: `examples` [n, ...] by input.

    `told` says what those inputs are. `steps_of_outputs` is one step of a quantized output in real units, by output,
    where the output is quantized inside the model. `preprocess` is what a bundle does to raw data, empty for a file.
    `compiled` says that the file is made for one accelerator, so that no CPU can say what is right.
    """

    model: BenchModel
    path: Path
    examples: Mapping[str, Array]
    told: str
    steps_of_outputs: Mapping[str, float]
    preprocess: Mapping[str, Preprocess]
    compiled: bool = False

    @property
    def name(self) -> str:
        """The name in tables."""
        return self.model.name


def subjects(files: Sequence[Path], data: str | None, seed: int, scratch: Path) -> tuple[Subject, ...]:
    """Every file described; names are the file's, longer where two files have the same.

    Raises:
        BadInput: a file that no engine runs, a damaged one, or data that do not fit the model.

    """
    return tuple(
        _subject(file, name, data, seed, scratch / str(number))
        for number, (file, name) in enumerate(zip(files, _names(files), strict=True))
    )


def _names(files: Sequence[Path]) -> list[str]:
    short = Counter(file.name for file in files)
    return [file.name if short[file.name] == 1 else str(file) for file in files]


def _subject(file: Path, name: str, data: str | None, seed: int, scratch: Path) -> Subject:
    if not file.is_file():
        raise BadModel(f"no model at {file}", "give .tflite, .onnx or .edge files")
    suffix = file.suffix.lower()
    if suffix == ".edge":
        return _bundled(file, name, data, seed, scratch)
    if suffix not in FORMATS:
        raise BadModel(
            f"{file} cannot be timed: no engine runs {suffix or 'such files'}",
            "edgetool convert makes a .tflite or .onnx of it",
        )
    return _plain(file, name, FORMATS[suffix], data, seed, file)


def _bundled(file: Path, name: str, data: str | None, seed: int, scratch: Path) -> Subject:
    bundle = open_bundle(file)
    scratch.mkdir(parents=True)
    path = scratch / bundle.manifest.model
    path.write_bytes(bundle.model)
    plain = _plain(path, name, bundle.manifest.format, data, seed, file)
    if data is None:
        told = f"{len(next(iter(bundle.golden.inputs.values())))} golden vectors of the bundle"
        plain = dataclasses.replace(plain, examples=bundle.golden.inputs, told=told)
    return dataclasses.replace(plain, preprocess=bundle.preprocess)


def _plain(path: Path, name: str, model_format: str, data: str | None, seed: int, shown: Path) -> Subject:
    inputs, outputs = _specs(path, model_format)
    params, macs, precision = None, None, None
    steps: dict[str, float] = {}
    if model_format == "tflite":
        params, macs = count(path, "tflite")
        precision = _tflite_precision(read_flatbuffer(path))
    elif model_format == "onnx":
        params, macs = count(path, "onnx")
        precision, steps = _onnx_precision(read_onnx(path))
    examples, told = _examples(inputs, outputs, data, seed)
    model = BenchModel(
        name=name,
        file=str(shown),
        format=model_format,
        sha256=sha256_of(path),
        size_bytes=path.stat().st_size,
        gzip_bytes=gzip_bytes(path),
        params=params,
        macs=macs,
        precision=precision,
        inputs=inputs,
        outputs=outputs,
    )
    compiled = model_format != "fake" and made_for(census(path, model_format).operations) is not None
    return Subject(model, path, examples, told, steps, {}, compiled)


def _specs(path: Path, model_format: str) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    if model_format != "fake":
        artifact = describe(path)
        return artifact.inputs, artifact.outputs
    from edge.engines.fake import FakeModel

    try:
        fake: FakeModel = from_plain(FakeModel, json.loads(path.read_text()))
    except (ValueError, TypeError, AttributeError) as error:
        raise BadModel(f"{path} is no fake model: {error}") from None
    return fake.inputs, fake.outputs


def _examples(
    inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], data: str | None, seed: int
) -> tuple[Mapping[str, Array], str]:
    if data is not None:
        from edgetool.data.load import load_task
        from edgetool.judge import golden_inputs

        task = load_task(data, inputs=inputs, outputs=outputs, seed=seed)
        drawn = golden_inputs(task.test, seed, EXAMPLES)
        return drawn, f"{len(next(iter(drawn.values())))} test examples of {task.name}"
    one = tuple(dataclasses.replace(s, shape=(s.shape[0] or 1, *s.shape[1:])) if s.shape else s for s in inputs)
    if any(not spec.shape for spec in one):
        raise BadModel(f"input {next(s.name for s in one if not s.shape)!r} is a scalar: no examples can be stacked")
    seeded = [fixed(one, seed + k) for k in range(EXAMPLES)]
    stacked = {spec.name: np.concatenate([feeds[spec.name] for feeds in seeded]) for spec in one}
    return stacked, f"{EXAMPLES} seeded random inputs"


def _tflite_precision(model: Any) -> str:
    """The type of most weights and, where it is another one, of most activations: `int8`, `int8 weights, float32`."""
    weights: Counter[str] = Counter()
    activations: Counter[str] = Counter()
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            kind = TFLITE_TYPES.get(tensor.type, f"type {tensor.type}")
            data = model.buffers[tensor.buffer].data
            if data is None or len(data) == 0:
                activations[kind] += 1
            elif kind not in ("int32", "int64"):  # biases and shapes
                weights[kind] += int(prod(tensor.shape)) if tensor.shape is not None else 1
    return _worded(weights, activations)


def _worded(weights: Counter[str], activations: Counter[str]) -> str:
    most = [counted.most_common(1)[0][0] if counted else "no" for counted in (weights, activations)]
    return most[0] if most[0] == most[1] else f"{most[0]} weights, {most[1]} activations"


def _onnx_precision(model: Any) -> tuple[str, dict[str, float]]:
    """As `_tflite_precision`, and one step of every output that a DequantizeLinear makes."""
    graph = model.graph
    values = {tensor.name: tensor for tensor in graph.initializer}
    weights = Counter[str]()
    for tensor in graph.initializer:
        if tensor.data_type in ONNX_TYPES and len(tensor.dims) > 1:
            weights[ONNX_TYPES[tensor.data_type]] += int(prod(tensor.dims))
    kinds = Counter(node.op_type for node in graph.node)
    quantized = kinds["QuantizeLinear"] + kinds["QLinearConv"] > kinds["DynamicQuantizeLinear"]
    inside = next(iter(weights.most_common(1)), ("no", 0))[0] if quantized else "float32"
    if inside == "no" or (not quantized and "float16" in weights):
        inside = "float16" if "float16" in weights else "float32"
    return _worded(weights, Counter({inside: 1})), _steps(graph, values)


def _steps(graph: Any, values: Mapping[str, Any]) -> dict[str, float]:
    from onnx import numpy_helper

    made = {output: node for node in graph.node for output in node.output}
    steps = {}
    for output in graph.output:
        node = made.get(output.name)
        scale = values.get(node.input[1]) if node is not None and node.op_type == "DequantizeLinear" else None
        if scale is not None and prod(scale.dims) == 1:
            steps[output.name] = float(np.asarray(numpy_helper.to_array(scale)).reshape(()))
    return steps
