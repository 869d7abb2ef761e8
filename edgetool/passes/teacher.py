"""What a teacher says about the training examples, in any format that runs here, computed once and kept on disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.artifact import sha256_of
from edge.errors import BadModel, UnknownName
from edge.tensors import TensorSpec
from edgetool.progress import At
from edgetool.results import key_of
from edgetool.task import Batch, Task, batches

Array = npt.NDArray[Any]
BATCH = 256


def teacher_says(path: Path, task: Task, folder: Path, progress: At, *, layer: str = "", trust: bool = False) -> Array:
    """The first output of a teacher, or what its layer `layer` gives, for all of `train`: [n, ...], memory-mapped.

    Kept in `folder` under the hashes of teacher and task, whole or not at all.

    Raises:
        BadModel: a layer is asked of a teacher that is no Keras model.
        UnknownName: the layer is not there, or an input that the task does not have.

    """
    kept = folder / f"teacher-{key_of(sha256_of(path), task.sha256, layer)}.npy"
    if not kept.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        beside = kept.with_suffix(".part")
        with _teacher(path, layer, trust) as say:
            values: Any = None
            done = 0
            for inputs, labels in batches(task.train, BATCH):
                said = say(inputs)
                if values is None:
                    shape = (task.train.n, *said.shape[1:])
                    values = np.lib.format.open_memmap(beside, "w+", np.float32, shape)
                values[done : done + len(labels)] = said
                done += len(labels)
                progress(done / task.train.n, f"asking {path.name}, {done} of {task.train.n}")
            values.flush()
        beside.replace(kept)
    read: Array = np.load(kept, mmap_mode="r", allow_pickle=False)
    return read


class _teacher:  # noqa: N801 - used as a function in a with statement
    """A teacher that is asked batch by batch: Keras here, .onnx and .tflite in the process of their runtime."""

    def __init__(self, path: Path, layer: str, trust: bool) -> None:
        from convert.detect import detect

        self._path, self._layer, self._trust = path, layer, trust
        self._format = detect(path)
        self._process: Any = None

    def __enter__(self) -> Callable[[Batch], Array]:
        if self._format not in ("onnx", "tflite"):
            return self._keras()
        if self._layer:
            raise BadModel(
                f"{self._path} is {self._format}: it has no layers to take hints from", "name a Keras teacher"
            )
        from convert.load import describe
        from edge.runtime_process import RuntimeProcess

        artifact = describe(self._path)
        self._process = RuntimeProcess()
        self._process.__enter__()
        self._process.load(self._path, self._format)
        first = artifact.outputs[0].name
        return lambda inputs: np.asarray(self._process.predict(_named(inputs, artifact.inputs))[first])

    def __exit__(self, *raised: object) -> None:
        if self._process is not None:
            self._process.__exit__(*raised)

    def _keras(self) -> Callable[[Batch], Array]:
        import keras

        from convert.load import keras_specs, load_keras

        model = load_keras(self._path, trust=self._trust)
        specs, _ = keras_specs(model)
        if self._layer:
            names = [layer.name for layer in model.layers]
            if self._layer not in names:
                raise UnknownName(f"layer of {self._path.name}", self._layer, names)
            model = keras.Model(model.inputs, model.get_layer(self._layer).output)

        def say(inputs: Batch) -> Array:
            given = list(_named(inputs, specs).values())
            said = model.predict_on_batch(given if len(given) > 1 else given[0])
            return np.asarray(keras.tree.flatten(said)[0])

        return say


def _named(inputs: Batch, specs: tuple[TensorSpec, ...]) -> Batch:
    """The inputs under the names and in the order of the teacher; a single one goes by any name."""
    if len(inputs) == len(specs) == 1:
        return {specs[0].name: next(iter(inputs.values()))}
    for spec in specs:
        if spec.name not in inputs:
            raise UnknownName("input of the teacher", spec.name, inputs)
    return {spec.name: inputs[spec.name] for spec in specs}
