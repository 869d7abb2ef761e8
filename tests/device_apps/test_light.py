"""The apps start fast, and load no host library and no runtime before they need it."""

from pathlib import Path

import pytest

import device_apps
from tests.edge.test_core_is_light import loaded_by

ROOM = Path(device_apps.__file__).parent
HOST = {
    "tensorflow",
    "keras",
    "tf_keras",
    "onnx",
    "tf2onnx",
    "typer",
    "rich",
    "sklearn",
    "compress",
    "convert",
    "edgetool",
}
SHARED = sorted(path.stem for path in ROOM.glob("*.py") if path.stem != "__init__")
LOCK = sorted(path.stem for path in (ROOM / "door_lock").glob("*.py") if path.stem not in {"__init__", "__main__"})


@pytest.mark.parametrize("module", [*SHARED, *(f"door_lock.{name}" for name in LOCK)])
def test_no_module_loads_a_host_library_or_a_runtime(module: str) -> None:
    found = loaded_by(f"import device_apps.{module}")
    assert not found & {*HOST, "ai_edge_litert", "onnxruntime", "fastapi", "gpiozero"}


def test_what_both_apps_need_loads_no_opencv() -> None:
    assert "cv2" not in loaded_by("\n".join(f"import device_apps.{name}" for name in SHARED))


def test_help_needs_neither_opencv_nor_numpy() -> None:
    code = "import runpy, sys, contextlib\nsys.argv = ['door-lock', '--help']\n"
    code += "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(None):\n"
    code += "    runpy.run_module('device_apps.door_lock', run_name='__main__')"
    assert not loaded_by(code) & {"numpy", "cv2", "cryptography"}
