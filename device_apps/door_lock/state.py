"""Where a lock keeps what it has to remember, and how the parts of that are opened."""

from dataclasses import dataclass
from pathlib import Path

from device_apps.audit import Anchor, AuditLog, FileAnchor, NoRecord, Recorder
from device_apps.clock import Clock
from device_apps.door_lock.lockout import Lockout, LockoutRules
from device_apps.door_lock.people import People
from device_apps.door_lock.pins import Pins
from device_apps.durable import remove_leftovers
from device_apps.sealed_store import SealedStore
from device_apps.store_key import StoreKey, store_key
from edge.errors import EdgetoolError

SETTINGS = "door-lock.toml"


@dataclass(frozen=True)
class State:
    """The folder of one lock (mode 0700) and the key of what is sealed in it."""

    folder: Path
    key: StoreKey

    @property
    def policy(self) -> Path:
        """The settings."""
        return self.folder / SETTINGS

    @property
    def calibration(self) -> Path:
        """The threshold of the embedder."""
        return self.folder / "calibration.json"

    @property
    def audit(self) -> Path:
        """The record of what happened."""
        return self.folder / "audit.jsonl"

    @property
    def people_folder(self) -> Path:
        """The sealed templates; its time changes whenever somebody is enrolled or revoked."""
        return self.folder / "people"

    def people(self) -> People:
        """Who is enrolled. Raises EnvironmentFailed: the folder cannot be made."""
        return People(SealedStore(self.people_folder, self.key.key, "person"))

    def pins(self) -> Pins:
        """Their PINs. Raises EnvironmentFailed: the folder cannot be made."""
        return Pins(SealedStore(self.folder / "pins", self.key.key, "pins"))

    def anchors(self, second: Path | None = None) -> tuple[Anchor, ...]:
        """Where the record's head is kept: beside it, and in `second` (another disk) where that is given."""
        return tuple(FileAnchor(path) for path in (self.folder / "audit.head", second) if path is not None)

    def audit_key(self) -> bytes:
        """The key of the record's chain."""
        return self.key.derived("audit")

    def recorder(self, clock: Clock, second: Path | None = None, more: tuple[Anchor, ...] = ()) -> Recorder:
        """The record, open for appending; one that refuses everything where it cannot be opened."""
        try:
            return AuditLog(self.audit, self.audit_key(), clock, (*self.anchors(second), *more))
        except EdgetoolError as error:
            return NoRecord(error)

    def lockout(self, way: str, rules: LockoutRules, clock: Clock) -> Lockout:
        """The failures of one way to come in: "face" or "pin"."""
        return Lockout(self.folder / f"lockout-{way}.json", rules, clock)


def open_state(folder: Path) -> State:
    """The state in a folder, which is made where it does not exist.

    Raises:
        BadInput: the key is damaged or others can read it.
        EnvironmentFailed: the folder or the key cannot be made or read.

    """
    folder = folder.expanduser()
    key = store_key(folder)
    remove_leftovers(folder)
    return State(folder, key)
