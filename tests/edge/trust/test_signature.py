"""A device takes the signatures of whom it trusts, and no other; the archive is noise, which nothing can parse."""

import datetime as dt
import json

import pytest

pytest.importorskip("cryptography")

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from edge.errors import BadInput, CheckFailed
from edge.trust.envelope import join
from edge.trust.signature import Trusted, verify_signature
from tests.edge.trust import signers

ARCHIVE = bytes(range(256)) * 4
KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
ROOT_KEY = ec.generate_private_key(ec.SECP256R1())
ROOT = signers.certificate("Root", ROOT_KEY, ca=True)
MIDDLE_KEY = ec.generate_private_key(ec.SECP384R1())
MIDDLE = signers.certificate("Middle", MIDDLE_KEY, ROOT, ROOT_KEY, ca=True, signs=False)
LEAF = signers.certificate("Builder", KEY, MIDDLE, MIDDLE_KEY, usage=signers.CODE_SIGNING)


@pytest.fixture
def trusted(tmp_path):
    return Trusted(keys=(signers.write_public(tmp_path / "a.pub", KEY),))


@pytest.fixture
def rooted(tmp_path):
    return Trusted(certificates=(signers.write_certificate(tmp_path / "root.pem", ROOT),))


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1])
def test_a_trusted_key_is_taken(tmp_path, curve):
    key = ec.generate_private_key(curve())
    keys = (signers.write_public(tmp_path / "other.pub", OTHER), signers.write_public(tmp_path / "a.pub", key))
    signer = verify_signature(signers.signed(ARCHIVE, key), Trusted(keys=keys))
    assert len(signer.key_sha256) == 64
    assert signer.subject is None


def test_a_certificate_under_a_trusted_root_is_taken(rooted):
    signer = verify_signature(signers.signed(ARCHIVE, KEY, (LEAF, MIDDLE)), rooted)
    assert signer.subject == "CN=Builder"


def test_every_flipped_bit_is_refused(trusted):
    whole = signers.signed(ARCHIVE, KEY)
    refused = 0
    for position in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        try:
            verify_signature(bytes(changed), trusted)
        except CheckFailed:
            refused += 1
        else:  # JSON that nobody reads: the name in the subject stands in the payload, so not even that
            before, after = whole[position : position + 1], bytes(changed[position : position + 1])
            assert position >= len(ARCHIVE), (before, after)
            assert _unread(whole, bytes(changed))
    assert refused > len(whole) / 7 * 0.9


def _unread(whole: bytes, changed: bytes) -> bool:
    """Whether two signed bundles differ only in what carries no meaning (keyid, tlogEntries)."""
    first, second = (json.loads(content[len(ARCHIVE) : -12]) for content in (whole, changed))
    first_envelope, second_envelope = first["dsseEnvelope"], second["dsseEnvelope"]
    return first_envelope["payload"] == second_envelope["payload"] and (
        first_envelope["signatures"][0]["sig"] == second_envelope["signatures"][0]["sig"]
    )


@pytest.mark.parametrize("length", [0, 1, 200, 1024, 1025, 1500])
def test_every_cut_is_refused(trusted, length):
    with pytest.raises(CheckFailed):
        verify_signature(signers.signed(ARCHIVE, KEY)[:length], trusted)


def test_another_key_is_refused(trusted):
    with pytest.raises(CheckFailed, match="another key"):
        verify_signature(signers.signed(ARCHIVE, OTHER), trusted)
    forged = signers.signature(ARCHIVE, OTHER)
    forged["verificationMaterial"] = signers.signature(ARCHIVE, KEY)["verificationMaterial"]
    with pytest.raises(CheckFailed, match="not that of the key"):
        verify_signature(join(ARCHIVE, json.dumps(forged).encode()), trusted)


def test_an_unsigned_bundle_is_refused(trusted):
    with pytest.raises(CheckFailed, match="not signed") as caught:
        verify_signature(ARCHIVE, trusted)
    assert "edgetool sign" in caught.value.hint


def test_the_signature_of_another_archive_is_refused(trusted):
    with pytest.raises(CheckFailed, match="changed since it was signed"):
        verify_signature(signers.signed(ARCHIVE, KEY, payload=signers.statement(b"other")), trusted)


@pytest.mark.parametrize(
    "change",
    [
        {"predicateType": "https://model_signing/Digests/v0.1"},
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"subject": []},
        {"subject": [{"name": "a", "digest": {"sha256": "0" * 64}}]},
        {"predicate": {"resources": []}},
        {"predicate": {"resources": [{"name": ".", "algorithm": "md5", "digest": "00"}]}},
        {"predicate": None},
    ],
)
def test_a_statement_that_says_something_else_is_refused(trusted, change):
    with pytest.raises(CheckFailed, match="damaged"):
        verify_signature(signers.signed(ARCHIVE, KEY, payload={**signers.statement(ARCHIVE), **change}), trusted)


def test_a_statement_with_a_second_file_is_refused(trusted):
    payload = signers.statement(ARCHIVE)
    payload["predicate"]["resources"] *= 2
    with pytest.raises(CheckFailed, match="damaged"):
        verify_signature(signers.signed(ARCHIVE, KEY, payload=payload), trusted)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"dsseEnvelope": 3}', b"[" * 50_000])
def test_a_signature_that_is_none_is_refused(trusted, content):
    with pytest.raises(CheckFailed, match="damaged"):
        verify_signature(join(ARCHIVE, content), trusted)


def test_two_signatures_in_one_are_refused(trusted):
    found = signers.signature(ARCHIVE, KEY)
    found["dsseEnvelope"]["signatures"] *= 2
    with pytest.raises(CheckFailed, match="damaged"):
        verify_signature(join(ARCHIVE, json.dumps(found).encode()), trusted)


def test_sigstore_is_refused_with_what_to_do(trusted):
    found = signers.signature(ARCHIVE, KEY)
    found["verificationMaterial"] = {"certificate": {"rawBytes": ""}, "tlogEntries": [{}]}
    with pytest.raises(CheckFailed, match="sigstore") as caught:
        verify_signature(join(ARCHIVE, json.dumps(found).encode()), trusted)
    assert "--identity" in caught.value.hint


def test_a_certificate_that_is_not_trusted_is_refused(rooted, trusted):
    stranger_key = ec.generate_private_key(ec.SECP256R1())
    stranger = signers.certificate("Root", stranger_key, ca=True)
    leaf = signers.certificate("Builder", KEY, stranger, stranger_key, usage=signers.CODE_SIGNING)
    with pytest.raises(CheckFailed, match="not trusted"):
        verify_signature(signers.signed(ARCHIVE, KEY, (leaf, stranger)), rooted)
    with pytest.raises(CheckFailed, match="not trusted"):
        verify_signature(signers.signed(ARCHIVE, KEY, (LEAF,)), rooted)  # the one between is missing
    with pytest.raises(CheckFailed, match="none is trusted here"):
        verify_signature(signers.signed(ARCHIVE, KEY, (LEAF, MIDDLE)), trusted)
    with pytest.raises(CheckFailed, match="none is trusted here"):
        verify_signature(signers.signed(ARCHIVE, KEY), rooted)


def test_a_leaf_cannot_issue(rooted):
    leaf = signers.certificate("Under", OTHER, LEAF, KEY, usage=signers.CODE_SIGNING)
    with pytest.raises(CheckFailed, match="not trusted"):
        verify_signature(signers.signed(ARCHIVE, OTHER, (leaf, LEAF, MIDDLE)), rooted)


def test_the_key_of_another_certificate_is_refused(rooted):
    with pytest.raises(CheckFailed, match="not that of the key"):
        verify_signature(signers.signed(ARCHIVE, OTHER, (LEAF, MIDDLE)), rooted)


def test_a_certificate_for_something_else_is_refused(rooted):
    for usage, signs in ((signers.SERVER, True), ((), False)):
        leaf = signers.certificate("Web", KEY, ROOT, ROOT_KEY, usage=usage, signs=signs)
        with pytest.raises(CheckFailed, match="not for signing code"):
            verify_signature(signers.signed(ARCHIVE, KEY, (leaf,)), rooted)


def test_a_certificate_counts_at_the_beginning_of_its_validity(rooted):
    """As in model-signing: before its root began it is refused, after its own end its signature still stands."""
    early = signers.START - dt.timedelta(days=30)
    leaf = signers.certificate("Early", KEY, ROOT, ROOT_KEY, usage=signers.CODE_SIGNING, start=early)
    with pytest.raises(CheckFailed, match="not trusted"):
        verify_signature(signers.signed(ARCHIVE, KEY, (leaf,)), rooted)


def test_nobody_trusted_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match="nobody is trusted"):
        verify_signature(ARCHIVE, Trusted())
    with pytest.raises(BadInput, match="cannot read"):
        verify_signature(ARCHIVE, Trusted(keys=(tmp_path / "nowhere.pub",)))
    (tmp_path / "text.pub").write_text("no key")
    with pytest.raises(BadInput, match="no public key"):
        verify_signature(ARCHIVE, Trusted(keys=(tmp_path / "text.pub",)))
    with pytest.raises(BadInput, match="no certificate"):
        verify_signature(ARCHIVE, Trusted(certificates=(tmp_path / "text.pub",)))
    edwards = ed25519.Ed25519PrivateKey.generate().public_key()
    (tmp_path / "ed.pub").write_bytes(
        edwards.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(BadInput, match="no elliptic curve key"):
        verify_signature(ARCHIVE, Trusted(keys=(tmp_path / "ed.pub",)))
