"""Signing bundles with OpenSSF's model-signing, and checking them on the host as a device does and as the library does.

What is signed is the archive as it stands in the file; the signature goes behind it (edge/trust/envelope.py).
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.archive import write_whole
from edge.bundle import parse_bundle, read_bundle
from edge.errors import BadInput, CheckFailed, EnvironmentFailed
from edge.trust.envelope import join, split
from edge.trust.signature import Signer, Trusted, require_signature
from edgetool.keys import load_private_key, password


@dataclass(frozen=True)
class SigstoreIdentity:
    """Who must have signed with sigstore: an address or a workflow, and the OpenID Connect provider that says so."""

    identity: str
    provider: str


def sign_with_key(bundle: Path, key: Path) -> None:
    """Sign a bundle in place with an elliptic curve key; a signature that it had is replaced.

    Raises:
        BadInput: the bundle is damaged, or the key is none on P-256, P-384 or P-521.

    """
    _require_curve(key)
    _sign(bundle, _way("use_elliptic_key_signer", private_key=key, password=password()))


def sign_with_certificate(bundle: Path, key: Path, certificate: Path, chain: Sequence[Path]) -> None:
    """Sign a bundle in place with a certificate and its key; `chain` leads to a root that devices trust.

    Raises:
        BadInput: the bundle is damaged, or key and certificate do not belong together.

    """
    _require_curve(key)
    if b"ENCRYPTED" in key.read_bytes():
        raise BadInput(f"{key} is encrypted", "model-signing takes no password for the key of a certificate")
    for path in (certificate, *chain):
        if not path.is_file():
            raise BadInput(f"there is no certificate {path}")
    others = list(chain) or [certificate]  # model-signing wants a chain, if only the certificate again
    way = _way("use_certificate_signer", private_key=key, signing_certificate=certificate, certificate_chain=others)
    _sign(bundle, way)


def sign_with_sigstore(bundle: Path) -> None:
    """Sign a bundle in place as whom the surroundings (CI) or a browser's login say; needs the network of sigstore.

    Raises:
        EnvironmentFailed: sigstore cannot be reached, or nobody logs in.

    """
    try:
        _sign(bundle, _way("use_sigstore_signer", use_ambient_credentials=True))
    except BadInput:
        raise
    except Exception as error:  # sigstore raises what its http library, OAuth and TUF raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise EnvironmentFailed(f"sigstore did not sign: {reason}", "without a network sign with --key") from error


def verify_bundle(bundle: Path, trusted: Trusted) -> Signer:
    """Check the signature with the device's own check, then with model-signing, then the content.

    Raises:
        CheckFailed: one of them refuses the signature.
        BadInput: the content is damaged (it was signed that way), or a key cannot be read.

    """
    content = read_bundle(bundle)
    signer = require_signature(content, bundle, trusted)
    if signer.subject is None:
        ways = [_way("use_elliptic_key_verifier", public_key=key) for key in trusted.keys]
    else:
        ways = [_way("use_certificate_verifier", certificate_chain=list(trusted.certificates))]
    if not any(_accepted(bundle, content, way) for way in ways):
        raise CheckFailed(f"{bundle}: model-signing refuses the signature that a device would take")
    parse_bundle(content, bundle)
    return signer


def verify_sigstore(bundle: Path, who: SigstoreIdentity) -> None:
    """Check that a bundle was signed with sigstore by `who`.

    Raises:
        CheckFailed: it was not, or sigstore's own trusted root cannot be fetched.

    """
    content = read_bundle(bundle)
    if split(content)[1] is None:
        raise CheckFailed("it is not signed", "edgetool sign BUNDLE --sigstore signs it")
    way = _way("use_sigstore_verifier", identity=who.identity, oidc_issuer=who.provider)
    if not _accepted(bundle, content, way):
        raise CheckFailed(f"{bundle} was not signed by {who.identity}, or sigstore cannot be reached")
    parse_bundle(content, bundle)


def _require_curve(path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    key = load_private_key(path)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in ("secp256r1", "secp384r1", "secp521r1"):
        raise BadInput(f"{path} does not sign bundles", "they are signed with P-256: edgetool keys new NAME")


Way = Callable[[Any], None]


def _way(method: str, **settings: Any) -> Way:
    """How model-signing is told to sign or to verify: a method of its `Config` and what it is given."""

    def configure(config: Any) -> None:
        getattr(config, method)(**settings)

    return configure


def _sign(bundle: Path, way: Way) -> None:
    from model_signing import signing

    content = read_bundle(bundle)
    archive, _ = split(content)
    parse_bundle(archive, bundle)
    config = signing.Config()
    try:
        way(config)
        with tempfile.TemporaryDirectory() as folder:
            file, signature = Path(folder) / bundle.name, Path(folder) / "signature"
            file.write_bytes(archive)
            config.sign(file, signature)
            made = signature.read_bytes()
    except ValueError as error:
        raise BadInput(
            f"{bundle} cannot be signed: {error}", "do the key and the certificate belong together?"
        ) from error
    write_whole(bundle, join(archive, made))


def _accepted(bundle: Path, content: bytes, way: Way) -> bool:
    from cryptography.exceptions import InvalidSignature
    from model_signing import verifying
    from OpenSSL import crypto

    archive, signature = split(content)
    assert signature is not None, "checked by the caller"
    config = verifying.Config()
    with tempfile.TemporaryDirectory() as folder:
        file, beside = Path(folder) / bundle.name, Path(folder) / "signature"
        file.write_bytes(archive)
        beside.write_bytes(signature)
        try:
            way(config)
            config.verify(file, beside)
        except (ValueError, KeyError, InvalidSignature, crypto.X509StoreContextError):
            return False
    return True
