"""Cases that somebody called wrong: kept apart, sealed, until a person labels them; nothing learns by itself."""

import base64
import json
import secrets
from collections.abc import Mapping
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
        try:
            record = json.loads(self._store.read(case))
            return record["event"], base64.b64decode(record["jpeg"])
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"the case {case} is damaged: {error}") from error
