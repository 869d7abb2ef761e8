"""Who may come in: each person's templates, sealed, and bound to the model that made them."""

import base64
import binascii
import json
import re
import secrets
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device_apps.sealed_store import SealedStore
from edge.errors import BadData, BadInput

SCHEMA = "edgetool.person/1"
MAX_NAME = 64
Templates = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Person:
    """One enrolled person. `id` is random and says nothing of who it is; `templates` [n, dimensions] of length 1;
    `model_sha256` names the embedder that made them; `enrolled_at` in seconds since 1970.
    """

    id: str
    name: str
    templates: Templates
    model_sha256: str
    enrolled_at: float


@dataclass(frozen=True)
class Refused:
    """A record that is not used, and why."""

    id: str
    reason: str


def new_id() -> str:
    """A random id for a person, 64 bits."""
    return secrets.token_hex(8)


def checked_name(name: str) -> str:
    """`name` without surrounding space. Raises BadData: empty, too long, or with control characters."""
    stripped = name.strip()
    if not 0 < len(stripped) <= MAX_NAME or not stripped.isprintable():
        raise BadData(f"{name!r} is no name of a person", f"1 to {MAX_NAME} printable characters")
    return stripped


class People:
    """The enrolled people of one lock."""

    def __init__(self, store: SealedStore) -> None:
        self._store = store

    def add(self, person: Person) -> None:
        """Keep a person, in the place of the one with the same id. Raises EnvironmentFailed: it cannot be written."""
        templates = np.ascontiguousarray(person.templates, "<f4")
        record = {
            "schema": SCHEMA,
            "id": person.id,
            "name": checked_name(person.name),
            "model": person.model_sha256,
            "enrolled_at": person.enrolled_at,
            "shape": templates.shape,
            "templates": base64.b64encode(templates.tobytes()).decode(),
        }
        self._store.write(person.id, json.dumps(record).encode())

    def remove(self, person_id: str) -> None:
        """Revoke a person and delete the templates. Raises BadInput: there is none with this id."""
        self._store.delete(person_id)

    def load(self, model_sha256: str | None) -> tuple[tuple[Person, ...], tuple[Refused, ...]]:
        """All people whose templates `model_sha256` made (None: any model), and the records that are not used."""
        people, refused = [], []
        for person_id in self._store.names():
            try:
                person = _parsed(self._store.read(person_id), person_id)
            except (BadInput, BadData) as error:
                refused.append(Refused(person_id, error.message))
                continue
            if model_sha256 is not None and person.model_sha256 != model_sha256:
                other = f"the templates of {person.name} were made by another model ({person.model_sha256[:12]})"
                refused.append(Refused(person_id, f"{other}; this one is {model_sha256[:12]}: enrol again"))
                continue
            people.append(person)
        return tuple(people), tuple(refused)

    def find(self, name_or_id: str) -> Person:
        """The one person of that id or name.

        Raises:
            BadInput: there is none, or several have that name.

        """
        people, _ = self.load(None)
        found = [person for person in people if name_or_id in {person.id, person.name}]
        if len(found) != 1:
            what = "nobody is enrolled as" if not found else f"{len(found)} people are enrolled as"
            raise BadInput(f"{what} {name_or_id!r}", "`people` lists names and ids")
        return found[0]


def _parsed(content: bytes, person_id: str) -> Person:
    try:
        record = json.loads(content)
        whose = (record["schema"], record["id"])
        if whose != (SCHEMA, person_id) or not re.fullmatch(r"[0-9a-f]{64}", record["model"]):
            raise BadData(f"record {person_id} has schema and id {whose}")
        count, dimensions = (int(n) for n in record["shape"])
        raw = base64.b64decode(record["templates"], validate=True)
        templates = np.frombuffer(raw, "<f4").reshape(count, dimensions).astype(np.float32)
        if not count or not np.isfinite(templates).all():
            raise BadData(f"record {person_id} has no usable templates")
        return Person(
            record["id"], checked_name(record["name"]), templates, record["model"], float(record["enrolled_at"])
        )
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise BadData(f"record {person_id} cannot be read: {error}") from error
