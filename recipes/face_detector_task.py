"""The detector's task: to see what the float model sees, in pictures with one small face of the ORL set each.

What a detector's first output is worth by itself nobody can say: the labels are the float model's own answers, so that
its PSNR is the 100 dB of an exact copy. benchmarks/door_lock_faces.py compares the faces that are found.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from edge.engines import predict
from edge.preprocess import ArrayInput
from edgetool.data.examples import ArrayExamples
from edgetool.metrics import metric
from edgetool.task import Task
from recipes.faces import JUDGED, published, still

SIDE = 320
STILLS = (1, 4, 7)
PEOPLE = {"train": range(1, 9), "val": range(9, 16), "test": JUDGED}


def task(people: Mapping[str, range] = PEOPLE) -> Task:
    """Pictures [3, 320, 320] BGR 0..255 to `cls_8` [1600, 1] of the float model; groups are people."""
    steps = {"input": ArrayInput(dtype="float32")}
    engine = published("yunet")
    splits = {}
    for name, own in people.items():
        pictures = np.stack([scene(person, number) for person in own for number in STILLS])
        answers = [predict(engine, {"input": picture[None]})["cls_8"] for picture in pictures]
        labels = np.clip(np.concatenate(answers), 0, 1)
        groups = np.repeat(np.arange(len(own)), len(STILLS))
        splits[name] = ArrayExamples({"input": pictures}, labels, steps, groups)
    return Task("face_detector", splits["train"], splits["val"], splits["test"], metric("psnr"), steps, ())


def scene(person: int, number: int) -> npt.NDArray[np.float32]:
    """A still, 40 to 200 pixels high, somewhere on an even wall: [3, 320, 320]."""
    import cv2

    rng = np.random.default_rng([person, number])
    height = int(rng.integers(40, 200))
    small = cv2.resize(still(person, number), (round(height * 92 / 112), height), interpolation=cv2.INTER_AREA)
    picture = np.full((SIDE, SIDE, 3), rng.integers(60, 180), np.uint8)
    top, left = rng.integers(0, SIDE - height, 2)
    picture[top : top + height, left : left + small.shape[1]] = small
    return np.asarray(picture.transpose(2, 0, 1), np.float32)
