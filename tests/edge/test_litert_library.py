"""External delegates: libraries that work, and each way in which one can fail, compiled here from one C file."""

import ctypes.util
import importlib.util
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edge.delegates import find_delegate, require_placement
from edge.engines import open_engine
from edge.engines.feeds import fixed
from edge.errors import CheckFailed, DelegateFailed, EnvironmentFailed, ProcessCrashed
from edge.runtime_process import RuntimeProcess

DATA = Path(__file__).parent / "data"
MODEL = DATA / "tiny_fallback.tflite"
HAS_LITERT = any(importlib.util.find_spec(name) for name in ("ai_edge_litert", "tflite_runtime"))
pytestmark = [
    pytest.mark.skipif(not HAS_LITERT, reason="LiteRT is not installed"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler (cc) to make a library with"),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Compiles delegate.c: what it is to do, to the path of the library."""
    folder = tmp_path_factory.mktemp("delegates")

    def compiled(does="WORKS", source=DATA / "delegate.c"):
        path = folder / f"lib{does.lower()}.so"
        if not path.exists():
            subprocess.run(["cc", "-shared", "-fPIC", "-w", f"-D{does}", "-o", path, source], check=True)
        return str(path)

    return compiled


def loaded(delegate, limit_s=60.0):
    with RuntimeProcess() as process:
        return process.load(MODEL, "tflite", delegate=delegate, limit_s=limit_s)


def the_cpu_still_works():
    with RuntimeProcess() as process:
        return process.load(MODEL, "tflite").placement.actual == "xnnpack"


def test_a_library_takes_its_operations_and_the_cpu_the_rest(library):
    path = library()
    engine, cpu = open_engine(MODEL, "tflite", delegate=path), open_engine(MODEL, "tflite")
    at = engine.placement()
    assert (at.requested, at.actual, at.ops_offloaded, at.ops_total, at.partitions) == (path, path, 1, 5, 1)
    assert [one.op for one in at.fallback_ops] == ["MUL", "ADD", "ARG_MAX", "TANH"]
    for seed in range(3):
        feeds = {name: values - 0.5 for name, values in fixed(cpu.inputs, seed).items()}
        for name, values in engine.run(feeds).items():
            np.testing.assert_allclose(values, cpu.run(feeds)[name], atol=1e-6)
    view = engine.views()["left"]
    engine.close()
    del engine  # the library lives as long as the view: freeing it in another order would crash
    view[...] = 1
    with pytest.raises(CheckFailed, match="4 of 5 operations did not run on"):
        require_placement(at)
    require_placement(at, {"MUL", "ADD", "ARG_MAX", "TANH"})


def test_settings_go_to_the_library_and_a_wrong_result_is_seen(library):
    feeds = fixed(open_engine(MODEL, "tflite").inputs)
    wrong = open_engine(MODEL, "tflite", delegate=library(), settings={"added": "1"}).run(feeds)["total"]
    right = open_engine(MODEL, "tflite").run(feeds)["total"]
    assert np.abs(wrong - right).max() > 0.01
    with pytest.raises(DelegateFailed, match="made no delegate: only 'added' can be set"):
        open_engine(MODEL, "tflite", delegate=library(), settings={"device": "usb:0"})


def test_a_library_that_is_not_there():
    with pytest.raises(DelegateFailed, match=r"/nowhere/libedge\.so cannot be loaded: .*No such file") as caught:
        loaded("/nowhere/libedge.so")
    assert caught.value.exit_code == 3
    assert the_cpu_still_works()


def test_a_library_that_is_no_delegate(library, tmp_path):
    source = tmp_path / "other.c"
    source.write_text("int answer(void) { return 42; }\n")
    with pytest.raises(DelegateFailed, match="is no LiteRT delegate: it has no function tflite_plugin_create_delegate"):
        loaded(library("OTHER", source))
    (tmp_path / "text.so").write_text("no library at all, but a text that is longer than the header of one: 64 bytes")
    with pytest.raises(DelegateFailed, match=r"text\.so cannot be loaded: .*invalid ELF header"):
        loaded(str(tmp_path / "text.so"))


def test_a_library_that_makes_no_delegate(library):
    with pytest.raises(DelegateFailed, match="made no delegate: no device was found"):
        loaded(library("MAKES_NONE"))


def test_a_library_that_does_not_take_the_model(library):
    with pytest.raises(DelegateFailed, match=r"does not take tiny_fallback\.tflite: .*firmware 1, the library wants 2"):
        loaded(library("REFUSES"))


def test_a_library_that_aborts(library):
    with pytest.raises(ProcessCrashed) as caught:
        loaded(library("ABORTS"))
    assert "was killed by SIGABRT while loading tiny_fallback.tflite" in caught.value.message
    assert caught.value.message.endswith("no device answers on any port")
    assert the_cpu_still_works()


def test_a_library_that_hangs(library):
    with pytest.raises(EnvironmentFailed, match=r"no answer within 2 s while loading tiny_fallback\.tflite"):
        loaded(library("HANGS"), limit_s=2.0)
    assert the_cpu_still_works()


def test_coral_without_its_library_says_what_to_install():
    if ctypes.util.find_library("edgetpu"):
        pytest.skip("Coral's library is installed here")
    with pytest.raises(DelegateFailed, match=r"libedgetpu\.so\.1 cannot be loaded") as caught:
        loaded("coral")
    assert "libedgetpu1-std" in caught.value.hint


def test_a_path_is_a_delegate_of_tflite_models_only():
    assert find_delegate("./libx.so", "tflite").library == "./libx.so"
    with pytest.raises(Exception, match=r"unknown delegate for \.onnx models"):
        find_delegate("./libx.so", "onnx")
