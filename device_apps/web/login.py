"""Who may use a page: one password, kept as a scrypt hash in a sealed record, and sessions that live in memory."""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import threading

from device_apps.clock import Clock
from device_apps.sealed_store import SealedStore
from edge.errors import BadData, BadInput

RECORD = "password"
MIN_LENGTH, MAX_LENGTH = 8, 256
SESSION_S = 8 * 3600.0
MAX_SESSIONS = 16
COST = {"n": 1 << 14, "r": 8, "p": 1, "dklen": 32, "maxmem": 64 << 20}


class Password:
    """The page's password."""

    def __init__(self, store: SealedStore) -> None:
        self._store = store

    def set(self, password: str) -> None:
        """Keep a password, in the place of an earlier one. Raises BadData: it is too short, or too long."""
        if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
            raise BadData(f"the password has {len(password)} characters; {MIN_LENGTH} to {MAX_LENGTH} are needed")
        salt = secrets.token_bytes(16)
        kept = {"salt": salt.hex(), "hash": hashlib.scrypt(password.encode(), salt=salt, **COST).hex()}
        self._store.write(RECORD, json.dumps(kept).encode())

    @property
    def is_set(self) -> bool:
        """Whether there is one."""
        return RECORD in self._store.names()

    def is_right(self, password: str) -> bool:
        """Whether this is it. Raises BadInput: there is none, or its record is damaged."""
        try:
            kept = json.loads(self._store.read(RECORD))
            salt, wanted = bytes.fromhex(kept["salt"]), bytes.fromhex(kept["hash"])
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"the record of the password is damaged: {error}") from error
        given = password.encode(errors="replace")
        return len(password) <= MAX_LENGTH and hmac.compare_digest(hashlib.scrypt(given, salt=salt, **COST), wanted)


class Sessions:
    """Tokens of those who signed in, each good for 8 hours and until the app ends; the oldest go where there are 16."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._until: dict[str, float] = {}

    def begin(self) -> str:
        """A new token."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            for oldest in list(self._until)[: max(0, len(self._until) - MAX_SESSIONS + 1)]:
                del self._until[oldest]
            self._until[token] = self._clock.monotonic() + SESSION_S
        return token

    def holds(self, token: str | None) -> bool:
        """Whether a token is good now."""
        with self._lock:
            return token is not None and self._until.get(token, 0.0) > self._clock.monotonic()

    def end(self, token: str | None) -> None:
        """Sign out."""
        with self._lock:
            self._until.pop(token or "", None)


class Attempts:
    """Wrong passwords in a row: five shut everybody out for a minute, each further one twice as long, up to an hour.

    In memory: a restart forgets them, which nobody outside can bring about.
    """

    def __init__(self, clock: Clock, allowed: int = 5, first_s: float = 60.0, longest_s: float = 3600.0) -> None:
        self._clock, self._allowed, self._first_s, self._longest_s = clock, allowed, first_s, longest_s
        self._lock = threading.Lock()
        self._wrong = 0
        self._until_s = float("-inf")

    def remaining_s(self) -> float:
        """For how long nobody is let in; 0 where they are."""
        with self._lock:
            return max(0.0, self._until_s - self._clock.monotonic())

    def ended(self, right: bool) -> None:
        """An attempt was right or wrong."""
        with self._lock:
            self._wrong = 0 if right else self._wrong + 1
            if self._wrong >= self._allowed:
                wait_s = min(self._longest_s, self._first_s * 2 ** (self._wrong - self._allowed))
                self._until_s = self._clock.monotonic() + wait_s


def basic_password(header: str | None) -> str | None:
    """The password in an `Authorization: Basic` header (RFC 7617), whoever the user; None where there is none."""
    kind, _, value = (header or "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
