"""LiteRT's accelerators on what stands for them here: software Vulkan, and OpenVINO's CPU backend."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge import vulkan
from edge.delegates import require_placement
from edge.engines import open_engine
from edge.engines.feeds import fixed
from edge.errors import BadData, BadModel, BadRecipe, CheckFailed, DelegateFailed, UnknownName
from edge.proof import MODELS
from edge.runtime_process import PACKAGES

DATA = Path(__file__).parent / "data"
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ai_edge_litert") is None, reason="ai-edge-litert is not installed"
)


@pytest.fixture(autouse=True)
def alone():
    if "tensorflow" in sys.modules:
        pytest.skip("LiteRT's accelerators crash beside TensorFlow: pytest tests/edge runs them without it")


@pytest.fixture(params=["litert-gpu", "litert-npu"])
def delegate(request):
    """Each accelerator, or a skip that says what it lacks here."""
    if request.param == "litert-gpu":
        try:
            vulkan.vulkan_devices()
        except DelegateFailed as error:
            pytest.skip(error.message)
    elif importlib.util.find_spec("ai_edge_litert_sdk_intel") is None:
        pytest.skip("ai-edge-litert-sdk-intel is not installed")
    return request.param


@pytest.fixture
def gpu(delegate):
    if delegate != "litert-gpu":
        pytest.skip("a matter of the GPU alone")
    return delegate


@pytest.mark.parametrize(
    ("file", "limit"),
    # float32 sums of up to 36 terms of size 1; int8 is the same integer arithmetic, and may round a step otherwise
    [("tiny.tflite", 1e-5), ("tiny_int8.tflite", 1), ("tiny_fallback.tflite", 1e-5)],
)
def test_a_model_runs_there_and_says_what_the_cpu_says(delegate, file, limit):
    engine, cpu = open_engine(DATA / file, "tflite", delegate=delegate), open_engine(DATA / file, "tflite")
    at = engine.placement()
    assert (at.requested, at.actual, at.ops_offloaded, at.ops_total) == (delegate, delegate, 5, 5)
    assert at.fallback_ops == ()
    require_placement(at)
    assert {s.name: s for s in engine.inputs} == {s.name: s for s in cpu.inputs}
    assert {s.name: s for s in engine.outputs} == {s.name: s for s in cpu.outputs}
    views = engine.views()
    for seed in range(3):
        feeds = fixed(cpu.inputs, seed)
        expected, got = cpu.run(feeds), engine.run(feeds)
        kept = {name: values.copy() for name, values in got.items()}
        for name, values in feeds.items():
            views[name][...] = values
        again = engine.run(views)
        engine.run({name: np.zeros_like(values) for name, values in feeds.items()})
        for name, values in expected.items():
            assert np.abs(got[name].astype(float) - values).max() <= limit
            np.testing.assert_array_equal(got[name], kept[name])
            np.testing.assert_array_equal(again[name], kept[name])
    with pytest.raises(BadData, match="is missing"):
        engine.run({})
    engine.close()


def test_what_stands_for_the_hardware_is_named(delegate):
    at = open_engine(DATA / "tiny.tflite", "tflite", delegate=delegate).placement()
    if delegate == "litert-npu":
        assert at.partitions == 1
        if not any(Path("/dev/accel").glob("accel*")):
            assert at.emulated_by == "OpenVINO's CPU backend"
        return
    names = [one.name for one in vulkan.vulkan_devices()]
    assert at.device in names
    if vulkan.emulated_by() is not None:
        assert at.emulated_by == f"software Vulkan: {at.device}"


def test_a_model_from_bytes_and_with_a_free_batch(delegate):
    engine = open_engine((MODELS / "conv.tflite").read_bytes(), "tflite", delegate=delegate)
    with np.load(MODELS / "expected.npz") as expected:
        got = engine.run({"image": expected["image"][:1]})["logits"]
        # float32 throughout; bfloat16 or float16 would be 1e-3 of the logits' range of 8 away
        np.testing.assert_allclose(got, expected["logits"][:1], atol=1e-4)


def test_operations_that_it_lacks_are_named(delegate):
    with pytest.raises(BadModel) as caught:
        open_engine(DATA / "tiny_running.tflite", "tflite", delegate=delegate)
    message = caught.value.message
    assert f"{delegate} does not take ASSIGN_VARIABLE, CALL_ONCE, READ_VARIABLE, VAR_HANDLE of tiny_running" in message
    assert "of 7 operations would run on it" in message


def test_operations_that_it_lacks_run_on_the_cpu_where_that_is_asked_for(gpu):
    settings = {"cpu_fallback": "true"}
    engine = open_engine(DATA / "tiny_running.tflite", "tflite", delegate=gpu, settings=settings)
    at = engine.placement()
    assert (at.ops_offloaded, at.ops_total) == (1, 7)
    assert {one.op for one in at.fallback_ops} == {"ASSIGN_VARIABLE", "CALL_ONCE", "READ_VARIABLE", "VAR_HANDLE"}
    with pytest.raises(CheckFailed, match=r"6 of 7 operations did not run on litert-gpu"):
        require_placement(at)


def test_a_dynamic_shape_and_a_damaged_model(delegate):
    with pytest.raises(BadModel, match=r"'x' has the dynamic shape \[1, \?\]: litert-\wpu compiles for fixed shapes"):
        open_engine(DATA / "tiny_positions.tflite", "tflite", delegate=delegate)
    with pytest.raises(BadModel, match="LiteRT cannot load the model"):
        open_engine(b"no model at all" * 9, "tflite", delegate=delegate)


def test_settings_are_checked(delegate):
    with pytest.raises(UnknownName, match=f"setting of {delegate}"):
        open_engine(DATA / "tiny.tflite", "tflite", delegate=delegate, settings={"fp32": "true"})
    if delegate == "litert-npu":
        with pytest.raises(BadRecipe, match="device is 'tpu', not one of auto, cpu, gpu, npu"):
            open_engine(DATA / "tiny.tflite", "tflite", delegate=delegate, settings={"device": "tpu"})


def test_an_npu_that_is_not_there_is_a_failure_and_no_run_on_the_cpu(delegate):
    if delegate != "litert-npu" or any(Path("/dev/accel").glob("accel*")):
        pytest.skip("needs the NPU path and no NPU")
    with pytest.raises(DelegateFailed) as caught:
        open_engine(DATA / "tiny.tflite", "tflite", delegate=delegate, settings={"device": "npu"})
    assert "litert-npu cannot load tiny.tflite" in caught.value.message
    assert "npu_compiler_loader" in caught.value.message


def failure(code, **environment):
    """What a fresh process says: drivers and packages are looked for once."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGES, env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout


OPEN = """
import sys
from pathlib import Path
from edge.engines import open_engine
from edge.errors import EdgetoolError
try:
    open_engine(Path({model!r}), "tflite", delegate={delegate!r})
except EdgetoolError as error:
    print(type(error).__name__, error.message, error.hint)
"""


def test_no_driver_says_what_to_install(gpu):
    told = failure(OPEN.format(model=str(DATA / "tiny.tflite"), delegate=gpu), VK_DRIVER_FILES="/nonexistent")
    assert told.startswith("DelegateFailed Vulkan has no driver here")
    assert "mesa-vulkan-drivers" in told


def test_a_missing_plugin_says_what_to_install():
    code = "import sys\nsys.modules['ai_edge_litert_sdk_intel'] = None\n"
    hidden = "import importlib.util\nfind = importlib.util.find_spec\n"
    hidden += "importlib.util.find_spec = lambda name: None if name == 'openvino' else find(name)\n"
    told = failure(code + hidden + OPEN.format(model=str(DATA / "tiny.tflite"), delegate="litert-npu"))
    assert told.startswith("RuntimeMissing the OpenVINO plugin of LiteRT's NPU path is not installed")
    assert "pip install 'edgetool[litert-npu]'" in told
