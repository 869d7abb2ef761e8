"""A search that really makes its files: the diabetes model quantized in eight ways, without training."""

import dataclasses
from functools import lru_cache
from pathlib import Path

from edge.target import this_machine
from edgetool.candidates import baseline_sequences, make
from edgetool.conversion_worker import ConversionWorker, describe_model, load_source
from edgetool.passes.post_training import Dynamic, Float16, Int8, Int16x8
from edgetool.progress import Silent
from edgetool.recipe import Recipe, TaskSource
from edgetool.results import Results
from edgetool.search.space import Axis, Space
from edgetool.search.trial import Job
from tests.conftest import REPOSITORY

SPACE = Space(
    "tflite",
    (
        Axis(
            "quantize",
            (
                (Float16(),),
                (Dynamic(),),
                *((Int8(samples=n),) for n in (8, 16, 32, 64)),
                *((Int16x8(samples=n),) for n in (8, 16)),
            ),
        ),
    ),
)


@lru_cache(maxsize=1)
def job(folder: Path) -> Job:
    """A trial's job whose model is the float32 .tflite of recipes/models/diabetes.keras, made in `folder`."""
    recipe = Recipe(REPOSITORY / "recipes/models/diabetes.keras", TaskSource("diabetes"), this_machine())
    with ConversionWorker() as worker:
        keras, _, _ = worker.call(describe_model, recipe.model, False)
        task = load_source(recipe.task, keras)
        passes = baseline_sequences(keras, ("litert",))["tflite"]
        made = make("float32", passes, keras, recipe, task.sha256, Results(folder), worker, Silent())
    model = dataclasses.replace(made.artifact, steps=())
    return Job(0, (), 1.0, (), recipe, model, model, task.sha256, 1.0)
