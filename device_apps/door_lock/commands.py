"""What the command line does beside running: settings, calibration, people, PINs, the audit record."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from device_apps import audit
from device_apps.clock import Clock
from device_apps.door_lock.calibrate import calibrate, embeddings_of, trials
from device_apps.door_lock.camera import Camera
from device_apps.door_lock.enrol import Advice, Enrolment, resemblances
from device_apps.door_lock.match import Calibration, read_calibration, write_calibration
from device_apps.door_lock.people import Person, checked_name, new_id
from device_apps.door_lock.policy import AuditRules, Models, Policy
from device_apps.door_lock.recogniser import open_vision
from device_apps.door_lock.source import open_source
from device_apps.door_lock.state import State
from device_apps.durable import write_whole
from device_apps.model_file import ModelFile
from edge.artifact import sha256_of
from edge.errors import BadData, BadInput, BadModel, CheckFailed

ENROL_S = 60.0


def initialise(state: State, files: dict[str, Path], *, replace: bool, anchor: Path | None = None) -> Policy:
    """Copy the models into the state, check that they are what they should be, and write the settings.

    `anchor` is a file that is to keep the audit record's head too; it need not be there yet.

    Raises:
        BadInput: there are settings already.
        BadModel: a file is missing, or is no such model.

    """
    if state.policy.exists() and not replace:
        raise BadInput(f"{state.policy} exists", "--replace writes it anew; the people stay")
    folder = state.folder / "models"
    for path in files.values():
        if not path.is_file():
            raise BadModel(f"no model file at {path}")
    hashes = {part: sha256_of(path) for part, path in files.items()}
    given = {part: ModelFile(str(path.resolve()), hashes[part]) for part, path in files.items()}
    open_vision(Policy(_models(given)), folder).close()  # before anything that is there is written over
    folder.mkdir(mode=0o700, exist_ok=True)
    named = {part: ModelFile(part + path.suffix.lower(), hashes[part]) for part, path in files.items()}
    for part, path in files.items():
        write_whole(folder / named[part].file, path.read_bytes())
    policy = Policy(_models(named), audit=AuditRules("" if anchor is None else str(anchor.expanduser().resolve())))
    lines = ["[models]", *(f'{part} = {{ file = "{m.file}", sha256 = "{m.sha256}" }}' for part, m in named.items())]
    lines += ["", "[access]", "face_alone = false  # a face needs its PIN: what fools a plain camera fools no PIN"]
    if anchor is not None:
        lines += ["", "[audit]", f"anchor = {json.dumps(policy.audit.anchor)}"]
    write_whole(state.policy, ("\n".join(lines) + "\n").encode())
    return policy


def _models(files: Mapping[str, ModelFile]) -> Models:
    return Models(files["detector"], files["liveness"], files["embedder"])


def calibrated(
    state: State,
    policy: Policy,
    faces: Path,
    fmr: float,
    progress: Callable[[str], None],
    feedback: Path | None = None,
) -> Calibration:
    """Calibrate the embedder on a folder of folders of faces, and keep the threshold. Raises as `calibrate`.

    The living people of an export of feedback count beside them.
    """
    vision = open_vision(policy, state.folder / "models")
    try:
        people = embeddings_of(faces, vision, progress)
        if feedback is not None:
            people |= embeddings_of(feedback / "faces", vision, progress, fewest=1)
        found = trials(people)
    finally:
        vision.close()
    calibration = calibrate(found, policy.models.embedder.sha256, fmr)
    write_calibration(state.calibration, calibration)
    return calibration


def enrol(
    state: State, policy: Policy, name: str, camera: str, clock: Clock, advise: Callable[[Advice], None]
) -> tuple[Person, tuple[str, ...]]:
    """As `enrol_from`, with a camera that is opened for it."""
    open_source(camera, policy.camera.fps).close()  # what cannot be opened is said at once
    frames = Camera(lambda: open_source(camera, policy.camera.fps), clock)
    try:
        return enrol_from(state, policy, name, frames, clock, advise, begin=frames.start)
    finally:
        frames.stop()


def enrol_from(
    state: State,
    policy: Policy,
    name: str,
    frames: Camera,
    clock: Clock,
    advise: Callable[[Advice], None],
    *,
    begin: Callable[[], None] = lambda: None,
) -> tuple[Person, tuple[str, ...]]:
    """Guide somebody through the shots, check against the others, and keep the templates; and the warnings.

    `begin` is called once the models are open: a film must not be over by then.

    Raises:
        BadData: not enough good shots came in time, or the face is that of somebody who is enrolled.
        BadInput, EnvironmentFailed: the camera, the models or the state cannot be opened.

    """
    name = checked_name(name)
    people = state.people()
    enrolled, _ = people.load(policy.models.embedder.sha256)
    if any(person.name == name for person in enrolled):
        raise BadInput(f"{name} is enrolled already", "`people remove` comes first, or give another name")
    calibration = read_calibration(state.calibration, policy.models.embedder.sha256)
    vision = open_vision(policy, state.folder / "models")
    enrolment = Enrolment(calibration.threshold)
    begin()
    until = time.monotonic() + ENROL_S
    said, number = "", 0
    try:
        while not enrolment.is_complete and time.monotonic() < until:
            frame = frames.newer_than(number, 0.2)
            if frame is None and frames.ended:
                break
            if frame is None:
                continue
            number = frame.number
            advice = enrolment.offer(*vision.look(frame.picture, frame.captured_s))
            if advice.outcome != "not taken" or advice.text != said:
                advise(advice)
            said = advice.text
    finally:
        vision.close()
    if not enrolment.is_complete:
        raise BadData(
            f"{name} is not enrolled: too few good shots ({said or 'no picture'})", "try again, in good light"
        )
    templates = enrolment.templates()
    near = resemblances(templates, enrolled, calibration.threshold)
    for one in near:
        if one.is_duplicate:
            raise BadData(
                f"{name} is not enrolled: the lock would take this face for {one.person.name} ({one.similarity:.3f}, "
                f"the threshold is {calibration.threshold:.3f})",
                "revoke the other enrolment, or let this person use a PIN",
            )
    person = Person(new_id(), name, templates, policy.models.embedder.sha256, clock.wall())
    people.add(person)
    state.recorder(clock).append("enrolled", {"person": person.id, "shots": len(templates)})
    return person, tuple(f"looks like {one.person.name} ({one.similarity:.3f})" for one in near)


def remove(state: State, name: str, clock: Clock) -> Person:
    """Revoke a person and the PIN. Raises BadInput: there is no such person."""
    people = state.people()
    person = people.find(name)
    people.remove(person.id)
    state.pins().remove(person.id)
    state.recorder(clock).append("revoked", {"person": person.id})
    return person


def people_table(state: State, policy: Policy | None) -> list[dict[str, Any]]:
    """Everybody who is enrolled, and the records that are refused, as plain data."""
    people, refused = state.people().load(policy.models.embedder.sha256 if policy is not None else None)
    holders = set(state.pins().holders())
    rows: list[dict[str, Any]] = [
        {"id": one.id, "name": one.name, "shots": len(one.templates), "pin": one.id in holders, "refused": None}
        for one in people
    ]
    return rows + [{"id": one.id, "name": None, "shots": 0, "pin": False, "refused": one.reason} for one in refused]


def set_pin(state: State, name: str, pin: str, clock: Clock) -> Person:
    """Give a person a PIN. Raises BadData: it is no PIN; BadInput: there is no such person."""
    person = state.people().find(name)
    state.pins().set(person.id, pin)
    state.recorder(clock).append("pin set", {"person": person.id})
    return person


def verify_audit(state: State, second: Path | None, more: tuple[audit.Anchor, ...] = ()) -> audit.Head:
    """Check the record against its chain and anchors: those of the state, and `more`.

    Raises:
        CheckFailed: it was changed or cut off, or there is none.
        BadInput: it cannot be read.

    """
    if not state.audit.exists():
        raise CheckFailed(f"there is no record at {state.audit}", "a lock that has run has one")
    return audit.verify(state.audit, state.audit_key(), (*state.anchors(second), *more))


def as_json(value: Any) -> str:
    """A dataclass or plain data as JSON."""
    return json.dumps(dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value, indent=2)  # type: ignore[arg-type]  # an instance, never a class
