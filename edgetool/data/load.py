"""DATA in all its forms (design section 4) to a Task that fits a model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edge.errors import BadData, UnknownName
from edge.preprocess import Preprocess
from edge.tensors import TensorSpec
from edgetool.data import fashion_mnist, tables
from edgetool.data.arrays import read_arrays
from edgetool.data.columns import read_columns, table_splits
from edgetool.data.digest import task_sha256
from edgetool.data.examples import ArrayExamples
from edgetool.data.fits import TargetForm, check_names, check_shape, class_count, image_input, only_input, targets
from edgetool.data.folder import read_folder
from edgetool.data.program import check_task, run_program
from edgetool.data.split import validation_split
from edgetool.metrics import metric as metric_named
from edgetool.task import Examples, Task

FORMS = "a folder with a sub-folder per class, an .npz, a .csv, a task.py, or the name of a built-in task"

METRIC_TARGETS: dict[str, TargetForm] = {
    "accuracy": "classes",
    "auc": "classes",
    "cosine": "values",
    "eer": "classes",
    "f1": "classes",
    "mae": "values",
    "perplexity": "tokens",
    "precision": "classes",
    "psnr": "values",
    "recall": "classes",
    "rmse": "values",
    "top5": "classes",
    "wer": "tokens",
}


@dataclass(frozen=True)
class _Read:
    """What every form of DATA comes down to."""

    splits: Mapping[str, Examples]
    steps: Mapping[str, Preprocess]
    labels: tuple[str, ...] = ()


def load_task(
    data: str | Path,
    *,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    seed: int = 0,
    metric: str | None = None,
    target_column: str | None = None,
    pixels: str | None = None,
) -> Task:
    """The task in `data`, checked against a model with these inputs and outputs.

    `data` is the name of a built-in task, else a path: a folder, .npz, .csv or .py. `seed` draws the splits
    that the data does not give (built-in tasks have the same splits always, those their models were trained
    with). The metric is accuracy for class labels and mae for values, unless `metric` names another.
    `pixels` is the range that a model for a folder of pictures expects ("0..1", "-1..1" or "0..255").
    Labels belong to the first output; only a task.py can say otherwise. Only a task.py runs code.

    Raises:
        BadData: the data is missing, damaged, or does not fit the model.
        UnknownName: no such built-in task or metric.
        EnvironmentFailed: a built-in task could not be fetched.

    """
    require_data(data)
    path = Path(data)
    name = str(data) if data in BUILT_IN else path.stem if path.suffix else path.name
    form = None if metric is None else METRIC_TARGETS[metric_named(metric).name]
    if target_column is not None and (data in BUILT_IN or path.suffix != ".csv"):
        raise BadData(f"{data} has no columns, so no target column {target_column!r}", "only a .csv has one")
    if pixels is not None and not path.is_dir():
        raise BadData(f"{data} is no folder of pictures, so no pixels {pixels}", "only such a folder has them")
    if data in BUILT_IN:
        read = BUILT_IN[str(data)](str(data), inputs, outputs[0], form)
    elif path.is_dir():
        folder = read_folder(path, inputs, outputs[0], seed, pixels)
        read = _Read(folder.splits, {folder.input_name: folder.step}, folder.labels)
    elif path.suffix == ".npz":
        read = _Read(*read_arrays(path, inputs, outputs[0], seed, form=form))
    elif path.suffix == ".csv":
        splits, step, labels = read_columns(path, inputs, outputs[0], seed, form=form, target_column=target_column)
        read = _Read(splits, {inputs[0].name: step}, labels)
    elif path.suffix == ".py":
        return _from_program(path, inputs, outputs, metric)
    else:
        raise BadData(f"{data} is no form of data", FORMS)
    return _task(name, read, outputs[0], metric)


def require_data(data: str | Path) -> None:
    """Raise UnknownName or BadData where `data` is neither a built-in task nor there; nothing is read."""
    path = Path(data)
    if data in BUILT_IN or path.exists():
        return
    if not path.suffix and len(path.parts) == 1:
        raise UnknownName("data (no file or folder, no built-in task)", str(data), BUILT_IN)
    raise BadData(f"there is no data at {data}", FORMS)


def _task(name: str, read: _Read, output: TensorSpec, metric: str | None) -> Task:
    truth = read.splits["train"].labels()
    classification = truth.dtype.kind == "i" and truth.ndim == 1
    if classification and metric is not None and METRIC_TARGETS[metric] == "values":
        raise BadData(f"{name} has class labels, but the metric {metric} needs values", "use accuracy, f1 or auc")
    if read.labels and not classification:
        raise BadData(f"{name} has class names, but the metric {metric} needs values", "use accuracy")
    labels = read.labels
    if classification and not labels:
        labels = tuple(str(c) for c in range(class_count(output) or int(truth.max()) + 1))
    if labels:
        check_names(labels, output, name)
    return Task(
        name=name,
        train=read.splits["train"],
        val=read.splits["val"],
        test=read.splits["test"],
        metric=metric_named(metric or ("accuracy" if classification else "mae")),
        preprocess=read.steps,
        labels=labels,
        sha256=task_sha256(read.splits, read.steps, labels),
    )


def _from_program(
    path: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], metric: str | None
) -> Task:
    task = run_program(path)
    if metric is not None:
        task = replace(task, metric=metric_named(metric))
    check_task(task, inputs, outputs, str(path), METRIC_TARGETS.get(task.metric.name))
    if not task.sha256:
        splits = {"train": task.train, "val": task.val, "test": task.test}
        task = replace(task, sha256=task_sha256(splits, task.preprocess, task.labels))
    return task


def _fashion_mnist(name: str, inputs: tuple[TensorSpec, ...], output: TensorSpec, form: TargetForm | None) -> _Read:
    spec = only_input(inputs, name)
    step = image_input(spec)
    check_names(fashion_mnist.LABELS, output, name)
    x, y, x_test, y_test = fashion_mnist.load_arrays()
    truth = targets(y, output, f"{name}: labels", form)
    truth_test = targets(y_test, output, f"{name}: test labels", form)
    train, val = validation_split(truth, 0, where=name)
    steps: dict[str, Preprocess] = {spec.name: step}
    parts = {"train": (x[train], truth[train]), "val": (x[val], truth[val]), "test": (x_test, truth_test)}
    splits = {side: ArrayExamples({spec.name: pictures}, labels, steps) for side, (pictures, labels) in parts.items()}
    return _Read(splits, steps, fashion_mnist.LABELS)


def _table(name: str, inputs: tuple[TensorSpec, ...], output: TensorSpec, form: TargetForm | None) -> _Read:
    spec = only_input(inputs, name)
    x, y, x_test, y_test, columns = tables.load_arrays(name)
    check_shape((len(columns),), spec, name)
    truth = targets(y, output, f"{name}: targets", form)
    truth_test = targets(y_test, output, f"{name}: test targets", form)
    train, val = validation_split(truth, 0, where=name)
    parts = {"train": (x[train], truth[train]), "val": (x[val], truth[val]), "test": (x_test, truth_test)}
    splits, step = table_splits(parts, columns, spec, name)
    return _Read(splits, {spec.name: step}, tables.LABELS[name])


BUILT_IN: dict[str, Callable[[str, tuple[TensorSpec, ...], TensorSpec, TargetForm | None], _Read]] = {
    "breast_cancer": _table,
    "diabetes": _table,
    "fashion_mnist": _fashion_mnist,
}
