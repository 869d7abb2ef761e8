"""A model file on disk, described: what it takes, what it gives, and the steps that made it."""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.tensors import TensorSpec

Format = Literal["keras", "h5", "savedmodel", "onnx", "tflite"]


@dataclass(frozen=True)
class Artifact:
    """A model on disk. `path` is a file, or the folder of a SavedModel; `steps` names the passes so far."""

    path: Path
    format: Format
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    sha256: str
    steps: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """The bytes on disk: of the file, or of all files of the folder."""
        return sum(file.stat().st_size for file in files_of(self.path))


def files_of(path: Path) -> tuple[Path, ...]:
    """The file itself, or every file below a folder in sorted order."""
    return (path,) if path.is_file() else tuple(sorted(p for p in path.rglob("*") if p.is_file()))


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file; of a folder, over the relative names and contents of its files in order."""
    digest = hashlib.sha256()
    for file in files_of(path):
        if file != path:
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        with file.open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


def gzip_bytes(path: Path) -> int:
    """The bytes of `path` gzipped at level 9, without name or time: how small plain packing makes it."""
    return sum(len(gzip.compress(file.read_bytes(), 9, mtime=0)) for file in files_of(path))
