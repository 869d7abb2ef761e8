"""A task.py that defines task(): the one form of DATA that runs code."""

import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge.errors import BadData, EdgetoolError
from edge.preprocess import finite
from edge.tensors import TensorSpec
from edgetool.data.fits import TargetForm, array_input, check_names, check_shape, targets
from edgetool.task import Examples, Task

HINT = "task() takes no arguments and returns an edgetool.task.Task"


def run_program(path: Path) -> Task:
    """Run the file and call its task().

    Raises:
        BadData: the file is missing, fails, or does not define task() returning a Task.

    """
    if not path.is_file():
        raise BadData(f"there is no {path}")
    name = f"edgetool_task_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look themselves up there
    try:
        spec.loader.exec_module(module)
        task = module.task() if hasattr(module, "task") else None
    except EdgetoolError:
        raise
    except (Exception, SystemExit) as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path.absolute()]
        line = error.lineno if isinstance(error, SyntaxError) else frames[-1].lineno if frames else None
        where = f"{path}, line {line}" if line else str(path)
        raise BadData(f"{where}: {type(error).__name__}: {error}", HINT) from error
    if not hasattr(module, "task"):
        raise BadData(f"{path} defines no function task()", HINT)
    if not isinstance(task, Task):
        raise BadData(f"{path}: task() returned {type(task).__name__}, not a Task", HINT)
    return task


def check_task(
    task: Task, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], where: str, form: TargetForm | None
) -> None:
    """Compare a task that somebody else made with the model: names, shapes, dtypes, labels, lengths.

    All labels are looked at, of the inputs only the first example of each split.

    Raises:
        BadData: something does not fit; it is named.

    """
    names = {spec.name for spec in inputs}
    if set(task.preprocess) != names:
        raise BadData(f"{where} preprocesses {sorted(task.preprocess)}, but the model's inputs are {sorted(names)}")
    if task.labels:
        check_names(task.labels, outputs[0], where)
    for name, examples in (("train", task.train), ("val", task.val), ("test", task.test)):
        _check_split(examples, inputs, outputs[0], f"{where}: {name}", form)


def _check_split(
    examples: Examples, inputs: Sequence[TensorSpec], output: TensorSpec, where: str, form: TargetForm | None
) -> None:
    labels = examples.labels()
    groups = examples.groups
    if examples.n < 1 or len(labels) != examples.n or (groups is not None and len(groups) != examples.n):
        lengths = f"n is {examples.n}, it has {len(labels)} labels"
        raise BadData(
            f"{where} is empty or inconsistent: {lengths}" + (f", {len(groups)} groups" if groups is not None else "")
        )
    targets(labels, output, f"{where} labels", form)
    batch, _ = examples.take(np.zeros(1, np.int64))
    if set(batch) != {spec.name for spec in inputs}:
        raise BadData(f"{where} gives {sorted(batch)}, but the model's inputs are {[spec.name for spec in inputs]}")
    for spec in inputs:
        values = finite(batch[spec.name], f"{where}: {spec.name}")
        check_shape(values.shape[1:], spec, f"{where}: {spec.name}")
        array_input(values, spec, f"{where}: {spec.name}")
