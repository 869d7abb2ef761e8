"""A search that really makes its files: a small classifier quantized in eight ways, without training or TensorFlow."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from edge.target import this_machine
from edgetool.conversion_worker import load_source
from edgetool.passes.post_training import Dynamic, Float16, Int8
from edgetool.recipe import Recipe, TaskSource
from edgetool.search.space import Axis, Space
from edgetool.search.trial import Job
from tests import models

SPACE = Space(
    "onnx",
    (
        Axis(
            "quantize",
            (
                (Float16(),),
                (Dynamic(),),
                *((Int8(samples=n),) for n in (8, 16, 32, 64)),
                (Int8(samples=64, calibration="percentile"),),
                (Int8(samples=64, calibration="entropy"),),
            ),
        ),
    ),
)


@lru_cache(maxsize=1)
def job(folder: Path) -> Job:
    """A trial's job: an .onnx of 16 features and 4 classes, and data in `folder`, labelled by the model itself."""
    from convert.load import describe
    from edgetool.judge import run_on

    model = describe(models.onnx_mlp())
    rows = np.random.default_rng(0).normal(size=(240, 16)).astype(np.float32)
    scores = run_on(model, {model.inputs[0].name: rows})[model.outputs[0].name]
    labels = scores.argmax(axis=1)
    data = folder / "data.npz"
    np.savez(data, x_train=rows[:120], y_train=labels[:120], x_test=rows[120:], y_test=labels[120:])
    recipe = Recipe(model.path, TaskSource(str(data)), this_machine())
    return Job(0, (), 1.0, (), recipe, model, model, load_source(recipe.task, model).sha256, 1.0)
