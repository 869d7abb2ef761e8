"""Whose bundles may go to a device: signed ones only where keys are trusted, and never by a revoked key."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from edge import release_replay, releases
from edge.errors import BadInput, CheckFailed
from edgetool.deploy.install import Settings, deploy, rollback
from edgetool.deploy.trust import Trust, folder, remember_key, require_maker, user_trust
from edgetool.keys import PASSWORD, new_keys
from edgetool.progress import Silent
from edgetool.signing import sign_with_key
from tests.edgetool.deploy.ssh_device import SshDevice, fake_bundle


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv(PASSWORD, raising=False)


def signed(tmp_path: Path, name: str, key: Path) -> Path:
    bundle = fake_bundle(tmp_path / f"{name}.edge")
    sign_with_key(bundle, key)
    return bundle


def test_nobody_is_asked_where_nobody_is_trusted(tmp_path: Path) -> None:
    bundle = fake_bundle(tmp_path / "one.edge")
    assert require_maker(bundle.read_bytes(), bundle, user_trust()).signer is None


def test_a_bundle_is_taken_from_who_is_trusted_alone(tmp_path: Path) -> None:
    mine, theirs = new_keys(tmp_path / "mine", "ecdsa"), new_keys(tmp_path / "theirs", "ecdsa")
    remember_key(mine[1], "trusted")
    good, other = signed(tmp_path, "good", mine[0]), signed(tmp_path, "other", theirs[0])
    unsigned = fake_bundle(tmp_path / "unsigned.edge")
    maker = require_maker(good.read_bytes(), good, user_trust())
    assert maker.keys == (mine[1].read_text(),)
    for bundle, reason in ((other, "signed by another key"), (unsigned, "it is not signed")):
        with pytest.raises(CheckFailed, match=reason):
            require_maker(bundle.read_bytes(), bundle, user_trust())
        assert require_maker(bundle.read_bytes(), bundle, user_trust(unsigned=True)).signer is None
    changed = bytearray(good.read_bytes())
    changed[100] ^= 1
    with pytest.raises(CheckFailed, match="changed since it was signed"):
        require_maker(bytes(changed), good, user_trust())
    assert require_maker(other.read_bytes(), other, user_trust((theirs[1],))).signer is not None


def test_a_revoked_key_counts_no_longer_whatever_is_said(tmp_path: Path) -> None:
    private, public = new_keys(tmp_path / "maker", "ecdsa")
    bundle = signed(tmp_path, "one", private)
    remember_key(public, "trusted")
    remember_key(public, "revoked")
    for trust in (user_trust(), user_trust(unsigned=True), Trust((), (public,))):
        with pytest.raises(CheckFailed, match=r"maker\.pub, a key that was revoked"):
            require_maker(bundle.read_bytes(), bundle, trust)
    other = fake_bundle(tmp_path / "two.edge")
    with pytest.raises(CheckFailed, match="every trusted key was revoked"):
        require_maker(other.read_bytes(), other, user_trust())


def test_what_is_no_key_is_not_trusted(tmp_path: Path) -> None:
    private, public = new_keys(tmp_path / "maker", "ecdsa")
    with pytest.raises(BadInput, match="no public key"):
        remember_key(private, "trusted")
    remember_key(public, "trusted")
    _, other = new_keys(tmp_path / "elsewhere" / "maker", "ecdsa")
    with pytest.raises(BadInput, match="another key is trusted"):
        remember_key(other, "trusted")
    assert [path.name for path in folder("trusted").iterdir()] == ["maker.pub"]


def test_the_device_checks_the_signature_before_it_parses(device: SshDevice, tmp_path: Path) -> None:
    """The release carries the keys, the replay and every start of the service ask for them; a revoked one is not gone
    back to.
    """
    private, public = new_keys(tmp_path / "maker", "ecdsa")
    remember_key(public, "trusted")
    settings = Settings(limit_s=120)
    first = asyncio.run(deploy(signed(tmp_path, "one", private), device.address, device.login, settings, Silent()))
    release = device.base / "releases" / str(first.release)
    assert (release / "trusted-0.pem").read_text() == public.read_text()
    assert "checked here and on the device" in first.signature

    about = releases.read_release(device.base, str(first.release))
    staged = device.base / "staged"
    staged.mkdir()
    (staged / releases.BUNDLE).write_bytes((release / releases.BUNDLE).read_bytes())
    _, other = new_keys(tmp_path / "other", "ecdsa")
    refused = releases.place(device.base, staged, replace(about, keys=(other.read_text(),)))
    with pytest.raises(CheckFailed, match="signed by another key"):
        release_replay.replay(device.base, refused, 120)

    unsigned = replace(settings, trust=user_trust(unsigned=True))
    two = fake_bundle(tmp_path / "two.edge")
    with pytest.raises(CheckFailed, match="it is not signed"):
        asyncio.run(deploy(two, device.address, device.login, settings, Silent()))
    second = asyncio.run(deploy(two, device.address, device.login, unsigned, Silent()))
    assert "NOT CHECKED" in second.as_text()

    remember_key(public, "revoked")
    with pytest.raises(CheckFailed, match="a key that was revoked since"):
        asyncio.run(rollback(device.address, device.login, Settings(limit_s=120), Silent()))
