"""Which format a model file really has: told from its first bytes, then held against its suffix."""

import zipfile
from pathlib import Path

from edge.artifact import Format
from edge.errors import BadModel

SUFFIXES: dict[str, Format] = {
    ".keras": "keras",
    ".h5": "h5",
    ".hdf5": "h5",
    ".onnx": "onnx",
    ".tflite": "tflite",
}
KNOWN = "a model is a .keras, .h5, .onnx or .tflite file or the folder of a SavedModel"

_HDF5 = b"\x89HDF\r\n\x1a\n"  # HDF5 file format specification III.A, level 0A
_ZIP = b"PK\x03\x04"
_TFLITE = b"TFL3"  # file_identifier of tensorflow/compiler/mlir/lite/schema/schema.fbs


def detect(path: Path) -> Format:
    """The format of the model at `path`, from its content.

    Raises:
        BadModel: missing, empty, of no known format, or of another format than its suffix says.

    """
    if not path.exists():
        raise BadModel(f"no model at {path}", "check the path")
    if path.is_dir():
        return _folder(path)
    size = path.stat().st_size
    if size == 0:
        raise BadModel(f"{path} is empty (0 bytes)", "the copy or the export that made it failed: make it again")
    with path.open("rb") as stream:
        head = stream.read(16)
    named = SUFFIXES.get(path.suffix.lower())
    found = _content(path, head)
    if found is None and named == "onnx":
        found = "onnx"  # protobuf has no magic number: the parser decides
    if found is None:
        raise BadModel(
            f"{path} is not a model: its {size} bytes begin with {head[:8].hex(' ')}",
            KNOWN if named is None else f"a {named} file does not begin so: the file is damaged or of another kind",
        )
    if named is None:
        raise BadModel(
            f"{path} has the suffix {path.suffix!r}, its content is {found}", f"rename it to *{_suffix(found)}"
        )
    if named != found:
        raise BadModel(
            f"{path} has the suffix {path.suffix} but its content is {found}", f"rename it to *{_suffix(found)}"
        )
    return found


def _content(path: Path, head: bytes) -> Format | None:
    if head.startswith(_HDF5):
        return "h5"
    if head[4:8] == _TFLITE:
        return "tflite"
    if head.startswith(_ZIP):
        try:
            with zipfile.ZipFile(path) as archive:
                return "keras" if "config.json" in archive.namelist() else None
        except zipfile.BadZipFile as error:
            raise BadModel(f"{path} is a damaged zip archive: {error}", "copy or save the model again") from error
    # The first field of an ONNX ModelProto is ir_version (field 1, varint): 0x08, then a version below 0x40.
    if head[0] == 0x08 and len(head) > 2 and head[1] < 0x40:
        return "onnx"
    return None


def _folder(path: Path) -> Format:
    if (path / "saved_model.pb").is_file():
        return "savedmodel"
    if (path / "keras_metadata.pb").is_file() or (path / "variables").is_dir():
        raise BadModel(f"{path} is a SavedModel without its saved_model.pb", "copy the whole folder")
    raise BadModel(f"{path} is a folder without saved_model.pb", KNOWN)


def _suffix(kind: Format) -> str:
    return next((suffix for suffix, name in SUFFIXES.items() if name == kind), "")
