"""What a model computes with: its operations (Keras: layers) by type."""

from collections import Counter
from pathlib import Path
from typing import Any

from convert.flatbuffer import read_flatbuffer
from convert.load import load_keras, read_onnx
from edge.artifact import Format


def operations(path: Path, model_format: Format, *, trust: bool = False) -> dict[str, int]:
    """How many operations of each type a model has, the most frequent first; nested Keras models are opened."""
    if model_format == "tflite":
        counts = count_operations(read_flatbuffer(path))
    elif model_format == "onnx":
        counts = Counter(node.op_type for node in read_onnx(path).graph.node)
    else:
        counts = Counter(_layers(load_keras(path, trust=trust)))
    return dict(counts.most_common())


def count_operations(model: Any) -> Counter[str]:
    """How many operations of each type a .tflite model (its `ModelT`) has; custom ones by their own names."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    names = {number: name for name, number in vars(BuiltinOperator).items() if isinstance(number, int)}
    codes = [
        (code.customCode or b"CUSTOM").decode(errors="replace")
        if (kind := max(code.builtinCode, code.deprecatedBuiltinCode)) == BuiltinOperator.CUSTOM
        else names.get(kind, str(kind))
        for code in model.operatorCodes
    ]
    return Counter(codes[operator.opcodeIndex] for graph in model.subgraphs for operator in graph.operators or ())


def _layers(model: Any) -> list[str]:
    nested = [_layers(layer) if hasattr(layer, "layers") else [type(layer).__name__] for layer in model.layers]
    return [name for names in nested for name in names]
