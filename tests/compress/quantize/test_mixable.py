"""The precision of operations without weights, and of layers of a .tflite and an .onnx in any combination."""

from typing import Any

import numpy as np
import pytest

from compress.quantize import litert_mixed, onnx_mixed
from compress.quantize.litert_model import operator_kind, read_model, stored_as
from compress.quantize.mixable import Layer, Operation, Precision, follow
from compress.quantize.onnx_model import count_ops
from edge.errors import BadModel
from tests.compress.quantize.conftest import outputs, sqnr_db


def chain(*names: str) -> list[Operation]:
    return [Operation(name, (f"t{n}",), (f"t{n + 1}",)) for n, name in enumerate(names)]


def test_what_has_no_weights_follows_what_it_reads() -> None:
    found = follow(chain("pad", "conv", "pool", "dense", "softmax"), {"conv": "int16x8", "dense": "int8"})
    # nothing is in front of the first, so it follows what reads it
    assert found == {"pad": "int16x8", "conv": "int16x8", "pool": "int16x8", "dense": "int8", "softmax": "int8"}


def test_a_sum_is_as_wide_as_the_widest_branch() -> None:
    graph = [
        Operation("a", ("x",), ("ya",)),
        Operation("b", ("x",), ("yb",)),
        Operation("add", ("ya", "yb"), ("z",)),
    ]
    branches: dict[Precision, Precision] = {"int8": "int8", "int16x8": "int16x8", "float32": "float32"}
    for other, widest in branches.items():
        assert follow(graph, {"a": "int8", "b": other})["add"] == widest


def test_a_graph_without_layers_stays_float() -> None:
    assert set(follow(chain("pad", "pool"), {}).values()) == {"float32"}


def test_bit_operations_count_each_weight_once_where_macs_are_unknown() -> None:
    assert Layer("table", "GATHER", 100, 0).bit_operations("int8") == 100 * 64
    assert Layer("conv", "CONV_2D", 100, 4, 900).bit_operations("float32") == 900 * 1024


def test_every_layer_of_a_tflite_has_the_precision_it_was_given(litert: bytes, calibration: Any) -> None:
    source = litert_mixed.mixable(litert, calibration)
    kinds = [layer.kind for layer in source.layers]
    assert kinds == ["CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "FULLY_CONNECTED", "FULLY_CONNECTED"]
    names = [layer.name for layer in source.layers]
    given: list[Precision] = ["int8", "float32", "int16x8", "int8", "float32"]
    model = source.build(dict(zip(names, given, strict=True))).model
    assert stored_as(model, "int8") == {"CONV_2D": 2, "FULLY_CONNECTED": 1}
    assert stored_as(model, "float32") == {"DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1}
    parsed = read_model(model)
    graph = parsed.subgraphs[0]
    # tensor types of the schema: float32 is 0, int16 is 7, int8 is 9
    types = [
        graph.tensors[operator.inputs[0]].type
        for operator in graph.operators
        if operator_kind(parsed, operator) in kinds
    ]
    assert types == [9, 0, 7, 9, 0]
    assert sqnr_db(outputs(litert, "tflite"), outputs(model, "tflite")) > 20


def test_a_tflite_with_all_layers_float_is_the_float_model(litert: bytes, calibration: Any) -> None:
    source = litert_mixed.mixable(litert, calibration)
    model = source.build({layer.name: "float32" for layer in source.layers}).model
    np.testing.assert_array_equal(outputs(model, "tflite"), outputs(litert, "tflite"))


def test_only_the_chosen_nodes_of_an_onnx_are_quantized(onnx: bytes, calibration: Any) -> None:
    source = onnx_mixed.mixable(onnx, calibration)
    assert source.precisions == ("int8", "float32")
    everywhere: dict[str, Precision] = {layer.name: "float32" for layer in source.layers}
    plain = source.build(everywhere).model
    assert count_ops(plain).quantized == 0
    last = source.layers[-1].name
    model = source.build({**everywhere, last: "int8"}).model
    assert count_ops(model).quantized == 1
    everything = source.build({layer.name: "int8" for layer in source.layers}).model
    assert count_ops(everything).floating == 0
    wanted = outputs(onnx, "onnx")
    assert sqnr_db(wanted, outputs(model, "onnx")) > sqnr_db(wanted, outputs(everything, "onnx")) > 20


def test_a_quantized_model_is_refused(litert: bytes, calibration: Any) -> None:
    source = litert_mixed.mixable(litert, calibration)
    once = source.build({layer.name: "int8" for layer in source.layers}).model
    with pytest.raises(BadModel, match="quantized already"):
        litert_mixed.mixable(once, calibration)
