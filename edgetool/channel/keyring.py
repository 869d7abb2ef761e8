"""The private keys of a channel's roles: one file each, in folders that may lie on different machines or sticks."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import BadInput
from edgetool.keys import PRIVATE, load_private_key, new_keys

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

Keyring = dict[str, "CryptoSigner"]


def read_keyring(folders: Iterable[Path]) -> Keyring:
    """Every private key in the folders, by its TUF key id.

    Raises:
        BadInput: a folder is not there, or a key in it cannot be read.

    """
    found: Keyring = {}
    for folder in folders:
        if not folder.is_dir():
            raise BadInput(f"there is no folder of keys {folder}", "edgetool channel init makes one")
        for path in sorted(folder.glob(f"*{PRIVATE}")):
            signer = read_signer(path)
            found[signer.public_key.keyid] = signer
    return found


def read_signer(path: Path) -> "CryptoSigner":
    """A private key as TUF signs with it."""
    from securesystemslib.signer import CryptoSigner

    return CryptoSigner(load_private_key(path))


def add_key(folder: Path, role: str) -> Path:
    """A new private key of a role in a folder, with the next free number in its name."""
    number = 1
    while (folder / f"{role}-{number}{PRIVATE}").exists():
        number += 1
    private, _ = new_keys(folder / f"{role}-{number}", "ed25519")
    return private
