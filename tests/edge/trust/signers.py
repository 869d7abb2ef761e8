"""Keys, certificates and signatures as model-signing makes them, by cryptography alone: devices lack the library."""

import base64
import datetime as dt
import hashlib
import json
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.trust.envelope import join
from edge.trust.signature import MEDIA_TYPE, PAYLOAD_TYPE, PREDICATE_TYPE, STATEMENT_TYPE

DIGESTS = {256: hashes.SHA256, 384: hashes.SHA384, 521: hashes.SHA512}
YEAR = dt.timedelta(days=365)
START = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)


def pem(key):
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def write_public(path: Path, key) -> Path:
    path.write_bytes(pem(key))
    return path


def write_private(path: Path, key) -> Path:
    kind = serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption()))
    return path


def write_certificate(path: Path, certificate) -> Path:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path


def certificate(name, key, issuer=None, issuer_key=None, *, ca=False, usage=(), start=START, signs=True):
    """A certificate of `key` by `issuer` (itself where none is given)."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + YEAR)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(signs, False, False, False, False, ca, ca, False, False),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    signer = key if issuer_key is None else issuer_key
    made = made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    if usage:
        made = made.add_extension(x509.ExtendedKeyUsage(list(usage)), critical=False)
    return made.sign(signer, hashes.SHA256())


CODE_SIGNING = (ExtendedKeyUsageOID.CODE_SIGNING,)
SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)


def statement(archive: bytes) -> dict:
    digest = hashlib.sha256(archive)
    root = hashlib.sha256(digest.digest()).hexdigest()
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": "a.edge", "digest": {"sha256": root}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
            "resources": [{"name": ".", "algorithm": "sha256", "digest": digest.hexdigest()}],
        },
    }


def signature(archive: bytes, key, chain=(), payload=None) -> dict:
    """A sigstore bundle with the statement on the archive, or another one, signed by `key`."""
    raw = json.dumps(statement(archive) if payload is None else payload).encode()
    message = b" ".join(
        [b"DSSEv1", str(len(PAYLOAD_TYPE)).encode(), PAYLOAD_TYPE.encode(), str(len(raw)).encode(), raw]
    )
    signed = key.sign(message, ec.ECDSA(DIGESTS[key.curve.key_size]()))
    if chain:
        ders = [one.public_bytes(serialization.Encoding.DER) for one in chain]
        material = {"x509CertificateChain": {"certificates": [{"rawBytes": text(der)} for der in ders]}}
    else:
        material = {"publicKey": {"hint": hashlib.sha256(pem(key)).hexdigest()}}
    return {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {**material, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": text(raw),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": text(signed), "keyid": ""}],
        },
    }


def signed(archive: bytes, key, chain=(), payload=None) -> bytes:
    return join(archive, json.dumps(signature(archive, key, chain, payload)).encode())


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()
