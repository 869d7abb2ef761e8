"""A wheel's files on a device that may have no pip. The standard library alone."""

import shutil
import zipfile
from pathlib import Path

from edge.errors import BadInput


def unpack_wheel(wheel: Path, folder: Path) -> None:
    """Unpack a wheel as pip would, but for its scripts and its bytecode.

    Raises:
        BadInput: a member would land outside.

    """
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            parts = Path(entry.filename).parts
            if entry.filename.startswith("/") or ".." in parts:
                raise BadInput(f"the wheel holds {entry.filename!r}")
            if parts and parts[0].endswith(".data"):
                if parts[1] not in {"purelib", "platlib"}:
                    continue
                parts = parts[2:]
            target = folder.joinpath(*parts)
            if entry.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
