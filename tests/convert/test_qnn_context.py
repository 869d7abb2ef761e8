"""Context binaries for several SoCs: made, loaded again on the simulator, and refused where they cannot be."""

import importlib.util
from pathlib import Path

import pytest

from convert.qnn_context import build_context
from edge.engines.onnx_file import compiled_for
from edge.errors import BadModel, UnknownName
from edge.runtime_process import RuntimeProcess
from tests import models

DATA = Path(__file__).resolve().parents[1] / "edge" / "data"
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("onnxruntime_qnn") is None, reason="onnxruntime-qnn is not installed"
)


def test_each_soc_gets_its_own_binary(tmp_path):
    made = [build_context(DATA / "tiny_uint8.onnx", soc, tmp_path) for soc in ("SM8650", "sm7325")]
    assert [(one.soc, one.model) for one in made] == [
        (name, tmp_path / name / "model.onnx") for name in ("SM8650", "SM7325")
    ]
    assert [compiled_for(one.model.read_bytes()).soc for one in made] == [57, 35]
    binaries = [next(one.model.parent.glob("*.bin")).read_bytes() for one in made]
    assert binaries[0] != binaries[1]
    for one in made:
        assert one.placement.ops_offloaded == one.placement.ops_total
        assert one.difference <= 1 / 255
        assert one.line().startswith(f"{one.soc}: ")
        assert "simulator" in one.line()


def test_a_binary_of_another_soc_is_refused(tmp_path):
    model = build_context(models.onnx_mlp(), "SM8550", tmp_path).model
    with RuntimeProcess() as process:
        with pytest.raises(BadModel, match="is compiled for the SoC 43, and this is 57"):
            process.load(model, "onnx", delegate="qnn", settings={"soc_model": "SM8650"})
        with pytest.raises(BadModel, match="is compiled for QNNExecutionProvider, and cpu is another"):
            process.load(model, "onnx")
        process.load(model, "onnx", delegate="qnn", settings={"soc_model": "SM8550"})
    with pytest.raises(BadModel, match="compiled already"):
        build_context(model, "SM8550", tmp_path)


def test_a_damaged_binary_is_the_models_fault(tmp_path):
    model = build_context(models.onnx_mlp(), "SM8550", tmp_path).model
    next(model.parent.glob("*.bin")).write_bytes(b"short")
    with RuntimeProcess() as process, pytest.raises(BadModel):
        process.load(model, "onnx", delegate="qnn")


def test_what_cannot_be_made_is_told_and_leaves_nothing(tmp_path):
    with pytest.raises(UnknownName, match="unknown SoC: 'SM8651'") as caught:
        build_context(models.onnx_mlp(), "SM8651", tmp_path)
    assert "SM8650" in caught.value.hint
    with pytest.raises(BadModel) as caught:
        build_context(models.onnx_mlp(), "SM7325", tmp_path)
    assert "quantized models only" in caught.value.hint
    assert list(tmp_path.iterdir()) == []
