"""The assistant starts fast: it loads no host library, no runtime and no server before it needs it."""

from pathlib import Path

import device_apps.voice_assistant
from tests.device_apps.test_light import HOST
from tests.edge.test_core_is_light import loaded_by

ROOM = Path(device_apps.voice_assistant.__file__).parent
MODULES = sorted(path.stem for path in ROOM.glob("*.py") if path.stem not in {"__init__", "__main__"})
LATE = {"ai_edge_litert", "onnxruntime", "fastapi", "uvicorn", "cv2", "sounddevice", "pymicro_features", "pocketsphinx"}


def test_no_module_loads_a_host_library_or_a_runtime() -> None:
    assert len(MODULES) > 20
    found = loaded_by("\n".join(f"import device_apps.voice_assistant.{name}" for name in MODULES))
    assert not found & {*HOST, *LATE, "hassil", "paho", "wyoming"}
