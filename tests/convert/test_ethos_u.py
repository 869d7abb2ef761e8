"""Vela on real files: what it compiles, what it estimates, and what stays on the CPU."""

import subprocess
from pathlib import Path

import pytest

from convert import ethos_u
from convert.ethos_u import ACCELERATORS, compile_for_ethos_u, configuration_of
from convert.flatbuffer import parse_flatbuffer
from convert.operations import count_operations
from edge.engines import open_engine
from edge.errors import BadModel, BadRecipe, DelegateFailed, EnvironmentFailed, RuntimeMissing, UnknownName

pytest.importorskip("ethosu.vela", reason="Vela (ethos-u-vela) is not installed")

DATA = Path(__file__).parents[1] / "edge" / "data"
INT8, FLOAT, STATEFUL = DATA / "tiny_int8.tflite", DATA / "tiny.tflite", DATA / "tiny_running.tflite"


@pytest.mark.parametrize("accelerator", ["ethos-u55-32", "ethos-u65-256", "ethos-u85-2048"])
def test_an_int8_model_is_compiled_and_estimated(accelerator):
    content, estimate = compile_for_ethos_u(INT8, accelerator)
    system = ACCELERATORS[accelerator]
    assert (estimate.system_config, estimate.memory_mode) == (system.system_config, system.memory_mode)
    assert estimate.status == "estimated"
    assert (estimate.ops_offloaded, estimate.ops_total, estimate.fallback_ops) == (5, 5, ())
    assert 100 < estimate.cycles < 100_000
    assert estimate.time_ms == pytest.approx(estimate.cycles / estimate.clock_hz * 1e3, rel=0.01)
    assert estimate.sram_bytes > 64  # the input alone
    assert count_operations(parse_flatbuffer(content)) == {"ethos-u": 1}
    text = estimate.as_text()
    assert text.count("estimated") == 2
    assert "Vela" in text


def test_more_macs_per_cycle_take_fewer_cycles():
    few, many = (compile_for_ethos_u(INT8, name)[1].cycles for name in ("ethos-u55-32", "ethos-u55-256"))
    assert many < few


def test_the_system_can_be_named_and_is_reported():
    _, estimate = compile_for_ethos_u(
        INT8, "ethos-u55-128", system_config="Ethos_U55_Deep_Embedded", memory_mode="Sram_Only"
    )
    assert (estimate.system_config, estimate.memory_mode) == ("Ethos_U55_Deep_Embedded", "Sram_Only")
    assert estimate.clock_hz == 200e6
    with pytest.raises(BadRecipe, match="Vela does not take Ethos_U55_High_End_Embedded with Dedicated_Sram"):
        compile_for_ethos_u(INT8, "ethos-u55-128", memory_mode="Dedicated_Sram")
    with pytest.raises(BadRecipe, match="Vela does not take Moon_Base"):
        compile_for_ethos_u(INT8, "ethos-u55-128", system_config="Moon_Base")


def test_a_float_model_is_refused_with_the_first_reason():
    with pytest.raises(BadModel, match=r"nothing of .* runs on ethos-u55-128: SOFTMAX: .*unsupported DataType Float32"):
        compile_for_ethos_u(FLOAT)


def test_operations_that_stay_on_the_cpu_are_named():
    path = pytest.importorskip("pymicro_wakeword").__file__
    _, estimate = compile_for_ethos_u(Path(path).parent / "models" / "okay_nabu.tflite")
    left = {one.op: one.reason for one in estimate.fallback_ops}
    assert left["READ_VARIABLE"] == "Unsupported opType; runs on the CPU"
    assert {"VAR_HANDLE", "ASSIGN_VARIABLE", "CALL_ONCE"} <= left.keys()
    assert 0 < estimate.ops_offloaded == estimate.ops_total - len(estimate.fallback_ops)


def test_a_compiled_file_is_refused_by_the_cpu_by_name(tmp_path):
    compiled = tmp_path / "compiled.tflite"
    compiled.write_bytes(compile_for_ethos_u(INT8)[0])
    with pytest.raises(BadModel) as caught:
        open_engine(compiled, "tflite")
    assert caught.value.message == "compiled.tflite is compiled for an Arm Ethos-U (operation 'ethos-u')"
    with pytest.raises(BadModel, match="is compiled for an Ethos-U already"):
        compile_for_ethos_u(compiled)
    with pytest.raises(DelegateFailed, match="does not run models on ethos-u"):
        open_engine(INT8, "tflite", delegate="ethos-u")


def test_bad_input(tmp_path):
    with pytest.raises(UnknownName, match="'ethos-u55-12'") as caught:
        compile_for_ethos_u(INT8, "ethos-u55-12")
    assert "ethos-u55-128" in caught.value.hint
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(INT8.read_bytes()[:400])
    with pytest.raises(BadModel):
        compile_for_ethos_u(damaged)
    with pytest.raises(EnvironmentFailed, match=r"did not end within 0\.01 s"):
        compile_for_ethos_u(INT8, limit_s=0.01)


def test_without_vela_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(ethos_u, "find_spec", lambda name: None)
    with pytest.raises(RuntimeMissing) as caught:
        compile_for_ethos_u(INT8)
    assert caught.value.hint == "pip install 'edgetool[ethos-u]'"


def test_the_command(tmp_path):
    def edgetool(*arguments):
        import sys

        return subprocess.run(
            [sys.executable, "-m", "edgetool", "convert", *arguments], capture_output=True, text=True, check=False
        )

    out = tmp_path / "npu.tflite"
    done = edgetool(str(INT8), "--to", "ethos-u", "--soc", "ethos-u55-64", "--out", str(out))
    assert (done.returncode, done.stderr) == (0, "")
    assert "5 of 5 operations on the NPU" in done.stdout
    assert "ethos-u55-64" in done.stdout
    assert out.stat().st_size > 1000
    for arguments, told in (
        (("--to", "ethos-u"), "needs the one NPU to compile for"),
        (("--to", "ethos-u", "--soc", "ethos-u55-64", "--precision", "int8"), "knows no --precision"),
        (("--to", "ethos-u", "--soc", "ethos-u55-64", "--data", "photos"), "needs no --data"),
        (("--to", "rknn", "--soc", "rk3588"), "compiles a .onnx file"),
    ):
        done = edgetool(str(INT8), *arguments)
        assert done.returncode == 2
        assert told in done.stderr


def test_a_compiled_file_tells_its_accelerator(tmp_path):
    for name in ("ethos-u55-128", "ethos-u65-512", "ethos-u85-256"):
        content, _ = compile_for_ethos_u(INT8, name)
        (tmp_path / "made.tflite").write_bytes(content)
        assert configuration_of(tmp_path / "made.tflite") == name
    assert configuration_of(INT8) is None
