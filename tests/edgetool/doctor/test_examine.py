"""The doctor's advice: what the runtime's own record says, what public tables say, and what the two are called."""

import json
from pathlib import Path

import pytest
from ai_edge_litert.schema_py_generated import BuiltinOperator

from convert.census import Operation, Tensor, census
from edge.delegates import DELEGATES
from edge.errors import BadInput, UnknownName
from edge.report import FallbackOp, Placement
from edge.target import REFUSED, TARGETS, target
from edgetool.doctor.advice import CHANGES, made_for
from edgetool.doctor.checkup import Memory
from edgetool.doctor.examine import PROVABLE, TABLES, by_placement, by_table, examine
from edgetool.doctor.tables.coral import CORAL
from edgetool.doctor.tables.ethos_u import ETHOS_U55, ETHOS_U85
from edgetool.doctor.tables.nvidia import CUDA, TENSORRT
from edgetool.doctor.tables.qnn import QNN
from edgetool.doctor.tables.rknn import RKNN
from edgetool.progress import Silent
from tests import models
from tests.conftest import REPOSITORY

TINY = REPOSITORY / "tests/edge/data"


def operation(kind: str, shape: tuple[int | None, ...] = (1, 8, 8, 4), dtype: str = "int8", **attributes: object):
    data = Tensor("in", dtype, shape)
    return Operation(kind, (data,), (Tensor("out", dtype, shape),), 100, attributes)


def checkup(model: Path, name: str):
    return examine(model, name, trust=False, progress=Silent())


def test_every_delegate_of_every_target_is_one_that_the_doctor_can_judge() -> None:
    for one in TARGETS.values():
        assert one.delegates, one.name
        for name in one.delegates:
            assert name in TABLES or name in PROVABLE, (one.name, name)
            assert name in TABLES or name in DELEGATES, (one.name, name)
            wanted = DELEGATES[name].format if name in DELEGATES else TABLES[name].format
            engines = {"tflite": "litert", "onnx": "onnxruntime"}
            assert engines[wanted] in one.engines, (one.name, name)
        assert not set(one.delegates) & set(REFUSED)


def test_tables_speak_of_operations_that_exist() -> None:
    import onnx

    builtin = set(vars(BuiltinOperator))
    standard = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    # in the pages, but of ONNX Runtime's own domain or of ONNX before 1.3
    others = {"Affine", "Crop", "DynamicSlice", "ImageScaler", "Inverse", "ParametricSoftplus", "ScaledTanh"}
    for table in (*TABLES.values(), ETHOS_U85):
        assert table.source, table.delegate
        known = builtin if table.format == "tflite" else standard | others
        assert set(table.operations) <= known, (table.delegate, set(table.operations) - known)
    assert set(CHANGES) <= builtin | standard | others


def test_xnnpack_is_proven_by_the_runtime_and_the_planted_fallback_is_found() -> None:
    found = checkup(models.litert_fallback(), "raspberrypi4")
    finding = found.findings[0]
    assert (finding.delegate, finding.evidence) == ("xnnpack", "proven here")
    assert [row.operation for row in finding.blocked] == ["ARG_MAX"]
    assert "argmax in the app" in finding.blocked[0].change
    assert finding.ops_accelerated == finding.ops_total - 1
    other = found.findings[1]
    assert other.delegate == "cpu"
    assert "takes .onnx" in str(other.reason)
    assert "ARG_MAX" in found.as_text()
    assert json.loads(found.as_json())["findings"][0]["blocked"][0]["count"] == 1


def test_a_float_model_on_an_int8_accelerator_is_told_to_quantize() -> None:
    found = checkup(models.litert_float(), "coral-dev-board")
    coral = found.findings[0]
    assert coral.evidence == "by table"
    assert "coral.ai" in coral.source
    assert coral.ops_accelerated == 0
    assert {row.change.split(":")[0] for row in coral.blocked} == {"quantize to full int8"}
    assert "first change" in found.verdict
    good = checkup(models.litert_int8(), "coral-dev-board")
    assert not good.findings[0].blocked
    assert good.verdict == "coral-dev-board: everything runs on coral, by its table; not tried here"
    assert any("edgetpu_compiler" in condition for condition in good.findings[0].conditions)


def test_vela_itself_is_asked() -> None:
    pytest.importorskip("ethosu")
    finding = checkup(models.litert_int8(), "ethos-u55-128").findings[0]
    assert finding.evidence == "proven here"
    assert "Vela" in finding.source
    assert "estimated" in finding.source
    assert finding.ops_accelerated == finding.ops_total
    refused = checkup(models.litert_float(), "ethos-u55-128").findings[0]
    assert refused.evidence == "by table"
    assert "failed" in str(refused.tried)


def test_an_operation_that_no_accelerator_knows() -> None:
    found = checkup(models.onnx_unusual_op(), "jetson-orin-nano")
    tensorrt, cuda, xnnpack, cpu = found.findings
    for finding in (tensorrt, cuda):
        assert [row.operation for row in finding.blocked] == ["Det"]
        assert finding.evidence == "by table"
    assert xnnpack.evidence == "unknown"
    assert (cpu.evidence, cpu.ops_accelerated) == ("proven here", cpu.ops_total)
    assert "Jetson AI Lab" in found.notes[-1]


def test_a_keras_model_is_judged_by_the_files_it_becomes() -> None:
    found = checkup(REPOSITORY / "recipes/models/breast_cancer.keras", "raspberrypi5")
    assert [finding.format for finding in found.findings] == ["tflite", "onnx"]
    assert all(finding.evidence == "proven here" for finding in found.findings)
    assert "float32 files" in found.notes[0]
    assert found.memory is not None
    assert found.memory.fits


def test_devices_that_are_unknown_or_have_no_wheels() -> None:
    with pytest.raises(UnknownName) as unknown:
        checkup(models.litert_float(), "rasberrypi5")
    assert "raspberrypi5" in str(unknown.value.hint)
    with pytest.raises(BadInput, match="no wheels") as refused:
        target("raspberrypizero")
    assert "raspberrypizero2w" in str(refused.value.hint)


def test_memory_is_held_against_the_device() -> None:
    assert Memory(10, 10, None).fits is None
    assert Memory(10, 10, 20).fits is True
    assert Memory(10, 11, 20).fits is False


def test_what_stands_behind_a_refused_operation_stays_on_the_cpu_of_an_edge_tpu() -> None:
    finding = by_table(CORAL, [operation("CONV_2D"), operation("HARD_SWISH"), operation("CONV_2D"), operation("ADD")])
    assert finding.ops_accelerated == 1
    assert finding.macs_accelerated == pytest.approx(0.25)
    reasons = {row.operation: row.reason for row in finding.blocked}
    assert reasons["HARD_SWISH"] == "is not in the table"
    assert "behind" in reasons["CONV_2D"]
    assert {row.operation: row.change for row in finding.blocked}["HARD_SWISH"].startswith("ReLU6")
    assert by_table(ETHOS_U55, [operation("HARD_SWISH"), operation("CONV_2D")]).blocked == ()


@pytest.mark.parametrize(
    ("table", "bad", "reason"),
    [
        (CORAL, operation("CONV_2D", (4, 8, 8, 4)), "shape"),
        (CORAL, operation("SOFTMAX", (1, 10, 10)), "its input"),
        (ETHOS_U55, operation("ADD", (4, 8)), "batch is 4"),
        (ETHOS_U55, operation("ADD", (1, None)), "not fixed"),
        (TENSORRT, operation("QuantizeLinear", dtype="uint8"), "uint8"),
        (TENSORRT, operation("Resize", mode="cubic"), "cubic"),
        (QNN, operation("Conv", (None, 3, 8, 8), "float32"), "not fixed"),
        (RKNN, operation("Softmax", (2, 10), "float32"), "batch is 2"),
        (RKNN, operation("TopK"), "not in the table"),
        (CUDA, operation("Det"), "not in the table"),
    ],
)
def test_constraints_that_the_file_shows(table: object, bad: Operation, reason: str) -> None:
    assert reason in by_table(table, [bad]).blocked[0].reason


def test_a_convolution_over_one_axis_becomes_one_over_two() -> None:
    weights = Tensor("w", "float32", (8, 4, 3), constant=True)
    conv = Operation("Conv", (Tensor("x", "float32", (1, 4, 100)), weights), (Tensor("y", "float32", (1, 8, 98)),), 1)
    assert "height 1" in by_table(TENSORRT, [conv]).blocked[0].change


def test_a_record_of_the_runtime_is_told_with_the_table_s_reason() -> None:
    placement = Placement("qnn", "qnn", 1, 3, (FallbackOp("Conv", "left out"),) * 2, emulated_by="a simulator")
    operations = [operation("Conv", (None, 3)), operation("Conv", (None, 3)), operation("Relu", (1, 3))]
    finding = by_placement(placement, "onnx", "the record", operations, QNN)
    assert finding.evidence == "proven here, emulated"
    assert finding.blocked[0].count == 2
    assert finding.blocked[0].reason == "left out: its shape is not fixed"
    assert finding.blocked[0].macs_share == pytest.approx(2 / 3)
    some = by_placement(placement, "onnx", "the record", [*operations, operation("Conv")], QNN)
    assert some.blocked[0].macs_share is None  # the record does not say which of the three it was


def test_compiled_files_say_what_they_are_for() -> None:
    def custom(kind: str, **attributes: object) -> tuple[Operation, ...]:
        return (Operation(kind, (), (), None, attributes, custom=True),)

    assert made_for(custom("ethos-u"))[1] == "ethos-u"
    assert made_for(custom("edgetpu-custom-op"))[1] == "coral"
    words, delegate = made_for(custom("EPContext", source="QNNExecutionProvider"))
    assert delegate == "qnn"
    assert "QNN" in words
    assert made_for(custom("MyOwn")) is None
    assert made_for((operation("CONV_2D"),)) is None


def test_the_census_adds_up_to_the_counts_of_the_model() -> None:
    from convert.cost import count
    from convert.operations import operations

    for path, kind in ((TINY / "tiny_int8.tflite", "tflite"), (TINY / "tiny.onnx", "onnx")):
        found = census(path, kind)
        assert sum(one.macs or 0 for one in found.operations) == count(path, kind)[1]
        assert len(found.operations) == sum(operations(path, kind).values())
        assert found.activation_bytes > 0
