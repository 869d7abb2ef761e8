"""A bundle as RAUC's artifact: signed, described, refused where a byte changed, and what is in it runs."""

import datetime as dt
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge import releases
from edge.errors import BadInput, BadRecipe, CheckFailed, EnvironmentFailed
from edgetool.fleet.rauc import Artifact, Signing, export
from edgetool.progress import Silent
from tests.edgetool.deploy.ssh_device import fake_bundle

MISSING = [name for name in ("rauc", "mksquashfs", "unsquashfs") if shutil.which(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: apt-get install rauc squashfs-tools ({MISSING})")


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate that vouches for itself, and its key."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    paths[1].write_bytes(private)
    return paths


def make(bundle: Path, out: Path, signing: Signing, layout: str = "verity", compatible: str = "shop") -> Artifact:
    glibc = int(platform.libc_ver()[1].split(".")[1])
    python = (sys.version_info[0], sys.version_info[1])
    return export(
        bundle, out, signing, Silent(), compatible=compatible, version="7", python=python, glibc=glibc, layout=layout
    )


def info(path: Path, keyring: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["rauc", "info", f"--keyring={keyring}", str(path)], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("layout", ["plain", "verity"])
def test_an_artifact_is_signed_described_and_runs(tmp_path: Path, layout: str) -> None:
    cert, key = certificate(tmp_path, "shop")
    bundle = fake_bundle(tmp_path / "one.edge")
    done = make(bundle, tmp_path / "one.raucb", Signing(cert, key, keyring=cert), layout)
    assert done.description is not None
    assert "Compatible: \t'shop'" in done.description
    assert "release.tar" in done.description

    other, _ = certificate(tmp_path / "other", "other")
    refused = info(done.path, other)
    assert refused.returncode != 0
    assert "signature verification failed" in refused.stderr.lower() + refused.stdout.lower()

    # The signature is at the end. Of `plain` it covers the content, of `verity` the hash tree that covers it.
    changed = bytearray(done.path.read_bytes())
    changed[len(changed) // 2 if layout == "plain" else -200] ^= 1
    damaged = tmp_path / "damaged.raucb"
    damaged.write_bytes(changed)
    assert info(damaged, cert).returncode != 0

    subprocess.run(["unsquashfs", "-q", "-n", "-d", tmp_path / "content", done.path], check=True, capture_output=True)
    base = tmp_path / "base"
    with tarfile.open(tmp_path / "content" / "release.tar") as archive:
        assert {entry.uname for entry in archive} == {"root"}
        archive.extractall(base, filter="data")
    assert releases.pointed(base, "current") == releases.pointed(base, "last-good") == done.release
    assert releases.check(base, done.release).name == "one"
    start = base / "current" / "start.py"
    words = [sys.executable, "-I", str(start), "edge", "verify", str(base / "current" / "bundle.edge")]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "ExecStart=" in (base / "edgetool.service").read_text()


def test_what_cannot_be_exported_leaves_nothing(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "shop")
    _, wrong_key = certificate(tmp_path / "other", "other")
    bundle, out = fake_bundle(tmp_path / "one.edge"), tmp_path / "out" / "one.raucb"
    with pytest.raises((EnvironmentFailed, CheckFailed), match="rauc does not"):
        make(bundle, out, Signing(cert, wrong_key, keyring=cert))
    with pytest.raises(BadRecipe, match="cannot stand in a RAUC manifest"):
        make(bundle, out, Signing(cert, key), compatible="a\n[image.rootfs]")
    with pytest.raises(BadRecipe, match="no layout 'zip'"):
        make(bundle, out, Signing(cert, key), layout="zip")
    board = fake_bundle(tmp_path / "board.edge", target="ethos-u55-128")
    with pytest.raises(BadInput, match="runs no RAUC"):
        make(board, out, Signing(cert, key))
    assert not out.exists()
