"""The device side starts fast and loads no host library."""

import subprocess
import sys
from pathlib import Path

import pytest

import edge

HOST = ("tensorflow", "keras", "tf_keras", "onnx", "tf2onnx", "typer", "rich", "cv2", "compress", "convert", "edgetool")
MODULES = sorted(
    path.stem for path in Path(edge.__file__).parent.glob("*.py") if path.stem not in ("__init__", "__main__")
)


def loaded_by(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", MODULES)
def test_no_module_of_the_core_loads_a_host_library_or_a_runtime(module: str) -> None:
    found = loaded_by(f"import edge.{module}")
    assert not found & {*HOST, "ai_edge_litert", "onnxruntime", "cryptography", "tuf"}


def test_help_needs_no_numpy() -> None:
    code = "import runpy, sys, contextlib\nsys.argv = ['edge', '--help']\n"
    code += "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(None):\n"
    code += "    runpy.run_module('edge', run_name='__main__')"
    assert "numpy" not in loaded_by(code)
