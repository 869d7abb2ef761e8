import numpy as np
import pytest

from edge.errors import BadData, UnknownName
from edge.tensors import TensorSpec
from edgetool.data import tables
from edgetool.data.load import BUILT_IN, METRIC_TARGETS, load_task
from edgetool.data.split import stratified_split
from edgetool.metrics import METRICS

ROW30 = TensorSpec("row", (None, 30), "float32")
ROW10 = TensorSpec("row", (None, 10), "float32")
ONE = TensorSpec("y", (None, 1), "float32")

TASK = """
import numpy as np
from edge.preprocess import ArrayInput
from edgetool.data.examples import ArrayExamples
from edgetool.metrics import metric
from edgetool.task import Task

STEPS = {"left": ArrayInput(), "right": ArrayInput(dtype="int32")}

def split(n):
    rng = np.random.default_rng(n)
    arrays = {"left": rng.random((n, 2)), "right": rng.integers(0, 9, (n, 3))}
    return ArrayExamples(arrays, np.arange(n) % 2, STEPS)

def task():
    return Task("two", split(20), split(6), split(8), metric("f1"), STEPS, ("no", "yes"))
"""
LEFT, RIGHT = TensorSpec("left", (None, 2), "float32"), TensorSpec("right", (None, 3), "int32")


def test_breast_cancer_is_a_classification_of_scaled_columns():
    task = load_task("breast_cancer", inputs=(ROW30,), outputs=(ONE,), metric="auc", seed=9)
    x, y, *_ = tables.load_arrays("breast_cancer")
    rest, drawn = stratified_split(y, 0.1, 0)  # whatever the seed: the models were trained on this split
    np.testing.assert_array_equal(task.val.labels(), y[drawn])
    inputs, _ = task.train.take(np.arange(task.train.n))
    np.testing.assert_allclose(inputs["row"], (x[rest] - x[rest].mean(0)) / x[rest].std(0), atol=1e-4)
    assert (task.labels, task.metric.name) == (("malignant", "benign"), "auc")


def test_diabetes_is_a_regression():
    task = load_task("diabetes", inputs=(ROW10,), outputs=(ONE,))
    assert (task.metric.name, task.labels) == ("mae", ())
    assert (task.train.n, task.val.n, task.test.n) == (278, 31, 133)


def test_built_in_tasks_that_do_not_fit_the_model():
    with pytest.raises(BadData, match=r"breast_cancer has examples of shape \[30\], but input 'row' takes \[10\]"):
        load_task("breast_cancer", inputs=(ROW10,), outputs=(ONE,))
    with pytest.raises(BadData, match="pictures do not fit input 'row'"):
        load_task("fashion_mnist", inputs=(ROW10,), outputs=(ONE,))
    with pytest.raises(BadData, match="label 75 of example 0 is out of range"):
        load_task("diabetes", inputs=(ROW10,), outputs=(ONE,), metric="accuracy")


def test_unknown_names_have_the_nearest():
    with pytest.raises(UnknownName) as caught:
        load_task("fashion-mnist", inputs=(ROW10,), outputs=(ONE,))
    assert caught.value.hint == "did you mean fashion_mnist?"
    with pytest.raises(UnknownName, match="unknown metric: 'acuracy'"):
        load_task("diabetes", inputs=(ROW10,), outputs=(ONE,), metric="acuracy")


def test_other_files_and_options_are_refused(tmp_path):
    (tmp_path / "a.parquet").write_text("")
    with pytest.raises(BadData, match="no form of data"):
        load_task(tmp_path / "a.parquet", inputs=(ROW10,), outputs=(ONE,))
    with pytest.raises(BadData, match="there is no data"):
        load_task(str(tmp_path / "nowhere"), inputs=(ROW10,), outputs=(ONE,))
    with pytest.raises(BadData, match="no target column"):
        load_task("diabetes", inputs=(ROW10,), outputs=(ONE,), target_column="age")


def test_every_metric_says_what_targets_it_takes():
    assert set(METRIC_TARGETS) == set(METRICS)
    assert set(BUILT_IN) >= set(tables.LABELS)


def test_a_program_with_two_inputs(tmp_path):
    (tmp_path / "task.py").write_text(TASK)
    task = load_task(tmp_path / "task.py", inputs=(LEFT, RIGHT), outputs=(ONE,))
    inputs, labels = task.test.take(np.arange(4))
    assert {name: (values.shape, values.dtype) for name, values in inputs.items()} == {
        "left": ((4, 2), np.float32),
        "right": ((4, 3), np.int32),
    }
    assert labels.tolist() == [0, 1, 0, 1]
    assert (task.metric.name, task.labels) == ("f1", ("no", "yes"))
    assert len(task.sha256) == 64
    other = load_task(tmp_path / "task.py", inputs=(LEFT, RIGHT), outputs=(ONE,), metric="accuracy")
    assert other.metric.name == "accuracy"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("def task():", "def tusk():", r"defines no function task\(\)"),
        ("return Task", "return 3, Task", "returned tuple, not a Task"),
        ("def task():", "def task(x):", "TypeError"),
        ("np.arange(n) % 2", "np.arange(n) % n", "label 2 of example 2 is out of range"),
        ("rng.random((n, 2))", "rng.random((n, 4))", r"shape \[4\], but input 'left' takes \[2\]"),
        ("rng.random((n, 2))", "rng.random((n, 2)) * np.nan", "left has NaN"),
        ('"right": ArrayInput(dtype="int32")', '"middle": ArrayInput()', r"preprocesses \['left', 'middle'\]"),
        ('("no", "yes")', '("no", "yes", "maybe")', "has 3 classes"),
        ("split(6)", "split(0)", "val is empty"),
        ("import numpy as np", "import numpy as np\n1 / 0", r"task\.py, line 3: ZeroDivisionError"),
        ("def task():", "def task(:", r"task\.py, line \d+: SyntaxError"),
        ("import numpy as np", "import sys, numpy as np\nsys.exit(0)", "SystemExit"),
    ],
)
def test_bad_programs(tmp_path, old, new, says):
    assert old in TASK
    (tmp_path / "task.py").write_text(TASK.replace(old, new))
    with pytest.raises(BadData, match=says):
        load_task(tmp_path / "task.py", inputs=(LEFT, RIGHT), outputs=(ONE,))
