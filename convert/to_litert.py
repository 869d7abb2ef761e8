"""Keras 3, tf_keras and SavedModel to LiteRT (.tflite), float or quantized after training.

Scheme of the integer kernels: Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018; specification at
https://ai.google.dev/edge/litert/models/quantization_spec. The arithmetic is TensorFlow's own converter.
"""

import tempfile
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from convert.flatbuffer import parse_flatbuffer
from convert.serving import serving
from edge.errors import BadData, BadModel, BadRecipe
from edge.quiet import quiet
from edge.tensors import TensorSpec

Precision = Literal["float32", "float16", "dynamic", "int8", "int16x8"]
Samples = Callable[[], Iterator[dict[str, npt.NDArray[Any]]]]

_CUSTOM = 32  # BuiltinOperator of the schema
_READ_VARIABLE = 143


def to_litert(
    model: Any,
    precision: Precision,
    calibration: Samples | None,
    *,
    io: str = "float32",
    dense_per_channel: bool = True,
) -> bytes:
    """Convert a Keras model to a .tflite with batch 1 and the signature `serving_default`.

    The signature names tensors as the Keras model does. `calibration` returns a fresh iterator of
    {input name: [1, ...]} and is read once, one sample at a time; only int8 and int16x8 need it. `io` is the
    element type of the quantized model's inputs and outputs: "float32", or the integer type of its activations.
    `dense_per_channel=False` gives each dense layer one scale instead of one per output: a smaller file where
    dense layers are most of the model, at some accuracy; convolutions always have one scale per channel.

    int8 calibration of rolled recurrent layers crashes TensorFlow 2.21's converter: run this in a worker process.

    Raises:
        BadModel: the model has operations that the device runtime lacks, or shapes that are not fixed.
        BadData: the calibration samples do not fit the model's inputs, or there are none.
        BadRecipe: a precision or `io` that does not exist.

    """
    if precision not in get_args(Precision):
        raise BadRecipe(f"precision {precision!r} does not exist", f"one of {', '.join(get_args(Precision))}")
    static = precision in ("int8", "int16x8")
    allowed_io = {"int8": ("float32", "int8", "uint8"), "int16x8": ("float32", "int16")}.get(precision, ("float32",))
    if io not in allowed_io:
        raise BadRecipe(
            f"inputs and outputs of type {io!r} do not exist for {precision}", f"one of {', '.join(allowed_io)}"
        )
    if static and calibration is None:
        raise BadData(f"{precision} needs calibration samples", "pass the training data, or choose dynamic or float16")
    import tensorflow as tf

    module, inputs, _ = serving(model)
    with tempfile.TemporaryDirectory(prefix="edgetool-") as folder, quiet():
        concrete = _trace(module)
        tf.saved_model.save(module, folder, signatures={"serving_default": concrete})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])
        _configure(converter, precision, io)
        # The only switch that the converter has for this.
        converter._experimental_disable_per_channel_quantization_for_dense_layers = not dense_per_channel  # noqa: SLF001
        if static and calibration is not None:
            converter.representative_dataset = lambda: _checked(calibration, inputs)
        try:
            data = bytes(converter.convert())
        except BadData:
            raise
        except Exception as error:
            raise _unconvertible(error, precision) from error
    _refuse_unrunnable(data)
    return data


def _trace(module: Any) -> Any:
    try:
        return module.serve.get_concrete_function()
    except BadModel:
        raise
    except Exception as error:
        raise BadModel(
            f"the model cannot be traced with batch 1: {_line(error)}", "build it so that it runs on one example"
        ) from error


def _configure(converter: Any, precision: Precision, io: str) -> None:
    import tensorflow as tf

    ops = tf.lite.OpsSet
    if precision == "float32":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        # TFLITE_BUILTINS lets an operation without an int8 kernel stay float; who asks counts them in the result.
        converter.target_spec.supported_ops = [ops.TFLITE_BUILTINS_INT8, ops.TFLITE_BUILTINS]
    if precision == "int16x8":
        wide = ops.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [wide, ops.TFLITE_BUILTINS]
    if precision in ("int8", "int16x8"):
        converter.inference_input_type = converter.inference_output_type = tf.dtypes.as_dtype(io)


def _checked(calibration: Samples, inputs: tuple[TensorSpec, ...]) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """The samples, each held against the model's inputs before the converter sees it."""
    n = 0
    for n, sample in enumerate(calibration(), 1):
        feeds = {}
        for spec in inputs:
            if spec.name not in sample:
                raise BadData(f"calibration sample {n} lacks input {spec.name!r}", f"it has {', '.join(sample)}")
            array = np.asarray(sample[spec.name], dtype=spec.dtype)
            if array.shape != spec.shape:
                raise BadData(
                    f"calibration sample {n}: input {spec.name!r} is {list(array.shape)}, not {list(spec.shape)}"
                )
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise BadData(f"calibration sample {n}: input {spec.name!r} holds NaN or infinity")
            feeds[spec.name] = array
        yield feeds
    if n == 0:
        raise BadData("there is no calibration sample", "at least one is needed; 100 to 500 are usual")


def _refuse_unrunnable(data: bytes) -> None:
    model = parse_flatbuffer(data, "the converted model")
    custom = {
        code.customCode.decode() for code in model.operatorCodes if code.builtinCode == _CUSTOM and code.customCode
    }
    if any(code.builtinCode == _READ_VARIABLE for code in model.operatorCodes):
        raise BadModel(
            "the converted model reads variables instead of constants: its weights were not found",
            "save the model as .keras and convert that",
        )
    if custom:
        raise BadModel(
            f"the model needs operations that the device runtime lacks: {', '.join(sorted(custom))}",
            "replace these layers by ones with built-in LiteRT operations",
        )


def _unconvertible(error: Exception, precision: str) -> BadModel:
    text = str(error)
    missing = sorted({word.strip("'\",") for word in text.split() if word.startswith(("tf.", "'tf."))} - {"tf.lite"})
    if "is neither a custom op nor a flex op" in text and missing:
        return BadModel(
            f"the model needs operations that LiteRT lacks: {', '.join(missing)}",
            "recurrent layers: build them for a fixed batch; others: replace the layers by built-in ones",
        )
    other = "float16 or dynamic" if precision in ("int8", "int16x8") else "another precision"
    return BadModel(f"LiteRT conversion to {precision} failed: {_line(error)}", f"try {other}, or replace that layer")


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
