"""The threshold for an embedder, from pictures of people who are not those that will be enrolled."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from device_apps.door_lock.align import align
from device_apps.door_lock.embed import Embedding
from device_apps.door_lock.match import Calibration, threshold_for, wilson_upper
from device_apps.door_lock.people import Templates
from device_apps.door_lock.source import bounded, decoded
from device_apps.door_lock.vision import Vision
from edge.errors import BadData
from edge.image import SUFFIXES

MIN_SIDE = 320  # smaller pictures are enlarged to it: a detector looks for faces of at least 10 pixels in 320


@dataclass(frozen=True)
class Trials:
    """Similarities of faces to galleries as the lock forms them: the nearest template counts."""

    genuine: tuple[float, ...]
    impostor: tuple[float, ...]
    people: int


def embeddings_of(
    faces: Path, vision: Vision, progress: Callable[[str], None], fewest: int = 2
) -> dict[str, Templates]:
    """The embeddings [n, dimensions] of each person of a folder of folders of pictures, in the order of their names.

    Who has fewer than `fewest` usable pictures is left out; one alone is held against the others' galleries.

    Raises:
        BadData: fewer than `fewest` people with so many usable pictures each.

    """
    found: dict[str, Templates] = {}
    for folder in sorted(path for path in faces.iterdir() if path.is_dir()) if faces.is_dir() else ():
        vectors = list(_embedded(folder, vision))
        progress(f"{folder.name}: {len(vectors)} faces")
        if len(vectors) >= fewest:
            found[folder.name] = np.stack(vectors)
    if len(found) < fewest:
        what = "two usable pictures" if fewest > 1 else "a usable picture"
        raise BadData(f"{faces} holds {len(found)} people with {what}", "a folder for each person")
    return found


def trials(embeddings: Mapping[str, Templates]) -> Trials:
    """Each person's first half of pictures is a gallery; the second half is held against everybody's galleries."""
    galleries = {name: vectors[: len(vectors) // 2] for name, vectors in embeddings.items() if len(vectors) > 1}
    genuine: list[float] = []
    impostor: list[float] = []
    for name, vectors in embeddings.items():
        for probe in vectors[len(vectors) // 2 :]:
            for other, gallery in galleries.items():
                (genuine if other == name else impostor).append(float((gallery @ probe).max()))
    return Trials(tuple(genuine), tuple(impostor), len(embeddings))


def calibrate(found: Trials, model_sha256: str, fmr: float) -> Calibration:
    """The threshold at which at most a fraction `fmr` of the impostors' trials match.

    The interval treats trials as independent, which those of one person are not: it is narrower than the truth.

    Raises:
        BadInput: there are too few trials for this rate.
        BadData: the threshold is no similarity between 0 and 1: the embedder does not tell these people apart.

    """
    threshold = threshold_for(found.impostor, fmr)
    matched = sum(score >= threshold for score in found.impostor)
    missed = sum(score < threshold for score in found.genuine)
    if not 0 < threshold < 1:
        raise BadData(f"a threshold of {threshold:.3f} tells nobody apart", "is it the right model?")
    return Calibration(
        threshold=threshold,
        model_sha256=model_sha256,
        fmr=fmr,
        fmr_upper95=wilson_upper(matched, len(found.impostor)),
        fnmr=missed / len(found.genuine),
        impostor_trials=len(found.impostor),
        genuine_trials=len(found.genuine),
        people=found.people,
    )


def _embedded(folder: Path, vision: Vision) -> Iterator[Embedding]:
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES):
        try:
            picture = bounded(decoded(path), MIN_SIDE)
        except BadData:
            continue
        faces = vision.faces(picture)
        if faces:
            yield vision.embed(align(picture, faces[0].landmarks))
