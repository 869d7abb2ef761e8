"""Model files by pinned hash: checked before a runtime parses a byte of them."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from edge.errors import BadModel, CheckFailed

MAX_BYTES = 256 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ModelFile:
    """A model (.onnx, .tflite or .edge) beside the settings, and the hash that it must have."""

    file: str
    sha256: str

    def __post_init__(self) -> None:
        if not self.file or not _SHA256.fullmatch(self.sha256):
            raise ValueError("sha256 is 64 digits 0-9 a-f, file is not empty")


@dataclass(frozen=True)
class Model:
    """A model's bytes and format, and what its bundle says of it where it came in one."""

    content: bytes
    format: str
    sha256: str
    labels: tuple[str, ...] = ()
    threshold: float | None = None


def checked_model(wanted: ModelFile, folder: Path) -> Model:
    """The model of a file in `folder` that has its hash; nothing is parsed before that is known.

    Raises:
        CheckFailed: the file has another hash than the settings say.
        BadModel: it is missing, too large, or of no format that runs.

    """
    path = folder / wanted.file
    content, found = _content(path)
    if found != wanted.sha256:
        raise CheckFailed(
            f"{path} is another file than the settings say: sha256 {found[:12]}, not {wanted.sha256[:12]}",
            "copy the model again, or write its new hash into the settings",
        )
    return _parsed(path, content, found)


def read_model(path: Path) -> Model:
    """As `checked_model`, whatever its hash."""
    return _parsed(path, *_content(path))


def _content(path: Path) -> tuple[bytes, str]:
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= MAX_BYTES else b""
    except OSError as error:
        raise BadModel(f"cannot read the model {path}: {error.strerror}") from error
    if size > MAX_BYTES:
        raise BadModel(f"{path} has {size} bytes; the models of an app have at most {MAX_BYTES}")
    return content, hashlib.sha256(content).hexdigest()


def _parsed(path: Path, content: bytes, sha256: str) -> Model:
    suffix = path.suffix.lower()
    if suffix == ".edge":
        from edge.bundle import parse_bundle

        bundle = parse_bundle(content, path)
        manifest = bundle.manifest
        threshold = next(iter(manifest.thresholds.values()), None)
        return Model(bundle.model, manifest.format, sha256, manifest.labels, threshold)
    if suffix not in {".onnx", ".tflite"}:
        raise BadModel(f"{path} is no model that runs here", "use .onnx, .tflite or .edge")
    return Model(content, suffix[1:], sha256)
