"""Formats are told from content; a suffix that says otherwise is an error."""

import zipfile
from pathlib import Path

import pytest

from convert.detect import detect
from edge.errors import BadModel
from tests import models


def test_each_format_is_known_by_its_content(tmp_path: Path, keras_file: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"x")
    assert detect(keras_file) == "keras"
    assert detect(models.litert_float()) == "tflite"
    assert detect(models.onnx_mlp()) == "onnx"
    assert detect(tmp_path) == "savedmodel"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tflite", b"", "is empty"),
        ("a.tflite", b"nonsense nonsense", "is not a model"),
        ("a.h5", b"nonsense nonsense", "is not a model"),
        ("a.keras", b"PK\x03\x04 nonsense nonsense", "damaged zip"),
        ("a.keras", b"\x89HDF\r\n\x1a\n" + bytes(99), "its content is h5"),
        ("a.onnx", b"\x1c\0\0\0TFL3" + bytes(99), "its content is tflite"),
        ("a.bin", b"\x1c\0\0\0TFL3" + bytes(99), "its content is tflite"),
        ("a.txt", b"hello", "is not a model"),
    ],
)
def test_a_file_that_is_no_model_of_its_suffix_is_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadModel, match=message) as error:
        detect(path)
    assert str(path) in error.value.message
    assert error.value.hint


def test_missing_files_and_folders_that_hold_no_model(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="no model at"):
        detect(tmp_path / "absent.onnx")
    with pytest.raises(BadModel, match="without saved_model"):
        detect(tmp_path)
    (tmp_path / "variables").mkdir()
    with pytest.raises(BadModel, match="without its saved_model"):
        detect(tmp_path)


def test_a_zip_that_is_no_keras_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(BadModel, match="is not a model"):
        detect(path)
