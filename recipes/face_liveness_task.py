"""The anti-spoof model's task: people and rendered attacks apart, of faces that others are judged on.

Where `EDGETOOL_FEEDBACK` names an export of the lock's feedback (`door-lock export-feedback`), its cases count in the
training split, and nowhere else.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from device_apps.door_lock.detect import FaceDetector
from device_apps.door_lock.feedback import exported
from device_apps.door_lock.liveness import surroundings
from edge.preprocess import ArrayInput
from edgetool.data.examples import ArrayExamples
from edgetool.metrics import metric
from edgetool.task import Task
from recipes.faces import published, still
from recipes.presentations import ATTACKS, live

SIDE = 128
STILLS = (1, 5)
PEOPLE = {"train": range(1, 6), "val": range(6, 16), "test": range(16, 31)}


def task(people: Mapping[str, range] = PEOPLE) -> Task:
    """Surroundings of faces [3, 128, 128] RGB 0..1, labels 0 real, 1 spoof; groups are people."""
    steps = {"input": ArrayInput(dtype="float32")}
    detector = FaceDetector(published("yunet"))
    splits = {name: _presented(own, detector, steps) for name, own in people.items()}
    if os.environ.get("EDGETOOL_FEEDBACK"):
        splits["train"] = with_feedback(splits["train"], Path(os.environ["EDGETOOL_FEEDBACK"]))
    return Task(
        "face_liveness", splits["train"], splits["val"], splits["test"], metric("auc"), steps, ("real", "spoof")
    )


def with_feedback(examples: ArrayExamples, folder: Path) -> ArrayExamples:
    """The examples and the cases of an export of feedback with one face, each a group of its own.

    Raises:
        BadData: the folder is no such export.

    """
    cases = [(case, case.box) for case in exported(folder) if case.box is not None]
    crops = [surroundings(case.picture, box, SIDE)[..., ::-1].transpose(2, 0, 1) for case, box in cases]
    inputs = np.stack(crops).astype(np.float32) / np.float32(255) if crops else examples.arrays["input"][:0]
    targets = np.array([int(case.is_spoof) for case, _ in cases], examples.targets.dtype)
    first = 0 if examples.groups is None else int(examples.groups.max()) + 1
    groups = np.arange(first, first + len(cases))
    return ArrayExamples(
        {"input": np.concatenate([examples.arrays["input"], inputs])},
        np.concatenate([examples.targets, targets]),
        examples.steps,
        None if examples.groups is None else np.concatenate([examples.groups, groups]),
    )


def _presented(people: range, detector: FaceDetector, steps: dict[str, ArrayInput]) -> ArrayExamples:
    inputs, labels, groups = [], [], []
    for person in people:
        for number in STILLS:
            for species, render in enumerate((live, *ATTACKS.values())):
                picture = render(still(person, number), np.random.default_rng([person, number, species]))
                for face in detector(picture)[:1]:
                    crop = surroundings(picture, face.box, SIDE)[..., ::-1].transpose(2, 0, 1)
                    inputs.append(crop.astype(np.float32) / np.float32(255))
                    labels.append(int(species > 0))
                    groups.append(person)
    return ArrayExamples({"input": np.stack(inputs)}, np.array(labels), steps, np.array(groups))
