import numpy as np
import pytest

from edge.errors import BadData
from edge.preprocess import ArrayInput
from edge.tensors import Quantization, TensorSpec
from edgetool.data.load import load_task

IMAGE = TensorSpec("image", (None, 4, 4, 1), "float32")
SCORES = TensorSpec("scores", (None, 3), "float32")
PRICE = TensorSpec("price", (None, 1), "float32")


def arrays(n=30, n_test=12, **changes):
    rng = np.random.default_rng(0)
    made = {
        "x_train": rng.random((n, 4, 4, 1), np.float32),
        "y_train": np.arange(n) % 3,
        "x_test": rng.random((n_test, 4, 4, 1), np.float32),
        "y_test": np.arange(n_test) % 3,
        **changes,
    }
    return {key: value for key, value in made.items() if value is not None}


def load(tmp_path, contents, inputs=(IMAGE,), output=SCORES, **settings):
    np.savez(tmp_path / "digits.npz", **contents)
    return load_task(tmp_path / "digits.npz", inputs=inputs, outputs=(output,), **settings)


def test_validation_is_drawn_from_training(tmp_path):
    contents = arrays()
    task = load(tmp_path, contents)
    assert (task.name, task.metric.name, task.labels) == ("digits", "accuracy", ("0", "1", "2"))
    assert (task.train.n, task.val.n, task.test.n) == (27, 3, 12)
    assert sorted(task.val.labels()) == [0, 1, 2]
    inputs, labels = task.test.take(np.array([5, 0]))
    np.testing.assert_array_equal(inputs["image"], contents["x_test"][[5, 0]])
    np.testing.assert_array_equal(labels, [2, 0])
    together = np.concatenate([split.take(np.arange(split.n))[0]["image"] for split in (task.train, task.val)])
    assert {row.tobytes() for row in together} == {row.tobytes() for row in contents["x_train"]}


def test_a_given_validation_split_groups_and_names_are_used(tmp_path):
    contents = arrays()
    contents |= {"x_val": contents["x_test"][:6], "y_val": contents["y_test"][:6]}
    contents |= {"groups_test": np.repeat(["ann", "bob", "cy"], 4), "labels": np.array(["cat", "dog", "owl"])}
    task = load(tmp_path, contents)
    assert (task.train.n, task.val.n) == (30, 6)
    np.testing.assert_array_equal(task.test.groups, np.repeat([0, 1, 2], 4))
    assert task.train.groups is None
    assert task.labels == ("cat", "dog", "owl")


def test_values_make_a_regression(tmp_path):
    task = load(tmp_path, arrays(y_train=np.linspace(0, 1, 30), y_test=np.linspace(0, 1, 12)), output=PRICE)
    assert (task.metric.name, task.labels) == ("mae", ())
    assert task.train.labels().dtype == np.float32


def test_whole_numbers_are_values_where_the_metric_says_so(tmp_path):
    contents = arrays(y_train=np.arange(30) * 10, y_test=np.arange(12) * 10)
    with pytest.raises(BadData, match="label 10 of example 1 is out of range"):
        load(tmp_path, contents, output=PRICE)
    assert load(tmp_path, contents, output=PRICE, metric="rmse").test.labels()[3] == 30


def test_a_binary_model_with_one_output(tmp_path):
    task = load(tmp_path, arrays(y_train=np.arange(30) % 2, y_test=np.arange(12) % 2 == 1), output=PRICE, metric="f1")
    assert task.labels == ("0", "1")


def test_one_hot_rows_and_columns_of_labels_are_labels(tmp_path):
    task = load(tmp_path, arrays(y_train=np.eye(3)[np.arange(30) % 3], y_test=(np.arange(12) % 3)[:, None]))
    assert task.metric.name == "accuracy"
    np.testing.assert_array_equal(task.test.labels(), np.arange(12) % 3)


def test_several_inputs(tmp_path):
    left, right = TensorSpec("left", (None, 2), "float32"), TensorSpec("right", (None, 5), "int32")
    rng = np.random.default_rng(0)
    contents = {"y_train": np.arange(30) % 3, "y_test": np.arange(12) % 3}
    for side, n in (("train", 30), ("test", 12)):
        contents[f"x_{side}.left"] = rng.random((n, 2))
        contents[f"x_{side}.right"] = rng.integers(0, 9, (n, 5))
    task = load(tmp_path, contents, inputs=(left, right))
    inputs, _ = task.val.take(np.arange(2))
    assert {name: (values.shape, values.dtype) for name, values in inputs.items()} == {
        "left": ((2, 2), np.float32),
        "right": ((2, 5), np.int32),
    }
    del contents["x_test.right"]
    with pytest.raises(BadData, match=r"has no x_test\.right"):
        load(tmp_path, contents, inputs=(left, right))


def test_a_quantized_input_takes_real_values_or_its_own_integers(tmp_path):
    spec = TensorSpec("image", (1, 4, 4, 1), "int8", Quantization(1 / 255, -128))
    assert load(tmp_path, arrays(), inputs=(spec,)).preprocess == {"image": ArrayInput()}
    raw = {side: np.zeros((n, 4, 4, 1), np.int8) for side, n in (("x_train", 30), ("x_test", 12))}
    assert load(tmp_path, arrays(**raw), inputs=(spec,)).preprocess == {"image": ArrayInput(dtype="int8")}


NAN = np.zeros((12, 4, 4, 1), np.float32)
NAN[7, 1, 2, 0] = np.nan


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"y_test": None}, "has no y_test"),
        ({"x_train": None}, "has no x_train"),
        ({"x_valid": np.zeros(3)}, "'x_valid' means nothing"),
        ({"x_val": np.zeros((3, 4, 4, 1))}, "only one of x_val and y_val"),
        (
            {"x_test": np.zeros((12, 4, 5, 1), np.float32)},
            r"x_test has examples of shape \[4, 5, 1\], but input 'image' takes \[4, 4, 1\]",
        ),
        ({"x_test": np.zeros((12, 4, 4), np.float32)}, r"shape \[4, 4\]"),
        ({"x_train": np.zeros((30, 4, 4, 1), np.uint8)}, "x_train is uint8, but input 'image' takes float32"),
        ({"x_test": NAN}, r"x_test has NaN or infinity, first at index \[7, 1, 2, 0\]"),
        (
            {"y_test": np.full(12, 3)},
            "label 3 of example 0 is out of range: output 'scores' tells 3 classes apart, 0 to 2",
        ),
        ({"y_train": np.r_[np.zeros(29, int), -1]}, "label -1 of example 29"),
        ({"y_train": np.full(30, np.nan)}, "y_train has NaN"),
        ({"y_test": np.arange(11) % 3}, "different numbers of examples"),
        ({"y_train": np.r_[np.zeros(28, int), 1, 1]}, "class 1 has 2 examples, too few"),
        ({"y_train": np.array(["a"] * 30)}, "not numbers"),
        ({"y_train": np.linspace(0, 1, 30)}, r"targets of shape \[\], but output 'scores' gives \[3\]"),
        ({"groups_test": np.arange(11)}, "groups 11"),
        ({"groups_test": np.zeros(12)}, "groups_test is float64"),
        ({"labels": np.array(["a", "b"])}, "has 2 classes"),
        ({"x_test": np.zeros((0, 4, 4, 1), np.float32), "y_test": np.zeros(0, int)}, "or none"),
    ],
)
def test_bad_arrays(tmp_path, changes, says):
    with pytest.raises(BadData, match=says):
        load(tmp_path, arrays(**changes))


def test_bad_files(tmp_path):
    settings = {"inputs": (IMAGE,), "outputs": (SCORES,)}
    with pytest.raises(BadData, match="there is no data at"):
        load_task(tmp_path / "nowhere.npz", **settings)
    np.savez(tmp_path / "pickled.npz", x_train=np.array([{}], object))
    with pytest.raises(BadData, match="pickled objects"):
        load_task(tmp_path / "pickled.npz", **settings)
    np.savez(tmp_path / "cut.npz", **arrays())
    whole = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadData, match="cannot be read"):
        load_task(tmp_path / "cut.npz", **settings)


def test_the_hash_covers_every_split_and_the_preprocessing(tmp_path):
    base = load(tmp_path, arrays()).sha256
    assert base == load(tmp_path, arrays()).sha256
    for side in ("train", "test"):
        changed = arrays()
        changed[f"x_{side}"][3, 0, 0, 0] += 1
        assert load(tmp_path, changed).sha256 != base
    changed = arrays()
    changed["y_test"] = changed["y_test"][::-1]
    assert load(tmp_path, changed).sha256 != base
    assert load(tmp_path, arrays(labels=np.array(["a", "b", "c"]))).sha256 != base
    assert load(tmp_path, arrays(), seed=1).sha256 != base
