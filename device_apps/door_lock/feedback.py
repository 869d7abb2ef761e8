"""What was called wrong, labelled by a person, and handed on to recalibration and retraining. Nothing learns here.

An export is a folder:

- `faces/WHO/CASE.png`: pictures of living people, a folder for each person (by id) and each stranger: what `calibrate`
  takes beside its own (`--feedback`);
- `spoof/CASE.png`: pictures of what was held before the camera;
- `feedback.json`: of each case its picture, its label, the face's box, and what the lock had made of it: what the
  recipes' tasks take (`EDGETOOL_FEEDBACK`).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from device_apps.door_lock.detect import Picture
from device_apps.door_lock.people import People
from device_apps.door_lock.policy import Policy
from device_apps.door_lock.state import State
from device_apps.durable import failed, write_whole
from device_apps.feedback import Case, Quarantine
from device_apps.sealed_store import SealedStore
from edge.errors import BadData, BadInput

SCHEMA = "edgetool.door-lock.feedback/1"
LIST = "feedback.json"
STRANGER, SPOOF = "stranger", "spoof"


def quarantine(state: State) -> Quarantine:
    """The cases of a lock."""
    return Quarantine(SealedStore(state.folder / "quarantine", state.key.key, "quarantine"))


def label(cases: Quarantine, people: People, case: str, what: str) -> str:
    """Say that a case was a stranger, a spoof, or an enrolled person (by name or id); the label as it is kept.

    Raises:
        BadInput: there is no such case, or nobody of that name.

    """
    kept = what if what in {STRANGER, SPOOF} else people.find(what).id
    cases.label(case, kept)
    return kept


def export(state: State, policy: Policy, folder: Path) -> int:
    """Write every labelled case to a folder that is new or empty, and how many there were.

    Raises:
        BadInput: no case is labelled, one is damaged, or the folder holds something.
        EnvironmentFailed: it cannot be written.

    """
    cases = [case for case in quarantine(state).cases() if case.label is not None]
    if not cases:
        raise BadInput("no case is labelled yet", "`label` lists them; `label CASE WHAT` says what it was")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder} is there and not empty", "give a new folder")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise failed(folder, error) from error
    entries = [_written(case, folder) for case in cases]
    models = {part: getattr(policy.models, part).sha256 for part in ("detector", "liveness", "embedder")}
    text = json.dumps({"schema": SCHEMA, "models": models, "cases": entries}, indent=2)
    write_whole(folder / LIST, text.encode() + b"\n")
    return len(cases)


@dataclass(frozen=True)
class Labelled:
    """One exported case: its picture, its label, and the box of the face where one was seen."""

    picture: Picture
    label: str
    box: tuple[float, float, float, float] | None

    @property
    def is_spoof(self) -> bool:
        """Whether it was no living person."""
        return self.label == SPOOF


def exported(folder: Path) -> tuple[Labelled, ...]:
    """The cases of an export. Raises BadData: it is none, or damaged."""
    try:
        record = json.loads((folder / LIST).read_text())
        if record["schema"] != SCHEMA:
            raise BadData(f"{folder / LIST} has the schema {record['schema']!r}, not {SCHEMA}")
        return tuple(_read(folder, entry) for entry in record["cases"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadData(f"{folder} is no export of feedback: {error}", "`export-feedback FOLDER` makes one") from error


def _written(case: Case, folder: Path) -> dict[str, Any]:
    name = case.label if case.label != STRANGER else f"{STRANGER}-{case.name}"
    where = Path(SPOOF) if case.label == SPOOF else Path("faces") / str(name)
    path = where / f"{case.name}.png"
    picture = cv2.imdecode(np.frombuffer(case.jpeg, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise BadInput(f"the picture of the case {case.name} is damaged", "delete the case")
    try:
        (folder / where).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise failed(folder / where, error) from error
    write_whole(folder / path, cv2.imencode(".png", picture)[1].tobytes())
    faces = case.event.get("faces") or []
    seen = {key: case.event.get(key) for key in ("at", "outcome", "person", "similarity", "live")}
    box = faces[0] if len(faces) == 1 else None
    return {"case": case.name, "label": case.label, "picture": str(path), "box": box, "seen": seen}


def _read(folder: Path, entry: dict[str, Any]) -> Labelled:
    content = np.frombuffer((folder / entry["picture"]).read_bytes(), np.uint8)
    picture = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    if picture is None:
        raise ValueError(f"{entry['picture']} is no picture")
    box = entry["box"]
    if box is None:
        return Labelled(np.asarray(picture, np.uint8), str(entry["label"]), None)
    left, top, width, height = (float(value) for value in box)
    return Labelled(np.asarray(picture, np.uint8), str(entry["label"]), (left, top, width, height))
