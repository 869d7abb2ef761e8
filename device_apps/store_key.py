"""The key that a device's records are sealed with: from the TPM, else from systemd, else from a file of its owner.

systemd's credentials (`LoadCredentialEncrypted=`, systemd.exec(5)) are decrypted by systemd and stand in the folder
`$CREDENTIALS_DIRECTORY`; what tpm2-tools seals stands beside the records as `key.tpm.pub` and `key.tpm.priv`.
"""

import hashlib
import hmac
import os
import secrets
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from device_apps.durable import failed, write_whole
from device_apps.sealed_store import KEY_BYTES
from edge.errors import BadInput, EnvironmentFailed

CREDENTIAL = "edgetool-key"
FILE = "key"
TPM_PUBLIC, TPM_PRIVATE = "key.tpm.pub", "key.tpm.priv"
TPM_TIMEOUT_S = 20

Origin = Literal["TPM", "systemd credential", "file"]


@dataclass(frozen=True)
class StoreKey:
    """A key and where it is kept."""

    key: bytes
    origin: Origin

    def derived(self, purpose: str) -> bytes:
        """Another key for another purpose: HMAC-SHA-256 of the purpose, 32 bytes."""
        return hmac.digest(self.key, b"edgetool key for " + purpose.encode(), hashlib.sha256)


def store_key(folder: Path) -> StoreKey:
    """The key of the device whose state is in `folder`; made at the first call, in the best place that there is.

    Raises:
        BadInput: the key that was made before is damaged, or others can read it.
        EnvironmentFailed: it cannot be read or made; the TPM refuses.

    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise failed(folder, error) from error
    if (folder / TPM_PUBLIC).exists():
        return StoreKey(_checked(_unseal(folder), "the key in the TPM"), "TPM")
    credential = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nonexistent")) / CREDENTIAL
    if credential.is_file():
        return StoreKey(_checked(_read(credential), f"the credential {CREDENTIAL}"), "systemd credential")
    path = folder / FILE
    if path.exists():
        return StoreKey(_from_file(path), "file")
    key = secrets.token_bytes(KEY_BYTES)
    if _has_tpm():
        _seal(folder, key)
        return StoreKey(key, "TPM")
    write_whole(path, key)
    return StoreKey(key, "file")


def _from_file(path: Path) -> bytes:
    mode = path.stat().st_mode
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise BadInput(f"{path} can be read by others (mode {stat.S_IMODE(mode):o})", f"chmod 600 {path}")
    return _checked(_read(path), str(path))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise failed(path, error) from error


def _checked(key: bytes, where: str) -> bytes:
    if len(key) != KEY_BYTES:
        raise BadInput(f"{where} has {len(key)} bytes, not {KEY_BYTES}", "without it the records cannot be read")
    return key


def _has_tpm() -> bool:
    there = "TPM2TOOLS_TCTI" in os.environ or Path("/dev/tpmrm0").exists()
    return there and all(shutil.which(tool) for tool in ("tpm2_createprimary", "tpm2_create", "tpm2_load"))


def _seal(folder: Path, key: bytes) -> None:
    """An object below the owner hierarchy's primary key, which the TPM derives anew from its seed each time."""
    with tempfile.TemporaryDirectory() as work:
        primary = _primary(Path(work))
        public, private = Path(work) / "pub", Path(work) / "priv"
        _tpm("tpm2_create", "-C", str(primary), "-i", "-", "-u", str(public), "-r", str(private), given=key)
        write_whole(folder / TPM_PRIVATE, private.read_bytes())
        write_whole(folder / TPM_PUBLIC, public.read_bytes())  # last: it says that there is one


def _unseal(folder: Path) -> bytes:
    with tempfile.TemporaryDirectory() as work:
        primary, loaded = _primary(Path(work)), Path(work) / "loaded"
        public, private = str(folder / TPM_PUBLIC), str(folder / TPM_PRIVATE)
        _tpm("tpm2_load", "-C", str(primary), "-u", public, "-r", private, "-c", str(loaded))
        _tpm("tpm2_flushcontext", "-t")  # a TPM without resource manager has room for three objects
        return _tpm("tpm2_unseal", "-c", str(loaded))


def _primary(work: Path) -> Path:
    context = work / "primary"
    _tpm("tpm2_createprimary", "-C", "o", "-c", str(context))
    _tpm("tpm2_flushcontext", "-t")
    return context


def _tpm(*command: str, given: bytes | None = None) -> bytes:
    try:
        done = subprocess.run(command, input=given, capture_output=True, timeout=TPM_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentFailed(f"the TPM cannot be asked: {command[0]}: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise EnvironmentFailed(f"the TPM refuses: {command[0]}: {said[-1] if said else 'no reason given'}")
    return done.stdout
