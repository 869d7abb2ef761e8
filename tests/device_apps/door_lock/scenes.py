"""Faces of the shared data as a camera at a door would see them, and the models that look at them."""

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from device_apps.door_lock.detect import Picture
from device_apps.door_lock.match import Gallery
from device_apps.door_lock.models import TimedEngine
from device_apps.door_lock.policy import Models, Policy
from device_apps.door_lock.vision import Vision
from device_apps.model_file import ModelFile
from edge.engines import open_engine

FILES = {
    "detector": "yunet/yunet_n_320_320.onnx",
    "liveness": "antispoof_minifas/best_model.onnx",
    "embedder": "mobilefacenet/MobileFaceNet.tflite",
}
PLACEHOLDER = ModelFile("model.onnx", "0" * 64)
POLICY = Policy(Models(PLACEHOLDER, PLACEHOLDER, PLACEHOLDER))


def scene(shared_data: Path, person: int, number: int) -> Picture:
    """[480, 640, 3] with picture `number` (from 1) of a person of the ORL faces, 3 times enlarged, on grey."""
    small = cv2.imread(str(shared_data / f"faces/orl/s{person}/{number}.pgm"))
    picture = np.full((480, 640, 3), 110, np.uint8)
    picture[80:416, 180:456] = cv2.resize(small, (276, 336), interpolation=cv2.INTER_CUBIC)
    return picture


@lru_cache(maxsize=1)
def engines(shared_data: Path) -> dict[str, TimedEngine]:
    """The shared data's models, each in its own runtime: that is for tests, which convert nothing."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("ai_edge_litert")
    return {
        part: TimedEngine(open_engine(shared_data / "models" / file, file.rpartition(".")[2]))
        for part, file in FILES.items()
    }


def vision(shared_data: Path, gallery: Gallery | None = None) -> Vision:
    """All stages on real models."""
    return Vision(engines(shared_data), POLICY, gallery)
