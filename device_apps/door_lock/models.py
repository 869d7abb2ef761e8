"""Models by pinned hash: checked before a runtime parses a byte of them, all three in one runtime."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from device_apps.door_lock.policy import Models
from device_apps.model_file import checked_model
from edge.engines import Engine, Feeds, open_engine
from edge.errors import BadModel
from edge.report import Placement
from edge.tensors import TensorSpec


class TimedEngine:
    """An engine that adds up the time inside its run calls, in milliseconds."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name, self.inputs, self.outputs = engine.name, engine.inputs, engine.outputs
        self.run_ms = 0.0

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, feeds: Feeds) -> dict[str, npt.NDArray[Any]]:
        started = time.perf_counter()
        try:
            return self._engine.run(feeds)
        finally:
            self.run_ms += (time.perf_counter() - started) * 1000

    def views(self) -> dict[str, npt.NDArray[Any]]:
        return self._engine.views()

    def reset(self) -> None:
        self._engine.reset()

    def placement(self) -> Placement:
        return self._engine.placement()

    def close(self) -> None:
        self._engine.close()


def open_models(models: Models, folder: Path) -> Mapping[str, TimedEngine]:
    """The engines "detector", "liveness" and "embedder"; the files are looked for in `folder`.

    Raises:
        CheckFailed: a file has another hash than the settings say.
        BadModel: a file is missing, of no format that runs, or the three need more than one runtime.
        EnvironmentFailed: the runtime or the delegate is not there.

    """
    files = {"detector": models.detector, "liveness": models.liveness, "embedder": models.embedder}
    found = {part: checked_model(file, folder) for part, file in files.items()}
    formats = {part: model.format for part, model in found.items()}
    if len(set(formats.values())) > 1:
        named = ", ".join(f"{part} {model_format}" for part, model_format in formats.items())
        raise BadModel(f"one runtime runs all three models, but these need two: {named}", "edgetool convert --to onnx")
    opened: dict[str, TimedEngine] = {}
    plain = models.delegate == "cpu" and "onnx" in formats.values()
    settings = {"memory_pattern": "false"} if plain else {}  # 13 MB less for three models, at the same speed
    try:
        for part, model in found.items():
            engine = open_engine(
                model.content, model.format, threads=models.threads, delegate=models.delegate, settings=settings
            )
            opened[part] = TimedEngine(engine)
    except Exception:
        for engine in opened.values():
            engine.close()
        raise
    return opened
