"""`edgetool inspect` says what is in a file, also in one that no runtime here takes."""

from pathlib import Path

import flatbuffers
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper

from convert.flatbuffer import read_flatbuffer
from edge.errors import BadModel
from edgetool.inspection import inspect_model
from edgetool.progress import Silent
from tests import models
from tests.conftest import REPOSITORY

TINY = REPOSITORY / "tests/edge/data"


def inspect(path: Path):
    return inspect_model(path, False, Silent())


def with_custom_operation(name: str, path: Path) -> Path:
    """tiny_int8.tflite with all of its operations in one custom operation, as a compiler leaves it."""
    model = read_flatbuffer(TINY / "tiny_int8.tflite")
    graph = model.subgraphs[0]
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM, schema.BuiltinOperator.CUSTOM
    code.customCode = name
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, graph.inputs, graph.outputs
    model.operatorCodes, graph.operators = [code], [operator]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


@pytest.mark.parametrize(
    ("name", "words"),
    [("ethos-u", "Arm Ethos-U"), ("edgetpu-custom-op", "Coral's Edge TPU")],
)
def test_a_compiled_tflite_says_what_it_is_for(name: str, words: str, tmp_path: Path) -> None:
    found = inspect(with_custom_operation(name, tmp_path / "compiled.tflite"))
    assert words in str(found.made_for)
    assert found.placement is None
    assert found.refused
    assert found.operations == {name: 1}
    assert "made for" in found.as_text()
    assert f"none on this machine's CPU: {found.refused}" in found.as_text()


def test_an_unknown_operation_is_named(tmp_path: Path) -> None:
    found = inspect(with_custom_operation("MyOwnOp", tmp_path / "custom.tflite"))
    assert found.made_for is None
    assert "MyOwnOp" in str(found.refused)


def test_a_context_of_one_soc(tmp_path: Path) -> None:
    node = helper.make_node(
        "EPContext", ["x"], ["y"], domain="com.microsoft", source="QNNExecutionProvider", embed_mode=1,
        ep_cache_context=b"compiled", main_context=1,
    )  # fmt: skip
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph([node], "g", sides[:1], sides[1:]), opset_imports=opsets, ir_version=8)
    (tmp_path / "context.onnx").write_bytes(model.SerializeToString())
    found = inspect(tmp_path / "context.onnx")
    assert "one SoC" in str(found.made_for)
    assert "QNNExecutionProvider" in str(found.made_for)
    assert found.placement is None


def test_open_dimensions_do_not_keep_a_model_from_being_described(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "time", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "time", 4])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "open.onnx").write_bytes(model.SerializeToString())
    found = inspect(tmp_path / "open.onnx")
    assert found.inputs[0].shape == (1, None, 4)
    assert found.placement is not None
    assert "any" in found.as_text()


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "noise.tflite").write_bytes(b"\x18\x00\x00\x00TFL3" + bytes(range(200)))
    with pytest.raises(BadModel):
        inspect(tmp_path / "noise.tflite")


def test_a_runnable_model_has_its_placement() -> None:
    found = inspect(models.litert_fallback())
    assert found.refused is None
    assert [one.op for one in found.placement.fallback_ops] == ["ARG_MAX"]
