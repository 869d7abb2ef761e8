"""Cases that somebody called wrong: kept apart, sealed, until a person labels them; nothing learns by itself."""

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from device_apps.sealed_store import SealedStore
from edge.errors import BadInput

SCHEMA = "edgetool.case/1"
MAX_CASES = 200


class Quarantine:
    """The cases of one app, each the event in question and the picture (JPEG) that it was decided on."""

    def __init__(self, store: SealedStore) -> None:
        self._store = store

    def __len__(self) -> int:
        return len(self._store.names())

    def add(self, event: Mapping[str, Any], jpeg: bytes) -> str:
        """Keep a case, and its id. Raises BadInput: 200 wait already; EnvironmentFailed: it cannot be written."""
        if len(self) >= MAX_CASES:
            raise BadInput(f"{MAX_CASES} cases wait to be labelled", "label or delete some first")
        case = secrets.token_hex(8)
        record = {"schema": SCHEMA, "event": dict(event), "label": None, "jpeg": base64.b64encode(jpeg).decode()}
        self._store.write(case, json.dumps(record).encode())
        return case

    def case(self, case: str) -> tuple[dict[str, Any], bytes]:
        """The event and the picture of a case. Raises BadInput: there is none, or it is damaged."""
        found = self.read(case)
        return found.event, found.jpeg

    def read(self, case: str) -> "Case":
        """A case with its label. Raises BadInput: there is none, or it is damaged."""
        try:
            record = json.loads(self._store.read(case))
            label = None if record["label"] is None else str(record["label"])
            return Case(case, dict(record["event"]), label, base64.b64decode(record["jpeg"]))
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"the case {case} is damaged: {error}") from error

    def cases(self) -> "tuple[Case, ...]":
        """All cases, in the order in which they happened. Raises BadInput: one is damaged."""
        return tuple(sorted(map(self.read, self._store.names()), key=lambda case: float(case.event.get("at", 0.0))))

    def label(self, case: str, label: str) -> None:
        """Say what a case really was. Raises BadInput: there is none; EnvironmentFailed: it cannot be written."""
        found = self.read(case)
        picture = base64.b64encode(found.jpeg).decode()
        record = {"schema": SCHEMA, "event": found.event, "label": label, "jpeg": picture}
        self._store.write(case, json.dumps(record).encode())

    def delete(self, case: str) -> None:
        """Forget a case. Raises BadInput: there is none."""
        self._store.delete(case)


@dataclass(frozen=True)
class Case:
    """One case: its random name, the event in question, what a person said it really was (None: nothing yet), and the
    picture (JPEG) that it was decided on.
    """

    name: str
    event: dict[str, Any]
    label: str | None
    jpeg: bytes
