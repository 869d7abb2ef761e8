"""ONNX files are written here with a few lines of Protocol Buffers, so that no onnx package is needed."""

import importlib.util
from pathlib import Path

import pytest

from edge.engines import open_engine
from edge.engines.onnx_file import check_external_data, external_locations, node_count
from edge.errors import BadModel

DATA = Path(__file__).parent / "data"


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(number: int, content: bytes | str) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(location: str) -> bytes:
    entry = message(1, "location") + message(2, location)
    return (
        varint(1 << 3)
        + varint(3)
        + message(8, "w")
        + message(13, message(1, "offset") + message(2, "0"))
        + message(13, entry)
    )


def in_initializer(location: str) -> bytes:
    return message(7, message(5, tensor(location)))


def in_attribute(location: str) -> bytes:
    return message(7, message(1, message(5, message(5, tensor(location)))))


def in_subgraph(location: str) -> bytes:
    branch = message(6, message(5, tensor(location)))
    return message(7, message(1, message(5, branch)))


def in_function(location: str) -> bytes:
    return message(25, message(7, message(5, message(5, tensor(location)))))


def in_sparse(location: str) -> bytes:
    return message(7, message(15, message(2, tensor(location))))


PLACES = [in_initializer, in_attribute, in_subgraph, in_function, in_sparse]


@pytest.mark.parametrize("place", PLACES)
def test_external_data_is_found_wherever_a_tensor_can_be(place):
    assert external_locations(place("weights.bin")) == ["weights.bin"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("location", ["/etc/passwd", "../secret", "sub/../../secret", "out/secret"])
def test_external_data_outside_the_folder_is_refused(place, location, tmp_path):
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"s")
    (folder / "out").symlink_to(tmp_path)
    with pytest.raises(BadModel, match="lies outside its folder"):
        check_external_data(place(location), folder)
    (folder / "m.onnx").write_bytes(place(location))
    if importlib.util.find_spec("onnxruntime"):
        with pytest.raises(BadModel, match="lies outside its folder"):
            open_engine(folder / "m.onnx", "onnx")


def test_external_data_in_the_folder_passes_and_must_exist(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w.bin").write_bytes(b"w")
    check_external_data(in_initializer("sub/w.bin"), tmp_path)
    with pytest.raises(BadModel, match=r"'w\.bin' is missing"):
        check_external_data(in_initializer("w.bin"), tmp_path)


def test_bytes_have_no_folder_for_external_data():
    with pytest.raises(BadModel, match="without its folder"):
        check_external_data(in_initializer("w.bin"), None)
    check_external_data((DATA / "tiny.onnx").read_bytes(), None)


def test_nodes_are_counted():
    assert node_count((DATA / "tiny.onnx").read_bytes()) == 7


def test_a_truncated_or_foreign_file_is_told_apart():
    content = (DATA / "tiny.onnx").read_bytes()
    for cut in range(20, len(content) - 1, 37):
        with pytest.raises(BadModel, match="not an ONNX file"):
            external_locations(content[:cut])
    with pytest.raises(BadModel, match="not an ONNX file"):
        external_locations((DATA / "tiny.tflite").read_bytes())
    with pytest.raises(BadModel, match="not an ONNX file"):
        external_locations(b"\xff" * 20)


def test_nesting_ends_somewhere():
    graph = b""
    for _ in range(200):
        graph = message(1, message(5, message(6, graph)))
    with pytest.raises(BadModel, match="nested"):
        external_locations(message(7, graph))
