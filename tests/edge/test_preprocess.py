import dataclasses
import json

import numpy as np
import pytest

from edge.audio import AudioInput
from edge.errors import BadData, BadInput, UnknownName
from edge.image import ImageInput
from edge.preprocess import KINDS, ArrayInput, from_plain, parse_npy, read_examples, read_npy, read_npz
from edge.table import TableInput

STEPS = {
    "array": ArrayInput(0.5, -1.0),
    "audio": AudioInput(16000, 100, "TC"),
    "image": ImageInput(8, 6, 3, 0.25, 1.0, "CHW"),
    "table": TableInput(("a", "b"), (0.0, 1.0), (1.0, 2.5)),
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_survives_json(kind):
    step = STEPS[kind]
    assert step.kind == kind
    assert from_plain(json.loads(json.dumps(dataclasses.asdict(step)))) == step


@pytest.mark.parametrize(
    "plain",
    [{"kind": "array", "colour": 1}, {"kind": "image"}, {"kind": "image", "height": "x", "width": 1, "channels": 1}],
)
def test_damaged_steps_are_refused(plain):
    with pytest.raises(BadInput):
        from_plain(plain)


@pytest.mark.parametrize("plain", [{"kind": "imag"}, {}, None, 3, {"kind": ["array"]}])
def test_unknown_kinds_are_refused(plain):
    with pytest.raises(UnknownName, match="kind of preprocessing"):
        from_plain(plain)


def test_arrays_are_cast_or_scaled():
    raw = np.array([[0, 2], [4, 255]], np.uint8)
    assert ArrayInput(dtype="int32")(raw).dtype == np.int32
    np.testing.assert_array_equal(ArrayInput(0.5, -1)(raw), np.float32([[-1, 0], [1, 126.5]]))
    with pytest.raises(BadData, match="cannot be scaled"):
        ArrayInput(0.5, dtype="int32")
    with pytest.raises(BadData):
        ArrayInput(dtype="object")


def test_an_npz_holds_many_examples_of_several_inputs(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, left=np.arange(6).reshape(3, 2), right=np.arange(3))
    examples = list(read_examples(path, {"left": ArrayInput(), "right": ArrayInput()}))
    assert [name for name, _ in examples] == [f"{path}:{i}" for i in range(3)]
    np.testing.assert_array_equal(examples[2][1]["left"], [4, 5])
    with pytest.raises(BadData, match="holds left, right"):
        list(read_examples(path, {"left": ArrayInput(), "middle": ArrayInput()}))


def test_a_csv_holds_an_example_in_each_row_and_other_columns_do_not_matter(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("b,target,a\n1,x,2\n3,y,4\n")
    examples = list(read_examples(path, {"in": STEPS["table"]}))
    assert [name for name, _ in examples] == [f"{path}:2", f"{path}:3"]
    np.testing.assert_array_equal(examples[1][1]["in"], [4, 3])


def test_a_picture_and_an_npy_hold_one_example(tmp_path):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    (tmp_path / "a.pgm").write_bytes(b"P5 4 3 255\n" + pixels.tobytes())
    np.save(tmp_path / "a.npy", pixels)
    for name in ("a.pgm", "a.npy"):
        ((_, raw),) = read_examples(tmp_path / name, {"in": ImageInput(3, 4, 1)})
        np.testing.assert_array_equal(raw["in"], pixels)


def test_files_of_the_wrong_kind_say_what_is_taken(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"")
    with pytest.raises(BadData, match=r"takes pictures .*\.npy"):
        list(read_examples(tmp_path / "a.wav", {"in": ImageInput(3, 4, 1)}))
    with pytest.raises(BadData, match=r"2 inputs takes \.npz"):
        list(read_examples(tmp_path / "a.wav", {"a": ArrayInput(), "b": ArrayInput()}))
    with pytest.raises(BadData, match="there is no"):
        list(read_examples(tmp_path / "b.txt", {"a": ArrayInput()}))


def test_pickles_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", a=np.array([{}], object))
    with pytest.raises(BadData, match="object"):
        read_npy(tmp_path / "a.npy")
    with pytest.raises(BadData, match="pickled"):
        read_npz(tmp_path / "a.npz")


def test_damaged_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((10, 10)))
    np.savez(tmp_path / "a.npz", a=np.zeros((10, 10)))
    for name, read in (("a.npy", read_npy), ("a.npz", read_npz)):
        whole = (tmp_path / name).read_bytes()
        for content in (b"", whole[:20], whole[:-30], b"x" * 100):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(BadData):
                read(tmp_path / name)
        (tmp_path / name).unlink()
        with pytest.raises(BadData, match="cannot read"):
            read(tmp_path / name)


def test_a_header_that_announces_more_than_there_is_takes_no_memory(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(10))
    huge = (tmp_path / "a.npy").read_bytes().replace(b"(10,), }            ", b"(1000000000000,), } ")
    with pytest.raises(ValueError, match="announces 8000000000000 bytes, but 80"):
        parse_npy(huge)


def test_column_major_arrays_are_read(tmp_path):
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy"), array)


def test_nan_is_named_with_its_place(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[1, 2], [np.nan, 0]]))
    with pytest.raises(BadData, match=r"index \[1, 0\]"):
        read_npy(tmp_path / "a.npy")
