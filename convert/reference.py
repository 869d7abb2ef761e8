"""The outputs of a source model in its own framework: what every conversion is held against."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convert.load import keras_specs, load_keras
from convert.serving import as_called
from edge.artifact import Format
from edge.errors import BadData, BadModel

# Examples per call: enough to be quick, small enough that activations of a large model fit a laptop's memory.
_CHUNK = 32


def predict(
    model_path: Path, model_format: Format, inputs: Mapping[str, npt.NDArray[Any]], *, trust: bool = False
) -> dict[str, npt.NDArray[Any]]:
    """Run a Keras, `.h5` or SavedModel on {input name: [n, ...]} and return {output name: [n, ...]}.

    Raises:
        BadModel: a format that has no framework of its own (.onnx and .tflite run on `edge.engines`).
        BadData: an input is missing or has another shape than the model's.

    """
    if model_format in ("onnx", "tflite"):
        raise BadModel(
            f"{model_path} is {model_format}: its outputs come from an engine", "use edge.engines.open_engine"
        )
    return run(load_keras(model_path, trust=trust), inputs)


def run(model: Any, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """`predict` for a Keras 3 or tf_keras model that is already loaded.

    Raises:
        BadData: an input is missing or has another shape than the model's.

    """
    import tensorflow as tf

    specs, outputs = keras_specs(model)
    arrays = []
    for spec in specs:
        if spec.name not in inputs:
            raise BadData(f"there is no data for input {spec.name!r}", f"the data has {', '.join(inputs) or 'nothing'}")
        array = np.asarray(inputs[spec.name], dtype=spec.dtype)
        if len(array.shape) != len(spec.shape) or any(
            want is not None and want != have for want, have in zip(spec.shape[1:], array.shape[1:], strict=True)
        ):
            raise BadData(f"input {spec.name!r} is {list(array.shape)}, the model takes {list(spec.shape)}")
        arrays.append(array)
    n = len(arrays[0])
    step = next((spec.shape[0] for spec in specs if spec.shape and spec.shape[0] is not None), _CHUNK)
    if n == 0 or (n % step and step != _CHUNK):
        raise BadData(f"{n} examples do not fit a model with the fixed batch {step}", f"pass a multiple of {step}")
    parts: list[list[npt.NDArray[Any]]] = []
    for start in range(0, n, step):
        tensors = [tf.convert_to_tensor(array[start : start + step]) for array in arrays]
        result = model(as_called(model, tensors), training=False)
        parts.append([np.asarray(tensor) for tensor in tf.nest.flatten(result)])
    return {spec.name: np.concatenate([part[i] for part in parts]) for i, spec in enumerate(outputs)}
