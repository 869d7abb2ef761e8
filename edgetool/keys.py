"""Key pairs: ECDSA P-256, with which bundles are signed, and Ed25519 for the roles of a release channel.

A private key is PKCS #8 in PEM, readable by its owner alone, encrypted where EDGETOOL_KEY_PASSWORD is set.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edge.errors import BadInput

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

PASSWORD = "EDGETOOL_KEY_PASSWORD"  # noqa: S105 - the variable's name
PRIVATE, PUBLIC = ".key", ".pub"
Kind = Literal["ecdsa", "ed25519"]


def password() -> bytes | None:
    """The password of private keys from the environment; an empty one is none."""
    return os.environ.get(PASSWORD, "").encode() or None


def new_keys(name: Path, kind: Kind) -> tuple[Path, Path]:
    """Write a new private key NAME.key and its public key NAME.pub; nothing is overwritten.

    Raises:
        BadInput: one of them exists already.

    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    private, public = name.with_name(name.name + PRIVATE), name.with_name(name.name + PUBLIC)
    for path in (private, public):
        if path.exists():
            raise BadInput(f"{path} exists already, and a lost key cannot be made again", "choose another name")
    key = ec.generate_private_key(ec.SECP256R1()) if kind == "ecdsa" else ed25519.Ed25519PrivateKey.generate()
    secret = password()
    scheme = serialization.NoEncryption() if secret is None else serialization.BestAvailableEncryption(secret)
    name.parent.mkdir(parents=True, exist_ok=True)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, scheme)
    descriptor = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, spki))
    return private, public


def load_private_key(path: Path) -> "ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey":
    """A private key of one of the two kinds, decrypted with EDGETOOL_KEY_PASSWORD where it has to be.

    Raises:
        BadInput: the file cannot be read, holds no such key, or the password is wrong or missing.

    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    encrypted = b"ENCRYPTED" in content
    if encrypted and password() is None:
        raise BadInput(f"{path} is encrypted", f"put its password into {PASSWORD}")
    try:
        key = serialization.load_pem_private_key(content, password() if encrypted else None)
    except (ValueError, TypeError) as error:
        hint = f"is {PASSWORD} right?" if encrypted else "give the .key that edgetool keys new wrote"
        raise BadInput(f"{path} is no private key that can be read", hint) from error
    if not isinstance(key, (ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
        raise BadInput(f"{path} is neither an elliptic curve key nor Ed25519", "edgetool keys new makes one")
    return key
