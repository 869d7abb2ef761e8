"""Smaller ONNX files that compute exactly the same."""

from typing import Any

import numpy as np

from compress.quantize.onnx_compact import compact
from tests.compress.quantize.conftest import outputs


def _quantized(onnx: bytes, calibration: Any) -> Any:
    """What ONNX Runtime's own quantizer writes."""
    from onnx import load_from_string

    from compress.quantize.activation_ranges import ActivationRange
    from compress.quantize.onnx_model import preprocess
    from compress.quantize.onnx_static import collect_ranges, rewrite

    ready = preprocess(load_from_string(onnx))
    ranges: dict[str, ActivationRange] = collect_ranges(ready, calibration, with_histogram=False)
    return rewrite(ready, {name: seen.range("minmax") for name, seen in ranges.items()}, "int8", per_channel=True)


def test_an_int8_model_shrinks_and_answers_bit_by_bit_the_same(onnx: bytes, calibration: Any) -> None:
    from onnx import checker
    from onnxruntime.quantization.onnx_model import ONNXModel

    model = _quantized(onnx, calibration)
    ONNXModel(model).topological_sort()
    before = model.SerializeToString()
    names = [node.name for node in model.graph.node if "quantize" not in node.op_type.lower()]
    ends = [value.name for value in (*model.graph.input, *model.graph.output)]
    compact(model)
    checker.check_model(model)
    after = model.SerializeToString()
    assert len(after) < 0.7 * len(before)
    assert np.array_equal(outputs(after, "onnx"), outputs(before, "onnx"))
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ends
    assert [node.name for node in model.graph.node if "quantize" not in node.op_type.lower()] == names
    stored = [tensor.SerializeToString() for tensor in model.graph.initializer]
    assert len(set(stored)) == len(stored)
    compact(model)
    assert model.SerializeToString() == after


def test_names_that_a_branch_reads_stay() -> None:
    from onnx import TensorProto, checker, helper, numpy_helper

    def branch(name: str, constant: str) -> Any:
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, [2])
        return helper.make_graph([helper.make_node("Add", ["doubled_outside", constant], [name])], name, [], [value])

    one, same = (numpy_helper.from_array(np.ones(2, np.float32), name) for name in ("constant_one", "constant_same"))
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["x", "x"], ["doubled_outside"]),
            helper.make_node("If", ["flag"], ["chosen_inside"], then_branch=branch("then_output", "constant_one"),
                             else_branch=branch("else_output", "constant_same")),
            helper.make_node("Mul", ["chosen_inside", "chosen_inside"], ["y"]),
        ],
        "branches",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2]),
         helper.make_tensor_value_info("flag", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        [one, same],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    compact(model)
    checker.check_model(model)
    assert model.graph.node[0].output[0] == "doubled_outside"
    assert model.graph.node[1].output[0] == model.graph.node[2].input[0] == "a"
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": np.array([1, 2], np.float32), "flag": np.array(True)})
    assert y.tolist() == [9, 25]
