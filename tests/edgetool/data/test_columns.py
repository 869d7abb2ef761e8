import numpy as np
import pytest

from edge.errors import BadData
from edge.tensors import TensorSpec
from edgetool.data.load import load_task

ROW = TensorSpec("row", (None, 2), "float32")
PRICE = TensorSpec("price", (None, 1), "float32")
SCORES = TensorSpec("scores", (None, 3), "float32")


def write(path, target, n=60, columns=("age", "height"), name="kind"):
    rng = np.random.default_rng(0)
    rows = [f"{rng.normal(50, 10)},{target(i)},{rng.normal(1.7, 0.1)}" for i in range(n)]
    path.write_text("\n".join([f"{columns[0]},{name},{columns[1]}", *rows]) + "\n")
    return path


def test_text_names_the_classes_and_columns_are_scaled_by_training_rows(tmp_path):
    path = write(tmp_path / "people.csv", lambda i: ("red", "green", "blue")[i % 3])
    task = load_task(path, inputs=(ROW,), outputs=(SCORES,), target_column="kind")
    assert (task.name, task.labels, task.metric.name) == ("people", ("blue", "green", "red"), "accuracy")
    assert (task.train.n, task.val.n, task.test.n) == (42, 6, 12)
    inputs, labels = task.train.take(np.arange(42))
    np.testing.assert_allclose(inputs["row"].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(inputs["row"].std(axis=0), 1, atol=1e-5)
    assert np.bincount(labels).tolist() == [14, 14, 14]
    assert task.preprocess["row"].columns == ("age", "height")
    assert abs(task.test.take(np.arange(12))[0]["row"].mean()) > 1e-4


def test_a_float_target_is_a_regression_and_may_be_called_target(tmp_path):
    path = write(tmp_path / "a.csv", lambda i: i + 0.5, name="target")
    task = load_task(path, inputs=(ROW,), outputs=(PRICE,))
    assert (task.metric.name, task.labels) == ("mae", ())
    assert sorted(np.concatenate([s.labels() for s in (task.train, task.val, task.test)])) == [
        i + 0.5 for i in range(60)
    ]


def test_whole_numbers_are_labels_unless_the_metric_says_otherwise(tmp_path):
    path = write(tmp_path / "a.csv", lambda i: i % 2)
    assert load_task(path, inputs=(ROW,), outputs=(PRICE,), target_column="kind").labels == ("0", "1")
    task = load_task(path, inputs=(ROW,), outputs=(PRICE,), target_column="kind", metric="mae")
    assert (task.labels, task.train.labels().dtype) == ((), np.float32)


@pytest.mark.parametrize(
    ("target", "settings", "says"),
    [
        (lambda i: i % 3, {}, "which column is the target"),
        (lambda i: i % 3, {"target_column": "kid"}, "no column 'kid'"),
        (lambda i: i % 4, {"target_column": "kind"}, "label 3 of example 3 is out of range"),
        (lambda i: "nan", {"target_column": "kind"}, "column 'kind' has NaN"),
        (lambda i: "ab"[i % 2], {"target_column": "kind"}, r"2 classes \(a, b\), but output 'scores' tells 3"),
        (lambda i: ("a", "b", "")[i % 3], {"target_column": "kind"}, "line 4: the target column 'kind' is empty"),
        (lambda i: "abc"[i % 3], {"target_column": "age"}, "column 'kind' has the text 'a'"),
        (lambda i: "abc"[i % 3], {"target_column": "kind", "metric": "mae"}, "holds text, but the metric needs values"),
    ],
)
def test_bad_targets(tmp_path, target, settings, says):
    outputs = (SCORES,) if settings.get("target_column") != "age" else (PRICE,)
    path = write(tmp_path / "a.csv", target)
    with pytest.raises(BadData, match=says):
        load_task(path, inputs=(ROW,), outputs=outputs, **settings)


def test_columns_that_do_not_fit_the_model(tmp_path):
    path = write(tmp_path / "a.csv", lambda i: i % 3)
    with pytest.raises(BadData, match=r"shape \[2\], but input 'row' takes \[5\]"):
        load_task(path, inputs=(TensorSpec("row", (None, 5), "float32"),), outputs=(SCORES,), target_column="kind")
    with pytest.raises(BadData, match="takes int32"):
        load_task(path, inputs=(TensorSpec("row", (None, 2), "int32"),), outputs=(SCORES,), target_column="kind")


def test_too_few_rows(tmp_path):
    path = write(tmp_path / "a.csv", lambda i: i + 0.5, n=3)
    with pytest.raises(BadData, match="3 examples are too few"):
        load_task(path, inputs=(ROW,), outputs=(PRICE,), target_column="kind")
