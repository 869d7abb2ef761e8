"""Reading a model of any of the five formats: described without running it, or loaded as a Keras model."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from convert.detect import detect
from convert.flatbuffer import read_flatbuffer, signature_specs
from convert.refuse import HINT, refuse_external_data, refuse_h5, refuse_keras_archive, refuse_savedmodel, tensors_of
from edge.artifact import Artifact, sha256_of
from edge.errors import BadModel
from edge.quiet import quiet
from edge.tensors import TensorSpec


def describe(path: Path, *, trust: bool = False, fixed: bool = True) -> Artifact:
    """What a model takes and gives, by its own names; an open batch becomes 1.

    ONNX and TFLite files are read as data; a Keras model is built to be asked. Without `fixed` other dimensions may
    stay open, for those who only want to know.

    Raises:
        BadModel: missing, damaged, of no known format, with code inside (unless `trust`), or (with `fixed`) with a
            dimension other than the batch that is not fixed.

    """
    kind = detect(path)
    if kind == "tflite":
        inputs, outputs = signature_specs(read_flatbuffer(path))
    elif kind == "onnx":
        inputs, outputs = _onnx_specs(read_onnx(path))
    else:
        inputs, outputs = keras_specs(load_keras(path, trust=trust))
    if not inputs or not outputs:
        raise BadModel(
            f"{path} has {len(inputs)} inputs and {len(outputs)} outputs", "a model needs at least one of each"
        )
    for spec in inputs if fixed else ():
        _require_fixed(spec, path)
    return Artifact(path, kind, _batch_1(inputs), _batch_1(outputs), sha256_of(path))


def _batch_1(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    return tuple(
        dataclasses.replace(spec, shape=(1, *spec.shape[1:])) if spec.shape[:1] == (None,) else spec for spec in specs
    )


def _require_fixed(spec: TensorSpec, path: Path) -> None:
    unknown = [axis for axis, size in enumerate(spec.shape) if size is None and axis > 0]
    if not unknown:
        return
    shape = "[" + ", ".join("?" if size is None else str(size) for size in spec.shape) + "]"
    raise BadModel(
        f"{path}: input {spec.name!r} has shape {shape}: dimension {unknown[0]} is not fixed",
        f"export the model with dimension {unknown[0]} of {spec.name!r} fixed, for example Input(shape=(…)) in Keras, "
        "or onnxruntime.tools.make_dynamic_shape_fixed for ONNX; only the batch may stay open",
    )


def read_onnx(path: Path) -> Any:
    """The checked `ModelProto` of an ONNX file, with its external data loaded from inside its folder.

    Raises:
        BadModel: damaged, not ONNX, or with data outside its folder.

    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # has no types

    again = "the file is damaged or of another kind: copy or export it again"
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError, UnicodeDecodeError) as error:
        raise BadModel(f"{path} cannot be read as ONNX: {error}", again) from error
    if not model.graph.node or not model.graph.output or not model.opset_import:
        raise BadModel(f"{path} cannot be read as ONNX: it has no operations, outputs or operator set", again)
    refuse_external_data(model, path.parent)
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
        onnx.checker.check_model(model)
        onnx.shape_inference.infer_shapes(model, check_type=True)
        for tensor in tensors_of(model):
            if tensor.data_type == onnx.TensorProto.FLOAT and np.isnan(onnx.numpy_helper.to_array(tensor)).any():
                raise BadModel(f"{path}: constant {tensor.name!r} holds NaN", again)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BadModel(f"{path} is not a valid ONNX model: {_line(error)}", again) from error
    except (ValueError, TypeError, RuntimeError, OSError, IndexError) as error:
        raise BadModel(f"{path} is damaged: {_line(error)}", again) from error
    return model


def _onnx_specs(model: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_onnx_spec(value) for value in model.graph.input if value.name not in constants)
    return inputs, tuple(_onnx_spec(value) for value in model.graph.output)


def _onnx_spec(value: Any) -> TensorSpec:
    import onnx

    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise BadModel(f"{value.name!r} is a {kind}, not a tensor", "only models of tensors are supported")
    tensor = value.type.tensor_type
    shape = tuple(int(dim.dim_value) if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    dtype = str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)))
    return TensorSpec(value.name, shape, "string" if dtype == "object" else dtype)


def load_keras(path: Path, *, trust: bool = False) -> Any:
    """The Keras 3 model of a `.keras`, `.h5` or SavedModel; a tf_keras model where only the legacy loader reads it.

    A SavedModel without Keras layers comes back as a Keras 3 model around its `serving_default` signature.

    Raises:
        BadModel: not a Keras format, damaged, with code inside (unless `trust`), or with NaN in its weights.

    """
    kind = detect(path)
    loaders = {"keras": _load_archive, "h5": _load_h5, "savedmodel": _load_savedmodel}
    if kind not in loaders:
        raise BadModel(
            f"{path} is {kind}: it has no layers to build a Keras model from",
            "training-time passes need the .keras, .h5 or SavedModel it was made from",
        )
    with quiet():
        model = loaders[kind](path, trust)
    if getattr(model, "inputs", None) is None:
        raise BadModel(f"{path} is a model without fixed inputs", "call it once on data, or build it, before saving it")
    for weight in model.weights:
        values = weight.numpy()
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise BadModel(f"{path}: weight {weight.name!r} holds NaN or infinity", "copy or train the model again")
    return model


def _load_archive(path: Path, trust: bool) -> Any:
    if not trust:
        refuse_keras_archive(path)
    try:
        return _keras3(path, trust)
    except Exception as first:  # noqa: BLE001 -- Keras raises anything for a configuration it cannot build
        try:
            return _keras2(path, trust)
        except Exception:  # noqa: BLE001 -- as above; the first error is the one that helps
            raise _unreadable(path, first) from first


def _load_h5(path: Path, trust: bool) -> Any:
    if not trust:
        refuse_h5(path)
    try:
        return _keras3(path, trust)
    except Exception as first:  # noqa: BLE001 -- Keras 3 cannot build every Keras 2 configuration
        try:
            return _keras2(path, trust)
        except Exception:  # noqa: BLE001 -- as above; the first error is the one that helps
            raise _unreadable(path, first) from first


def _load_savedmodel(path: Path, trust: bool) -> Any:
    if not trust:
        refuse_savedmodel(path)
    try:
        model = _keras2(path, trust)
        if getattr(model, "inputs", None):
            return model
    except Exception:  # noqa: BLE001, S110 -- a SavedModel without Keras layers is loaded by its signature below
        pass
    try:
        return _signature_model(path)
    except BadModel:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def _keras3(path: Path, trust: bool) -> Any:
    import keras

    return keras.saving.load_model(str(path), compile=False, safe_mode=not trust)


def _keras2(path: Path, trust: bool) -> Any:
    import tf_keras

    # safe_mode is known only to the .keras loader of tf_keras; the other formats are checked before (refuse.py).
    options = {"safe_mode": not trust} if path.suffix == ".keras" else {}
    return tf_keras.models.load_model(str(path), compile=False, **options)


def _signature_model(path: Path) -> Any:
    import keras
    import tensorflow as tf

    signatures = tf.saved_model.load(str(path)).signatures
    if "serving_default" not in signatures:
        raise BadModel(f"{path} has no signature serving_default, only {sorted(signatures)}", "export it with one")
    specs = signatures["serving_default"].structured_input_signature[1]
    inputs = {n: keras.Input(batch_shape=tuple(s.shape), dtype=s.dtype.name, name=n) for n, s in specs.items()}

    class Signature(keras.layers.TFSMLayer):  # type: ignore[misc]  # keras has no types
        """The signature's function takes its tensors by keyword only."""

        def call(self, tensors: dict[str, Any], *, training: bool = False) -> Any:
            del training  # a signature has been traced for inference
            return self.call_endpoint_fn(**tensors)

    return keras.Model(inputs, Signature(str(path), call_endpoint="serving_default")(inputs))


def keras_specs(model: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of a Keras 3 or tf_keras model: the names of its inputs and of its output layers.

    A model that returns a dictionary names its outputs by the keys; a name used twice gets _1, _2, ….
    """
    inputs = tuple(TensorSpec(_plain(t.name), tuple(t.shape), _dtype(t)) for t in model.inputs)
    structure = getattr(model, "_outputs_struct", None)  # Keras 3
    if structure is None:
        structure = getattr(model, "_nested_outputs", None)  # tf_keras
    keys = list(structure) if isinstance(structure, dict) else []
    # Keras flattens a dictionary in the order of its sorted keys (tree.flatten).
    names = sorted(keys) if len(keys) == len(model.outputs) else list(_layer_names(model))
    outputs = tuple(
        TensorSpec(name, tuple(t.shape), _dtype(t)) for name, t in zip(_distinct(names), model.outputs, strict=True)
    )
    return inputs, outputs


def _layer_names(model: Any) -> list[str]:
    names = getattr(model, "output_names", None)
    if names:
        return [_plain(name) for name in names]
    return [_plain(tensor._keras_history[0].name) for tensor in model.outputs]  # noqa: SLF001 -- no public way to the layer


def _distinct(names: list[str]) -> list[str]:
    counts: dict[str, int] = {}
    result = []
    for name in names:
        seen = counts.get(name, 0)
        counts[name] = seen + 1
        result.append(f"{name}_{seen}" if seen else name)
    return result


def _plain(name: str) -> str:
    return name.partition(":")[0]


def _dtype(tensor: Any) -> str:
    dtype = tensor.dtype
    return str(getattr(dtype, "name", dtype))


def _unreadable(path: Path, error: BaseException) -> BadModel:
    hint = "save the model again with the Keras that made it"
    if "Could not locate" in str(error) or "Unknown layer" in str(error):
        hint = HINT
    return BadModel(f"{path} cannot be built by Keras 3 nor by the legacy loader: {_line(error)}", hint)


def _line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
