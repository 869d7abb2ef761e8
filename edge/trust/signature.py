"""Whether a bundle was signed by whom a device trusts, checked before anything in it is read.

The signature is that of OpenSSF's model-signing 1.x: a sigstore bundle (v0.3) around a DSSE envelope around an in-toto
statement that lists the files and their sha256; here one file, the archive. The library itself and what it brings are
too much for a device: this is the part of it that checks elliptic curve keys and certificates.

    DSSE:            signature over "DSSEv1 <len(type)> <type> <len(payload)> <payload>"
    root digest:     sha256 over the digests of all files, in their order
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.errors import BadInput, CheckFailed, RuntimeMissing
from edge.trust.envelope import split

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
MAX_CHAIN = 8
# What json, base64 and a missing field raise on a signature that is none
DAMAGE = (ValueError, KeyError, IndexError, TypeError, AttributeError, binascii.Error, RecursionError)


@dataclass(frozen=True)
class Trusted:
    """Whose signatures count: PEM public keys, or PEM certificates that signing certificates descend from."""

    keys: tuple[Path, ...] = ()
    certificates: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Signer:
    """Who signed: the sha256 of the public key (of its DER form, hex), and the certificate's subject if it has one."""

    key_sha256: str
    subject: str | None = None


def verify_signature(content: bytes, trusted: Trusted) -> Signer:
    """Check the signature of a bundle's bytes; nothing of the archive is parsed.

    A certificate has to be good at the time its validity begins, as in model-signing: a signature does not end with
    the certificate, there being no proof of when it was made. What must end is taken back by the channel (TUF).

    Raises:
        CheckFailed: it is not signed, signed by somebody else, or was changed since.
        BadInput: a key or a certificate cannot be read.
        RuntimeMissing: the extra `trust` is not installed.

    """
    keys, roots = _trusted_keys(trusted), _trusted_certificates(trusted)
    if not keys and not roots:
        raise BadInput("nobody is trusted: there is no key and no certificate", "give --key or --certificate")
    try:
        archive, signature = split(content)
    except BadInput as error:
        raise CheckFailed(f"the signature is damaged: {error}", error.hint) from error
    if signature is None:
        raise CheckFailed("it is not signed", "edgetool sign BUNDLE --key KEY signs it")
    try:
        found = json.loads(signature)
        envelope, material = found["dsseEnvelope"], found["verificationMaterial"]
        if found["mediaType"] != MEDIA_TYPE or envelope["payloadType"] != PAYLOAD_TYPE:
            raise ValueError(f"media type {found['mediaType']!r}, payload {envelope['payloadType']!r}")
        payload = base64.b64decode(envelope["payload"], validate=True)
        (one,) = envelope["signatures"]
        key, subject = _signing_key(material, keys, roots)
        _check(key, base64.b64decode(one["sig"], validate=True), payload)
        _check_statement(json.loads(payload), hashlib.sha256(archive).hexdigest())
    except DAMAGE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckFailed(f"the signature is damaged: {reason}", "copy the bundle again, or sign it again") from error
    return Signer(_key_sha256(key), subject)


def require_signature(content: bytes, path: Path, trusted: Trusted) -> Signer:
    """`verify_signature` with the bundle's path in what it raises."""
    try:
        return verify_signature(content, trusted)
    except CheckFailed as error:
        raise CheckFailed(f"{path}: {error}", error.hint) from error


def _check_statement(statement: Mapping[str, Any], digest: str) -> None:
    if statement["_type"] != STATEMENT_TYPE or statement["predicateType"] != PREDICATE_TYPE:
        raise ValueError(f"a statement of type {statement['predicateType']!r}")
    (subject,), (resource,) = statement["subject"], statement["predicate"]["resources"]
    root = hashlib.sha256(bytes.fromhex(resource["digest"])).hexdigest()
    if resource["algorithm"] != "sha256" or subject["digest"]["sha256"] != root:
        raise ValueError("the statement's digests do not belong together")
    if resource["digest"] != digest:
        raise CheckFailed(
            f"it was changed since it was signed: sha256 {digest[:12]}, signed was {resource['digest'][:12]}",
            "copy it again",
        )


def _signing_key(
    material: Mapping[str, Any],
    keys: Mapping[str, "ec.EllipticCurvePublicKey"],
    roots: Sequence["x509.Certificate"],
) -> tuple["ec.EllipticCurvePublicKey", str | None]:
    """The trusted key that the signature names, and the subject of its certificate."""
    if "x509CertificateChain" in material:
        if not roots:
            raise CheckFailed("it is signed with a certificate, and none is trusted here", "give --certificate")
        certificates = material["x509CertificateChain"]["certificates"]
        return _certified_key([base64.b64decode(one["rawBytes"], validate=True) for one in certificates], roots)
    if "publicKey" not in material:
        raise CheckFailed(
            "it is signed with sigstore, which a device without a network cannot check",
            "check it with edgetool verify --identity, or sign it with a key",
        )
    if not keys:
        raise CheckFailed("it is signed with a key, and none is trusted here", "give --key")
    hint = material["publicKey"]["hint"]
    if hint not in keys:
        raise CheckFailed(
            f"it is signed by another key: {str(hint)[:16]}", "trusted: " + ", ".join(h[:16] for h in keys)
        )
    return keys[hint], None


def _certified_key(
    chain: Sequence[bytes], roots: Sequence["x509.Certificate"]
) -> tuple["ec.EllipticCurvePublicKey", str]:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509 import verification

    if not 0 < len(chain) <= MAX_CHAIN:
        raise ValueError(f"a chain of {len(chain)} certificates")
    leaf, *others = (x509.load_der_x509_certificate(one) for one in chain)
    everyone = verification.ExtensionPolicy.permit_all().may_be_present(
        x509.ExtendedKeyUsage, verification.Criticality.AGNOSTIC, None
    )
    authority = verification.ExtensionPolicy.webpki_defaults_ca()
    checker = (
        verification.PolicyBuilder()
        .store(verification.Store(list(roots)))
        .time(leaf.not_valid_before_utc.replace(tzinfo=None))
        .max_chain_depth(MAX_CHAIN)
        .extension_policies(ca_policy=authority, ee_policy=everyone)
        .build_client_verifier()
    )
    try:
        checker.verify(leaf, others)
    except verification.VerificationError as error:
        raise CheckFailed(f"its certificate is not trusted: {error}", "give --certificate its root") from error
    _check_usage(leaf)
    key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise CheckFailed("its certificate has no elliptic curve key", "sign with a key on P-256")
    return key, leaf.subject.rfc4514_string()


def _check_usage(leaf: "x509.Certificate") -> None:
    """A certificate that was made for servers signs no bundles."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    try:
        signs = leaf.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    except x509.ExtensionNotFound:
        signs = False
    try:
        usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        codes = None
    else:
        codes = ExtendedKeyUsageOID.CODE_SIGNING in usages
    if codes is False or not (signs or codes):
        raise CheckFailed(
            "its certificate is not for signing code", "make one with the usages digitalSignature, codeSigning"
        )


def _check(key: "ec.EllipticCurvePublicKey", signature: bytes, payload: bytes) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    sizes: dict[int, type[hashes.HashAlgorithm]] = {256: hashes.SHA256, 384: hashes.SHA384, 521: hashes.SHA512}
    digest = sizes.get(key.curve.key_size)
    if digest is None or not isinstance(key.curve, (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)):
        raise CheckFailed(f"its key is on the curve {key.curve.name}", "use P-256, P-384 or P-521")
    message = b" ".join([b"DSSEv1", b"%d" % len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), b"%d" % len(payload), payload])
    try:
        key.verify(signature, message, ec.ECDSA(digest()))
    except InvalidSignature as error:
        raise CheckFailed("the signature is not that of the key it names", "copy the bundle again") from error


def _trusted_keys(trusted: Trusted) -> dict[str, "ec.EllipticCurvePublicKey"]:
    """The public keys by what a signature names them: the sha256 of their PEM form."""
    keys = {}
    for path in trusted.keys:
        key = _load_key(path)
        pem = _public_bytes(key, pem=True)
        keys[hashlib.sha256(pem).hexdigest()] = key
    return keys


def _load_key(path: Path) -> "ec.EllipticCurvePublicKey":
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise _missing() from error
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise BadInput(f"{path} is no public key", "give the .pub that edgetool keys new wrote") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise BadInput(f"{path} is no elliptic curve key", "bundles are signed with one: edgetool keys new")
    return key


def _trusted_certificates(trusted: Trusted) -> list["x509.Certificate"]:
    if not trusted.certificates:
        return []
    try:
        from cryptography import x509
    except ImportError as error:
        raise _missing() from error
    found: list[x509.Certificate] = []
    for path in trusted.certificates:
        try:
            found += x509.load_pem_x509_certificates(path.read_bytes())
        except OSError as error:
            raise BadInput(f"cannot read {path}: {error.strerror}") from error
        except ValueError as error:
            raise BadInput(f"{path} holds no certificate", "give a PEM file") from error
    return found


def _key_sha256(key: "ec.EllipticCurvePublicKey") -> str:
    return hashlib.sha256(_public_bytes(key, pem=False)).hexdigest()


def _public_bytes(key: "ec.EllipticCurvePublicKey", *, pem: bool) -> bytes:
    from cryptography.hazmat.primitives import serialization

    encoding = serialization.Encoding.PEM if pem else serialization.Encoding.DER
    return key.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)


def _missing() -> RuntimeMissing:
    return RuntimeMissing(
        "signatures cannot be checked: cryptography is not installed", "pip install 'edgetool[trust]'"
    )
