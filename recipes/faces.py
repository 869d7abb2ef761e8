"""What the recipes of the door lock's models are judged on: the ORL faces in `EDGETOOL_DATA`, 10 stills of 30 people.

Samaria and Harter, "Parameterisation of a stochastic model for human face identification", WACV 1994; credit to the
Olivetti Research Laboratory. People 1 to 15 are for calibration and choice, 16 to 30 are what a figure is judged on.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device_apps.door_lock.align import align
from device_apps.door_lock.detect import FaceDetector, Picture
from device_apps.door_lock.source import bounded, decoded
from edge.engines import Engine, open_engine
from edge.errors import BadData
from edgetool.weights import get, known, weights_folder

CALIBRATION, JUDGED = range(1, 16), range(16, 31)
STILLS = range(1, 11)
MIN_SIDE = 320  # stills of 92 x 112 are enlarged to it, as by `door-lock calibrate`


def orl() -> Path:
    """The folder of the faces. Raises BadData: `EDGETOOL_DATA` does not hold them."""
    data = os.environ.get("EDGETOOL_DATA")
    folder = Path(data or "") / "faces" / "orl"
    if not data or not folder.is_dir():
        raise BadData(f"there are no faces/orl in EDGETOOL_DATA ({data or 'not set'})", "a folder s1, s2, … a person")
    return folder


def missing() -> str | None:
    """Why nothing can be judged here; None where the faces are there."""
    try:
        orl()
    except BadData as error:
        return error.message
    return None


def still(person: int, number: int) -> Picture:
    """One still, grey as BGR [h, w, 3], its longer side at least 320 pixels."""
    return bounded(decoded(orl() / f"s{person}" / f"{number}.pgm"), MIN_SIDE)


def published(name: str) -> Engine:
    """An engine on the float weights that were published, brought if need be. Raises as `edgetool.weights.get`."""
    path = get(known(name), weights_folder())
    return open_engine(path, path.suffix[1:])


def aligned(people: Sequence[int], stills: Sequence[int]) -> npt.NDArray[np.uint8]:
    """The best face of each still, upright, BGR [people * stills, 112, 112, 3], person by person.

    Raises:
        BadData: a still without a face.

    """
    return aligned_by(published("yunet"), people, stills)


def aligned_by(engine: Engine, people: Sequence[int], stills: Sequence[int]) -> npt.NDArray[np.uint8]:
    """As `aligned`, with the detector on `engine`."""
    detector = FaceDetector(engine)
    found = []
    for person in people:
        for number in stills:
            picture = still(person, number)
            faces = detector(picture)
            if not faces:
                raise BadData(f"no face is found in still {number} of person {person}")
            found.append(align(picture, faces[0].landmarks))
    return np.stack(found)


def as_embedder_takes(faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Upright faces, BGR [n, 112, 112, 3], to what the embedder takes: RGB from -1 to 1."""
    return np.asarray(faces[..., ::-1].astype(np.float32) / np.float32(127.5) - np.float32(1))
