"""Records encrypted at rest: AES-256-GCM, each bound to its kind and name, written whole or not at all.

A file is the magic, the key's id (8 bytes), the nonce (12) and the ciphertext with its tag. The kind and the name are
associated data: a record that is copied over another one's file, or renamed, does not open.
"""

import contextlib
import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from device_apps.durable import TEMPORARY, failed, remove_leftovers, write_whole
from edge.durable import sync
from edge.errors import BadData, BadInput, RuntimeMissing

MAGIC = b"EDSEAL1\0"
KEY_BYTES = 32
NONCE_BYTES = 12
SUFFIX = ".sealed"
GOING = ".going"  # a record that is being deleted
MAX_BYTES = 16 << 20
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class SealedStore:
    """The sealed records of one kind in a folder, which is made where it does not exist (mode 0700).

    Raises:
        BadData: the key is not 32 bytes.
        EnvironmentFailed: the folder cannot be made.
        RuntimeMissing: the cryptography package is not installed.

    """

    def __init__(self, folder: Path, key: bytes, kind: str) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError:
            raise RuntimeMissing("the cryptography package is not installed", "pip install 'edgetool[apps]'") from None
        if len(key) != KEY_BYTES:
            raise BadData(f"the key of the store has {len(key)} bytes, not {KEY_BYTES}")
        self._folder, self._kind = folder, kind
        self._cipher = AESGCM(key)
        self._key_id = hmac.digest(key, b"edgetool key id", hashlib.sha256)[:8]
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise failed(folder, error) from error
        remove_leftovers(folder)
        for going in folder.glob(f"*{SUFFIX}{GOING}"):
            with contextlib.suppress(OSError):
                _erase(going)

    def names(self) -> tuple[str, ...]:
        """The names of all records, sorted."""
        return tuple(sorted(path.name.removesuffix(SUFFIX) for path in self._folder.glob(f"*{SUFFIX}")))

    def write(self, name: str, content: bytes) -> None:
        """Seal `content` under `name`, in the place of what was there.

        Raises:
            BadData: a name that is no plain one, or too much content.
            EnvironmentFailed: it cannot be written; what was there before still is.

        """
        if len(content) > MAX_BYTES:
            raise BadData(f"a record of {len(content)} bytes: at most {MAX_BYTES} are kept")
        path, nonce = self._path(name), secrets.token_bytes(NONCE_BYTES)
        write_whole(path, MAGIC + self._key_id + nonce + self._cipher.encrypt(nonce, content, self._associated(name)))

    def read(self, name: str) -> bytes:
        """What was sealed under `name`.

        Raises:
            BadInput: there is none, it is damaged or another record's, or another device sealed it.

        """
        from cryptography.exceptions import InvalidTag

        path = self._path(name)
        try:
            with path.open("rb") as file:
                sealed = file.read(MAX_BYTES + 128)
        except OSError as error:
            raise BadInput(f"cannot read {path.name}: {error.strerror}") from error
        head = len(MAGIC) + len(self._key_id)
        if not sealed.startswith(MAGIC) or len(sealed) < head + NONCE_BYTES + 16:
            raise BadInput(f"{path.name} is damaged or no sealed record", "remove it and enrol again")
        found = sealed[len(MAGIC) : head]
        if found != self._key_id:
            raise BadInput(
                f"{path.name} was sealed on another device (key {found.hex()}, this one's is {self._key_id.hex()})",
                "enrol the person on this device",
            )
        nonce = sealed[head : head + NONCE_BYTES]
        try:
            return self._cipher.decrypt(nonce, sealed[head + NONCE_BYTES :], self._associated(name))
        except InvalidTag:
            raise BadInput(
                f"{path.name} was changed, or is another record's file", "remove it and enrol again"
            ) from None

    def delete(self, name: str) -> None:
        """Overwrite a record's file and remove it.

        On flash the old blocks may outlive this until they are erased; what is in them is ciphertext.

        Raises:
            BadInput: there is none of that name.
            EnvironmentFailed: it cannot be removed.

        """
        path = self._path(name)
        going = path.with_name(path.name + GOING)
        try:
            path.replace(going)  # what is half overwritten is no record
            sync(self._folder)
            _erase(going)
            path.with_name(path.name + TEMPORARY).unlink(missing_ok=True)  # of a write that was killed
            sync(self._folder)
        except FileNotFoundError:
            raise BadInput(f"there is no record {name!r}") from None
        except OSError as error:
            raise failed(path, error) from error

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise BadData(f"{name!r} cannot name a record", "1 to 64 of a-z, 0-9, _ and -")
        return self._folder / (name + SUFFIX)

    def _associated(self, name: str) -> bytes:
        return f"edgetool|{self._kind}|{name}".encode()


def _erase(path: Path) -> None:
    """Overwrite a file with zeros, on the disk, and remove it."""
    size = path.stat().st_size
    with contextlib.suppress(OSError), path.open("r+b") as file:  # a full disk must not keep it from going
        file.write(b"\0" * size)
        file.flush()
        os.fsync(file.fileno())
    path.unlink(missing_ok=True)
