"""PINs: kept as scrypt hashes in a sealed record, compared in constant time."""

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping

from device_apps.sealed_store import SealedStore
from edge.errors import BadData, BadInput

RECORD = "pins"
MIN_DIGITS, MAX_DIGITS = 4, 12
# RFC 7914: 16 MB and about 50 ms on a small board; the record is sealed besides
COST = {"n": 1 << 14, "r": 8, "p": 1, "dklen": 32, "maxmem": 64 << 20}


def checked_pin(pin: str) -> str:
    """`pin` itself. Raises BadData, which never repeats it: it is empty, no number, or of another length."""
    if not pin:
        raise BadData("the PIN is empty")
    if not (pin.isascii() and pin.isdigit()):
        raise BadData("the PIN is not a number")
    if not MIN_DIGITS <= len(pin) <= MAX_DIGITS:
        raise BadData(f"the PIN has {len(pin)} digits; {MIN_DIGITS} to {MAX_DIGITS} are needed")
    return pin


class Pins:
    """Each person's PIN. All share one salt, so that one hash, and one time, checks a PIN against everybody's."""

    def __init__(self, store: SealedStore) -> None:
        self._store = store

    def set(self, person_id: str, pin: str) -> None:
        """Give a person a PIN, in the place of an earlier one.

        Raises:
            BadData: it is no PIN.
            BadInput: the record is damaged.
            EnvironmentFailed: it cannot be written.

        """
        salt, hashes = self._load()
        self._save(salt, {**hashes, person_id: _hashed(checked_pin(pin), salt)})

    def remove(self, person_id: str) -> None:
        """Take a person's PIN away; one who has none is no error. Raises as `set`."""
        salt, hashes = self._load()
        if person_id in hashes:
            self._save(salt, {key: value for key, value in hashes.items() if key != person_id})

    def holders(self) -> tuple[str, ...]:
        """The ids of all who have a PIN. Raises BadInput: the record is damaged."""
        return tuple(self._load()[1])

    def check(self, pin: str) -> tuple[str, ...]:
        """The ids of all people whose PIN this is: none where it is wrong or no PIN at all.

        Raises:
            BadInput: the record is damaged.

        """
        salt, hashes = self._load()
        try:
            presented = _hashed(checked_pin(pin), salt)
        except BadData:
            presented = b""
        right = [(person_id, hmac.compare_digest(presented, kept)) for person_id, kept in hashes.items()]
        return tuple(person_id for person_id, same in right if same)

    def _load(self) -> tuple[bytes, dict[str, bytes]]:
        if RECORD not in self._store.names():
            return secrets.token_bytes(16), {}
        try:
            data = json.loads(self._store.read(RECORD))
            hashes = {str(key): bytes.fromhex(value) for key, value in data["hashes"].items()}
            return bytes.fromhex(data["salt"]), hashes
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"the record of PINs is damaged: {error}", "set the PINs again") from error

    def _save(self, salt: bytes, hashes: Mapping[str, bytes]) -> None:
        data = {"salt": salt.hex(), "hashes": {key: value.hex() for key, value in hashes.items()}}
        self._store.write(RECORD, json.dumps(data).encode())


def _hashed(pin: str, salt: bytes) -> bytes:
    return hashlib.scrypt(pin.encode(), salt=salt, **COST)
