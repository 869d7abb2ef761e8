"""The embedder's task: how near a face is to the template of its person, made by the float model of other stills."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from edge.engines import predict
from edge.preprocess import ArrayInput
from edgetool.data.examples import ArrayExamples
from edgetool.metrics import metric
from edgetool.task import Task
from recipes.faces import JUDGED, aligned, as_embedder_takes, published

GALLERY, PROBES = (1, 2, 3), (6, 7, 8, 9)
PEOPLE = {"train": range(1, 9), "val": range(9, 16), "test": JUDGED}


def templates(people: range) -> npt.NDArray[np.float32]:
    """The mean direction of each person's gallery by the float model: [people, 192]."""
    engine = published("mobilefacenet")
    faces = as_embedder_takes(aligned(people, GALLERY))
    padded = np.concatenate([faces, faces[-1:]])  # the published model takes two at a time
    name = engine.outputs[0].name
    found = [predict(engine, {engine.inputs[0].name: padded[i : i + 2]})[name] for i in range(0, len(faces), 2)]
    engine.close()
    vectors = np.concatenate(found)[: len(faces)]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors.reshape(len(people), len(GALLERY), -1).mean(axis=1), np.float32)


def task(people: Mapping[str, range] = PEOPLE) -> Task:
    """Faces [112, 112, 3] RGB -1..1, labels [192]; groups are people. `train` calibrates, `val` chooses."""
    steps = {"input": ArrayInput(dtype="float32")}
    splits = {
        name: ArrayExamples(
            {"input": as_embedder_takes(aligned(own, PROBES))},
            np.repeat(templates(own), len(PROBES), axis=0),
            steps,
            np.repeat(np.arange(len(own)), len(PROBES)),
        )
        for name, own in people.items()
    }
    return Task("face_embedder", splits["train"], splits["val"], splits["test"], metric("cosine"), steps, ())
