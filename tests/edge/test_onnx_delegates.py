"""ONNX Runtime's delegates, each in a process of its own: what ran where, what is refused, what is left behind."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge.engines import open_engine
from edge.engines.feeds import fixed
from edge.errors import BadModel, BadRecipe, DelegateFailed, RuntimeMissing, UnknownName
from edge.runtime_process import RuntimeProcess

DATA = Path(__file__).parent / "data"
ROOT = Path(__file__).resolve().parents[2]
PLUGINS = {
    "webgpu": "onnxruntime_ep_webgpu",
    "qnn": "onnxruntime_qnn",
    "openvino": "onnxruntime_ep_openvino",
}

onnx = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")


def has(delegate):
    return pytest.mark.skipif(
        importlib.util.find_spec(PLUGINS[delegate]) is None, reason=f"{PLUGINS[delegate]} is not installed"
    )


qnn, webgpu, openvino = has("qnn"), has("webgpu"), has("openvino")
RUN_HERE = [pytest.param("webgpu", marks=webgpu), pytest.param("qnn", marks=qnn)]


def loaded(delegate, file, settings=None):
    """Load in a process, run the fixed inputs, and the same on the CPU here."""
    path = file if isinstance(file, Path) else DATA / file
    cpu = open_engine(path, "onnx")
    feeds, expected = fixed(cpu.inputs), cpu.run
    if file == "tiny_uint8.onnx":
        feeds = {"image": np.random.default_rng(3).integers(0, 256, (1, 1, 8, 8), np.uint8)}
        expected = in_floats(path)
    with RuntimeProcess() as process:
        found = process.load(path, "onnx", delegate=delegate, settings=settings)
        return found, process.predict(feeds), expected(feeds)


def in_floats(path):
    """The file as it is written: the integer kernels that ONNX Runtime puts in its place saturate without VNNI."""
    options = onnx.SessionOptions()
    options.graph_optimization_level = onnx.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnx.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, feeds), strict=True))


@pytest.mark.parametrize("delegate", RUN_HERE)
def test_all_of_a_float_network_runs_on_the_delegate_and_agrees_with_the_cpu(delegate):
    found, got, expected = loaded(delegate, "tiny.onnx")
    where = found.placement
    assert (where.requested, where.actual, where.partitions, where.copies) == (delegate, delegate, 1, 0)
    assert where.ops_offloaded == where.ops_total > 5
    assert where.fallback_ops == ()
    assert where.device
    # float32 sums of at most 36 terms of size 1, in another order
    np.testing.assert_allclose(got["scores"], expected["scores"], atol=1e-5)


@pytest.mark.parametrize("delegate", RUN_HERE)
def test_an_operation_that_the_delegate_lacks_is_named(delegate):
    found, got, expected = loaded(delegate, "tiny_det.onnx")
    where = found.placement
    assert (where.ops_offloaded, where.ops_total) == (1, 2)
    assert [one.op for one in where.fallback_ops] == ["Det"]
    assert where.fallback_ops[0].reason == f"{delegate} does not take it; it runs on CPUExecutionProvider"
    np.testing.assert_allclose(got["determinant"], expected["determinant"], rtol=1e-5)


@webgpu
def test_copies_between_memories_are_counted():
    assert loaded("webgpu", "tiny_det.onnx")[0].placement.copies == 1


@pytest.mark.parametrize("delegate", RUN_HERE)
def test_integers_go_in_and_come_out_without_a_float_detour(delegate):
    found, got, expected = loaded(delegate, "tiny_uint8.onnx")
    assert [spec.dtype for spec in (*found.inputs, *found.outputs)] == ["uint8", "uint8"]
    assert got["map"].dtype == np.uint8
    assert expected["map"].max() > 20
    # one convolution: one rounding, which may fall to either side
    np.testing.assert_allclose(got["map"].astype(int), expected["map"].astype(int), atol=1)


@qnn
def test_the_simulator_of_a_phone_is_called_one():
    found, _, _ = loaded("qnn", "tiny.onnx", {"soc_model": "SM8650", "performance_mode": "burst"})
    assert found.placement.emulated_by == "Qualcomm's HTP simulator on the CPU"
    assert found.placement.device == "HTP of SM8650"


@webgpu
def test_software_vulkan_is_called_one_and_can_be_refused():
    emulated = loaded("webgpu", "tiny.onnx")[0].placement.emulated_by
    if emulated is None:
        pytest.skip("this machine has a GPU")
    assert emulated.startswith("software Vulkan: ")
    with pytest.raises(DelegateFailed, match="require_gpu is true, but this is software Vulkan"):
        loaded("webgpu", "tiny.onnx", {"require_gpu": "true"})


@webgpu
def test_without_vulkan_webgpu_says_so():
    script = (
        "from pathlib import Path\n"
        "from edge.engines import open_engine\n"
        "from edge.errors import DelegateFailed\n"
        "try:\n"
        f"    open_engine(Path({str(DATA / 'tiny.onnx')!r}), 'onnx', delegate='webgpu')\n"
        "except DelegateFailed as error:\n"
        "    print(error.message)\n"
    )
    done = python(script, VK_DRIVER_FILES="/none.json", VK_ICD_FILENAMES="/none.json")
    assert "Vulkan" in done
    assert done.count("\n") == 1


@qnn
def test_a_soc_that_takes_no_float_runs_nothing_and_the_model_is_at_fault():
    found, _, _ = loaded("qnn", "tiny_state.onnx", {"soc_model": "SM7325"})
    assert (found.placement.ops_offloaded, found.placement.actual) == (0, "cpu")
    assert {one.op for one in found.placement.fallback_ops} == {"Mul", "Add", "ReduceSum"}
    with pytest.raises(BadModel, match=r"qnn does not take tiny\.onnx"):
        loaded("qnn", "tiny.onnx", {"soc_model": "35"})


@openvino
def test_openvino_runs_or_says_why_not():
    try:
        found, got, expected = loaded("openvino", "tiny.onnx")
    except DelegateFailed as error:
        assert "Intel processors only" in error.message  # noqa: PT017  # either is right, by the machine
        return
    assert found.placement.ops_offloaded == found.placement.ops_total
    np.testing.assert_allclose(got["scores"], expected["scores"], atol=1e-5)


@openvino
@pytest.mark.parametrize("device", ["GPU", "NPU"])
def test_openvino_without_the_device_says_so(device):
    with RuntimeProcess() as process, pytest.raises(DelegateFailed, match=f"no .*{device}"):
        process.load(DATA / "tiny.onnx", "onnx", delegate="openvino", settings={"device": device})


@pytest.mark.parametrize(("delegate", "title"), [("cuda", "CUDA"), ("tensorrt", "TensorRT")])
def test_a_wheel_without_nvidia_says_so(delegate, title):
    if f"{title}ExecutionProvider".lower() in map(str.lower, onnx.get_available_providers()):
        pytest.skip("this is the GPU wheel")
    with pytest.raises(RuntimeMissing, match=f"this wheel of ONNX Runtime .* has no {title}") as caught:
        open_engine(DATA / "tiny.onnx", "onnx", delegate=delegate)
    assert "onnxruntime-gpu" in caught.value.hint


@pytest.mark.parametrize("delegate", sorted(PLUGINS))
def test_a_missing_plugin_is_named_with_its_pip_line(delegate):
    if delegate == "webgpu":
        pytest.importorskip("onnxruntime_ep_webgpu", reason="without Vulkan that is what is said first")
    script = (
        "import sys\n"
        f"sys.modules[{PLUGINS[delegate]!r}] = None\n"
        "from pathlib import Path\n"
        "from edge.engines import open_engine\n"
        "from edge.errors import RuntimeMissing\n"
        "try:\n"
        f"    open_engine(Path({str(DATA / 'tiny.onnx')!r}), 'onnx', delegate={delegate!r})\n"
        "except RuntimeMissing as error:\n"
        "    print(error.message, '|', error.hint)\n"
    )
    assert f"pip install {PLUGINS[delegate].replace('_', '-')}" in python(script)


@qnn
def test_a_library_that_does_not_load_is_one_line(tmp_path):
    package = tmp_path / "onnxruntime_qnn"
    package.mkdir()
    (package / "lib.so").write_bytes(b"no library")
    (package / "__init__.py").write_text(f"def get_library_path(): return {str(package / 'lib.so')!r}\n")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from pathlib import Path\n"
        "from edge.engines import open_engine\n"
        "from edge.errors import DelegateFailed\n"
        "try:\n"
        f"    open_engine(Path({str(DATA / 'tiny.onnx')!r}), 'onnx', delegate='qnn')\n"
        "except DelegateFailed as error:\n"
        "    print(error.message)\n"
        f"engine = open_engine(Path({str(DATA / 'tiny.onnx')!r}), 'onnx')\n"
        "print(engine.placement().actual)\n"
    )
    told = python(script).splitlines()
    assert told[0].startswith("the QNN plugin ")
    assert "cannot be loaded by ONNX Runtime" in told[0]
    assert told[1:] == ["cpu"]


@pytest.mark.parametrize("delegate", RUN_HERE)
def test_a_damaged_model_is_the_models_fault(delegate, tmp_path):
    for name, content in {"cut": (DATA / "tiny.onnx").read_bytes()[:500], "text": b"hello " * 50}.items():
        (tmp_path / name).write_bytes(content)
        with RuntimeProcess() as process, pytest.raises(BadModel) as caught:
            process.load(tmp_path / name, "onnx", delegate=delegate)
        assert "\n" not in caught.value.message


@pytest.mark.parametrize("delegate", ["cpu", *RUN_HERE])
def test_an_unknown_operation_is_the_models_fault(delegate, tmp_path):
    strange = (DATA / "tiny_det.onnx").read_bytes().replace(b"Det", b"Dut")
    (tmp_path / "strange.onnx").write_bytes(strange)
    with RuntimeProcess() as process, pytest.raises(BadModel, match="Dut"):
        process.load(tmp_path / "strange.onnx", "onnx", delegate=delegate)


@pytest.mark.parametrize(
    ("delegate", "settings", "told"),
    [
        ("qnn", {"soc_model": "9999"}, "soc_model is '9999'; known are SM7325"),
        ("qnn", {"htp_arch": "99"}, "htp_arch is 99"),
        ("qnn", {"performance_mode": "fast"}, "performance_mode is 'fast'"),
        ("qnn", {"vtcm_mb": "-1"}, "vtcm_mb is -1"),
        ("qnn", {"cache_folder": "/tmp/x"}, "cache is false"),
        ("openvino", {"device": "TPU"}, "device is 'TPU'"),
        ("openvino", {"precision": "fp4"}, "precision is 'fp4'"),
        ("cuda", {"device_id": "-1"}, "device_id is -1"),
        ("tensorrt", {"dla_core": "2", "fp16": "true"}, "dla_core is 2"),
        ("tensorrt", {"dla_core": "0"}, "a DLA computes in fp16 or int8"),
        ("tensorrt", {"builder_optimization_level": "6"}, "builder_optimization_level is 6"),
        ("tensorrt", {"calibration_table": "t"}, "int8 is false"),
        ("tensorrt", {"cache": "false", "cache_folder": "x"}, "cache is false"),
    ],
)
def test_settings_that_cannot_be_honoured_are_refused_at_once(delegate, settings, told):
    with pytest.raises(BadRecipe) as caught:
        open_engine(DATA / "tiny.onnx", "onnx", delegate=delegate, settings=settings)
    assert told in caught.value.message


def test_a_session_without_a_memory_pattern_answers_the_same():
    feeds = None
    answers = []
    for told in ({}, {"memory_pattern": "false"}):
        engine = open_engine(DATA / "tiny.onnx", "onnx", settings=told)
        feeds = feeds or {spec.name: np.full([n or 1 for n in spec.shape], 0.5, spec.dtype) for spec in engine.inputs}
        answers.append(list(engine.run(feeds).values()))
        engine.close()
    for plain, without in zip(*answers, strict=True):
        np.testing.assert_array_equal(plain, without)


def test_an_unknown_setting_names_the_nearest():
    with pytest.raises(UnknownName) as caught:
        open_engine(DATA / "tiny.onnx", "onnx", delegate="qnn", settings={"soc_modell": "SM8650"})
    assert "soc_model" in caught.value.hint


@pytest.mark.parametrize("delegate", ["cpu", "openvino", *RUN_HERE])
def test_no_runtime_leaves_anything_in_the_users_home(delegate, tmp_path):
    """ONNX Runtime's telemetry writes to ~/.cache/Microsoft, OpenVINO's to ~/intel, where they are let."""
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    script = (
        f"import sys, os; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\n"
        "from edge.engines import open_engine\n"
        "from edge.engines.feeds import fixed\n"
        "from edge.errors import EdgetoolError\n"
        "try:\n"
        f"    engine = open_engine(Path({str(DATA / 'tiny.onnx')!r}), 'onnx', delegate={delegate!r})\n"
        "    engine.run(fixed(engine.inputs)); engine.placement(); engine.close()\n"
        "except EdgetoolError as error:\n"
        "    print(error.message)\n"
    )
    # Mesa keeps compiled shaders below the home folder: that is its own and is sent to nobody
    python(script, cwd=work, HOME=str(home), XDG_CACHE_HOME=str(home / ".cache"), MESA_SHADER_CACHE_DISABLE="true")
    assert [str(p.relative_to(tmp_path)) for p in (*home.rglob("*"), *work.rglob("*"))] == []


@qnn
def test_standard_output_stays_the_programs_own():
    script = (
        "from pathlib import Path\n"
        "from edge.engines import open_engine\n"
        "from edge.engines.feeds import fixed\n"
        f"engine = open_engine(Path({str(DATA / 'tiny.onnx')!r}), 'onnx', delegate='qnn')\n"
        "engine.run(fixed(engine.inputs))\n"
        "print('done')\n"
    )
    assert python(script) == "done\n"


@pytest.mark.parametrize("delegate", RUN_HERE)
def test_several_engines_share_one_registration(delegate):
    script = (
        "from pathlib import Path\n"
        "from edge.engines import open_engine\n"
        "from edge.engines.feeds import fixed\n"
        "engines = [\n"
        f"    open_engine(Path({str(DATA / 'tiny.onnx')!r}), 'onnx', delegate={delegate!r}) for _ in range(3)\n"
        "]\n"
        "scores = [engine.run(fixed(engine.inputs))['scores'].tolist() for engine in engines]\n"
        "print(scores[0] == scores[1] == scores[2])\n"
    )
    assert python(script) == "True\n"


def python(script, cwd=ROOT, **environment):
    """Run a script where this checkout is the module path; what it printed."""
    env = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", script], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
