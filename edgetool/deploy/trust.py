"""Whose bundles may go to a device: the keys that this user trusts, and those that were revoked.

    CONFIG/edgetool/trusted/*.pub, *.pem    public keys, and certificates that signing certificates descend from
    CONFIG/edgetool/revoked/*.pub           keys that count no longer, trusted or not

CONFIG is $XDG_CONFIG_HOME, else ~/.config. Where nothing is trusted, nobody is asked who made a bundle.
"""

import hashlib
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from edge.errors import BadInput, CheckFailed
from edge.trust.signature import Signer, Trusted, verify_signature

SUFFIXES = (".pub", ".pem")
CERTIFICATE = "-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True)
class Trust:
    """Files with public keys or certificates. `unsigned` takes a bundle whoever made it, but for revoked keys."""

    trusted: tuple[Path, ...] = ()
    revoked: tuple[Path, ...] = ()
    unsigned: bool = False

    @property
    def asked(self) -> bool:
        """Whether a bundle has to be signed."""
        return bool(self.trusted) and not self.unsigned


@dataclass(frozen=True)
class Provenance:
    """What is known of a bundle's maker: who signed it, and the PEM texts that a device checks that by."""

    signer: Signer | None = None
    keys: tuple[str, ...] = field(default=())


def folder(kind: str) -> Path:
    """Where the user's `trusted` or `revoked` keys lie."""
    root = os.environ.get("XDG_CONFIG_HOME")
    return (Path(root) if root else Path.home() / ".config") / "edgetool" / kind


def user_trust(more: tuple[Path, ...] = (), *, unsigned: bool = False) -> Trust:
    """What this user trusts; `more` stands in the place of the trusted folder where it is given."""
    return Trust(more or _files("trusted"), _files("revoked"), unsigned)


def remember_key(key: Path, kind: str) -> Path:
    """Put a public key or a certificate among the `trusted` or the `revoked`; where it stands then.

    Raises:
        BadInput: it is neither, or another one has its name there.

    """
    text = _text(key)
    if "-----BEGIN PUBLIC KEY-----" not in text and (CERTIFICATE not in text or kind == "revoked"):
        what = "public key" if kind == "revoked" else "public key and no certificate"
        raise BadInput(f"{key} is no {what}", "give the .pub that edgetool keys new wrote")
    place = folder(kind) / (key.name if key.suffix in SUFFIXES else f"{key.name}.pem")
    if place.exists() and place.read_text() != text:
        raise BadInput(f"another key is {kind} as {place.name}", "rename the file, and give it again")
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(key, place)
    return place


def require_maker(content: bytes, path: Path, trust: Trust) -> Provenance:
    """Check a bundle's bytes before anything of them is parsed.

    Raises:
        CheckFailed: a revoked key signed it, or nobody who is trusted did.
        BadInput: a key cannot be read.

    """
    by_revoked = _signed_by_revoked(content, trust)
    if by_revoked is not None:
        raise CheckFailed(f"{path} is signed by {by_revoked.name}, a key that was revoked", "sign it with another key")
    if not trust.asked:
        return Provenance()
    keys, certificates = _kinds(tuple(one for one in trust.trusted if not _is_revoked(one, trust)))
    if not keys and not certificates:
        raise CheckFailed(f"every trusted key was revoked, so nobody vouches for {path}", "edgetool keys trust KEY.pub")
    try:
        signer = verify_signature(content, Trusted(keys, certificates))
    except CheckFailed as error:
        hint = "edgetool sign BUNDLE --key KEY; deploy --unsigned takes it as it is"
        raise CheckFailed(f"{path}: {error}", hint) from error
    return Provenance(signer, tuple(_text(one) for one in (*keys, *certificates)))


def require_not_revoked(key_sha256: str | None, release: str, trust: Trust) -> None:
    """Refuse a release on a device that was signed by a key that was revoked since. Raises CheckFailed."""
    for path in trust.revoked:
        if key_sha256 is not None and _der_sha256(path) == key_sha256:
            raise CheckFailed(
                f"release {release} was signed by {path.name}, a key that was revoked since",
                "deploy a bundle that is signed by another key",
            )


def _signed_by_revoked(content: bytes, trust: Trust) -> Path | None:
    for path in trust.revoked:
        try:
            verify_signature(content, Trusted((path,)))
        except CheckFailed:
            continue
        return path
    return None


def _is_revoked(path: Path, trust: Trust) -> bool:
    if CERTIFICATE in _text(path):
        return False
    return _der_sha256(path) in {_der_sha256(one) for one in trust.revoked}


def _der_sha256(path: Path) -> str:
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_pem_public_key(_text(path).encode())
    except ValueError as error:
        raise BadInput(f"{path} is no public key", "give the .pub that edgetool keys new wrote") from error
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, spki)).hexdigest()


def _kinds(paths: tuple[Path, ...]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    certificates = tuple(path for path in paths if CERTIFICATE in _text(path))
    return tuple(path for path in paths if path not in certificates), certificates


def _files(kind: str) -> tuple[Path, ...]:
    place = folder(kind)
    return tuple(sorted(path for path in place.glob("*") if path.suffix in SUFFIXES)) if place.is_dir() else ()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read {path}: {error}") from error
