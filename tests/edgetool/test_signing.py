"""What model-signing signs, a device takes, and the other way round; what one refuses, both refuse."""

import stat
import zipfile

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edge.artifact import Artifact
from edge.bundle import Golden, open_bundle, read_bundle, write_bundle
from edge.engines.fake import FakeModel
from edge.errors import BadInput, CheckFailed
from edge.preprocess import ArrayInput
from edge.trust.envelope import join, split
from edge.trust.signature import Trusted, verify_signature
from edgetool.keys import PASSWORD, load_private_key, new_keys
from edgetool.signing import sign_with_certificate, sign_with_key, verify_bundle
from tests.edge.trust import signers

MODEL = FakeModel()
INPUTS = {"input": np.arange(12, dtype=np.float32).reshape(3, 4)}
OUTPUTS = {"output": np.cos(INPUTS["input"].sum(axis=1, keepdims=True) + np.arange(3)).astype(np.float32)}


@pytest.fixture
def bundle(tmp_path):
    source = tmp_path / "source.fake"
    source.write_bytes(MODEL.to_bytes())
    artifact = Artifact(source, "fake", MODEL.inputs, MODEL.outputs, "")
    path = tmp_path / "tiny.edge"
    preprocess = {"input": ArrayInput(0.5)}
    write_bundle(path, artifact, Golden(INPUTS, OUTPUTS), name="t", target="x", task="n", preprocess=preprocess)
    return path


@pytest.fixture
def keys(tmp_path, monkeypatch):
    monkeypatch.delenv(PASSWORD, raising=False)
    return new_keys(tmp_path / "keys" / "release", "ecdsa")


def test_a_signed_bundle_is_taken_under_any_name(bundle, keys, tmp_path):
    private, public = keys
    before = bundle.read_bytes()
    sign_with_key(bundle, private)
    assert split(bundle.read_bytes())[0] == before
    moved = bundle.rename(tmp_path / "moved.edge")
    signer = verify_bundle(moved, Trusted(keys=(public,)))
    assert signer.subject is None
    opened = open_bundle(moved)
    assert opened.signed
    assert opened.model == MODEL.to_bytes()
    assert zipfile.is_zipfile(moved)


def test_signing_again_replaces_the_signature(bundle, keys, tmp_path):
    private, public = keys
    sign_with_key(bundle, private)
    size = bundle.stat().st_size
    other_private, other_public = new_keys(tmp_path / "other", "ecdsa")
    sign_with_key(bundle, other_private)
    assert abs(bundle.stat().st_size - size) < 20
    verify_bundle(bundle, Trusted(keys=(public, other_public)))
    with pytest.raises(CheckFailed, match="another key"):
        verify_bundle(bundle, Trusted(keys=(public,)))


def test_the_library_takes_what_the_tests_of_devices_sign(bundle, tmp_path):
    key = ec.generate_private_key(ec.SECP384R1())
    bundle.write_bytes(signers.signed(bundle.read_bytes(), key))
    signer = verify_bundle(bundle, Trusted(keys=(signers.write_public(tmp_path / "a.pub", key),)))
    assert signer.subject is None


def test_certificates(bundle, tmp_path):
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = signers.certificate("Root", root_key, ca=True)
    leaf = signers.certificate("Builder", key, root, root_key, usage=signers.CODE_SIGNING)
    stranger = signers.certificate("Stranger", root_key, ca=True)
    private = signers.write_private(tmp_path / "leaf.key", key)
    paths = {n: signers.write_certificate(tmp_path / f"{n}.pem", c) for n, c in (("root", root), ("leaf", leaf))}
    other = signers.write_certificate(tmp_path / "stranger.pem", stranger)
    sign_with_certificate(bundle, private, paths["leaf"], [])
    assert verify_bundle(bundle, Trusted(certificates=(paths["root"],))).subject == "CN=Builder"
    with pytest.raises(CheckFailed, match="not trusted"):
        verify_bundle(bundle, Trusted(certificates=(other,)))
    wrong = signers.write_private(tmp_path / "wrong.key", root_key)
    with pytest.raises(BadInput, match="cannot be signed"):
        sign_with_certificate(bundle, wrong, paths["leaf"], [])
    with pytest.raises(BadInput, match="no certificate"):
        sign_with_certificate(bundle, private, tmp_path / "nowhere.pem", [])


def test_a_change_is_refused_by_both(bundle, keys, tmp_path):
    from model_signing import verifying

    private, public = keys
    sign_with_key(bundle, private)
    archive, signature = split(read_bundle(bundle))
    (tmp_path / "signature").write_bytes(signature)
    for position in range(0, len(archive), len(archive) // 20):
        changed = bytearray(archive)
        changed[position] ^= 0x10
        with pytest.raises(CheckFailed, match="changed since it was signed"):
            verify_signature(join(bytes(changed), signature), Trusted(keys=(public,)))
        (tmp_path / "changed").write_bytes(changed)
        with pytest.raises(ValueError, match="mismatch"):
            verifying.Config().use_elliptic_key_verifier(public_key=public).verify(
                tmp_path / "changed", tmp_path / "signature"
            )


def test_a_damaged_bundle_is_not_signed(bundle, keys):
    content = bundle.read_bytes()
    bundle.write_bytes(content[:-30])
    with pytest.raises(BadInput, match="damaged or no bundle"):
        sign_with_key(bundle, keys[0])
    assert bundle.read_bytes() == content[:-30]


def test_what_was_damaged_before_it_was_signed_is_refused(bundle, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    bundle.write_bytes(signers.signed(bundle.read_bytes()[:-30], key))
    with pytest.raises(BadInput, match="damaged or no bundle"):
        verify_bundle(bundle, Trusted(keys=(signers.write_public(tmp_path / "a.pub", key),)))


def test_keys_are_private_and_never_overwritten(tmp_path, monkeypatch):
    monkeypatch.delenv(PASSWORD, raising=False)
    private, public = new_keys(tmp_path / "a", "ed25519")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert public.read_bytes().startswith(b"-----BEGIN PUBLIC KEY")
    before = private.read_bytes()
    with pytest.raises(BadInput, match="exists already"):
        new_keys(tmp_path / "a", "ecdsa")
    assert private.read_bytes() == before


def test_an_encrypted_key_needs_its_password(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv(PASSWORD, "correct horse")
    private, public = new_keys(tmp_path / "a", "ecdsa")
    assert b"ENCRYPTED" in private.read_bytes()
    sign_with_key(bundle, private)
    verify_bundle(bundle, Trusted(keys=(public,)))
    monkeypatch.setenv(PASSWORD, "wrong")
    with pytest.raises(BadInput, match="no private key that can be read") as caught:
        sign_with_key(bundle, private)
    assert PASSWORD in caught.value.hint
    monkeypatch.delenv(PASSWORD)
    with pytest.raises(BadInput, match="encrypted"):
        sign_with_key(bundle, private)


def test_a_key_of_another_kind_signs_no_bundle(bundle, tmp_path, monkeypatch):
    monkeypatch.delenv(PASSWORD, raising=False)
    private, public = new_keys(tmp_path / "a", "ed25519")
    with pytest.raises(BadInput, match="does not sign bundles"):
        sign_with_key(bundle, private)
    with pytest.raises(BadInput, match="no private key"):
        load_private_key(public)
    with pytest.raises(BadInput, match="cannot read"):
        load_private_key(tmp_path / "nowhere.key")
