"""Commands from afar that only the holder of a key can give: signed, used once, and good for a few seconds.

A message is JSON: what to do, when it was signed (seconds since 1970), a nonce, who asks, and the HMAC-SHA-256 of these
(RFC 2104) in hex. Whoever carries it can neither change nor repeat nor keep it.
"""

import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_apps.clock import Clock
from edge.errors import BadData, BadInput

MAX_AGE_S = 5.0
MAX_AHEAD_S = 1.0  # by how much the sender's clock may be ahead
MAX_BYTES = 1024
MAX_NAME = 64
_KEYS = {"action", "at", "by", "nonce", "mac"}
_NONCE, _MAC = re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Command:
    """What somebody who has the key asks for; `at` in seconds since 1970."""

    action: str
    at: float
    by: str


def signed_command(key: bytes, action: str, by: str, at: float) -> bytes:
    """A new message. Raises BadData: `by` is empty, longer than 64 characters, or not printable."""
    if not _is_name(by):
        raise BadData(f"{by!r} cannot sign a command", f"1 to {MAX_NAME} printable characters")
    body = {"action": action, "at": round(at, 3), "by": by, "nonce": secrets.token_hex(16)}
    return json.dumps({**body, "mac": _mac(key, body)}).encode()


def key_in(path: Path) -> bytes:
    """The key in a file, as 64 hexadecimal digits. Raises BadInput: it cannot be read, or is no key."""
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the key in {path} cannot be read: {error}") from error
    if not _MAC.fullmatch(text):
        raise BadInput(f"{path} holds no key of 64 digits 0-9 a-f", "`remote key` prints it on the lock")
    return bytes.fromhex(text)


class CommandCheck:
    """Tells which messages to obey. What was signed before this check began is too old, whatever its age."""

    def __init__(self, key: bytes, clock: Clock) -> None:
        self._key, self._clock = key, clock
        self._since = clock.wall()
        self._used: dict[str, float] = {}

    def check(self, payload: bytes, *, retained: bool) -> Command:
        """The command in a message, once.

        Raises:
            BadData: it is retained, too long, no command, unsigned, signed with another key, too old, or was used.

        """
        if retained:
            raise BadData("a retained command is ignored")
        body = _parsed(payload)
        mac = body.pop("mac")
        if not hmac.compare_digest(mac, _mac(self._key, body)):
            raise BadData("the command is signed with another key")
        at, nonce = float(body["at"]), str(body["nonce"])
        if nonce in self._used:
            raise BadData("the command was used before")
        age_s = self._clock.wall() - at
        if at < self._since or age_s > MAX_AGE_S:
            raise BadData(f"the command is older than {MAX_AGE_S:g} s or than this start")
        if age_s < -MAX_AHEAD_S:
            raise BadData("the command is from the future: are both clocks right?")
        self._remember(nonce, at)
        return Command(str(body["action"]), at, str(body["by"]))

    def _remember(self, nonce: str, at: float) -> None:
        """Keep a nonce; what is forgotten is refused by its time ever after, also where the clock is set back."""
        self._used[nonce] = at
        oldest = at - MAX_AGE_S - MAX_AHEAD_S
        self._since = max(self._since, oldest)
        self._used = {key: value for key, value in self._used.items() if value >= oldest}


def _parsed(payload: bytes) -> dict[str, Any]:
    if len(payload) > MAX_BYTES:
        raise BadData(f"a command of {len(payload)} bytes: at most {MAX_BYTES} are read")
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError):
        raise BadData("the command is unsigned: it is no JSON") from None
    if not isinstance(body, dict) or not isinstance(body.get("mac"), str) or not _MAC.fullmatch(body["mac"]):
        raise BadData("the command is unsigned")
    at, nonce = body.get("at"), body.get("nonce")
    is_time = isinstance(at, int | float) and not isinstance(at, bool) and 0 <= at < 1e11
    is_nonce = isinstance(nonce, str) and _NONCE.fullmatch(nonce)
    if set(body) != _KEYS or not is_time or not is_nonce or not _is_name(body["by"]) or body["action"] != "unlock":
        raise BadData("the command is not {action: unlock, at, by, nonce, mac}")
    return body


def _is_name(by: object) -> bool:
    return isinstance(by, str) and 0 < len(by) <= MAX_NAME and by.isprintable()


def _mac(key: bytes, body: dict[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
