"""Constraints of accelerators that can be seen in the file, each with what to change."""

import math

from convert.census import Operation
from edgetool.doctor.table import Problem

TO_INT8 = "quantize to full int8: edgetool convert --precision int8 --data DATA"
TO_FIXED = "export with a fixed batch and size, as Input(batch_shape=(1, ...)) in Keras"
# Operations that take whole numbers as they are, or that turn floats into them
_NOT_ARITHMETIC = frozenset(["QUANTIZE", "SHAPE"])


def full_int8(operation: Operation) -> Problem | None:
    """Integer accelerators take int8 or uint8 (some int16) values, and no float."""
    if operation.kind in _NOT_ARITHMETIC:
        return None
    tensors = [tensor for tensor in (*operation.inputs, *operation.outputs) if not tensor.constant]
    floats = [tensor for tensor in tensors if tensor.dtype.startswith("float")]
    return Problem(f"its values are {floats[0].dtype}", TO_INT8) if floats else None


def fixed_shape(operation: Operation) -> Problem | None:
    """Compilers of accelerators need every length."""
    for tensor in (*operation.inputs, *operation.outputs):
        if not tensor.constant and tensor.shape is not None and None in tensor.shape:
            return Problem("its shape is not fixed", TO_FIXED)
    return None


def fixed_but_batch(operation: Operation) -> Problem | None:
    """As `fixed_shape`, for compilers that set an open batch to 1, as Vela does."""
    for tensor in (*operation.inputs, *operation.outputs):
        if not tensor.constant and tensor.shape is not None and None in tensor.shape[1:]:
            return Problem("its shape is not fixed", TO_FIXED)
    return None


def batch_of_one(operation: Operation) -> Problem | None:
    """The first axis of what is computed has the length 1."""
    data = operation.data
    if data is None or data.shape is None or len(data.shape) < 2 or data.shape[0] in {None, 1}:
        return None
    return Problem(f"its batch is {data.shape[0]}", "export with a batch of 1")


def three_inner_axes(operation: Operation) -> Problem | None:
    """Edge TPU: of a tensor with more than three axes only the innermost three may be longer than 1."""
    for tensor in (*operation.inputs, *operation.outputs):
        if not tensor.constant and tensor.shape is not None and len(tensor.shape) > 3:
            outer = [n for n in tensor.shape[:-3] if n not in {None, 1}]
            if outer:
                return Problem(f"a tensor has the shape {list(tensor.shape)}", "export with a batch of 1")
    return None


def conv_in_two_axes(operation: Operation) -> Problem | None:
    """A convolution over one axis: its weights have three axes."""
    if operation.kind not in {"Conv", "ConvTranspose"} or len(operation.inputs) < 2:
        return None
    weights = operation.inputs[1].shape
    if weights is None or len(weights) != 3:
        return None
    return Problem("it convolves over one axis", "use a 2-D convolution with a kernel of height 1")


def signed_steps(operation: Operation) -> Problem | None:
    """TensorRT quantizes symmetrically: signed values with zero points of 0."""
    if operation.kind not in {"QuantizeLinear", "DequantizeLinear"}:
        return None
    quantized = operation.outputs[0] if operation.kind == "QuantizeLinear" else operation.inputs[0]
    if quantized.dtype != "uint8":
        return None
    return Problem("its values are uint8 with a zero point", "quantize symmetrically to int8, or give it float16")


def small_softmax(operation: Operation) -> Problem | None:
    """Edge TPU: softmax over one axis, of at most 16,000 elements."""
    data = operation.data
    if operation.kind != "SOFTMAX" or data is None or data.shape is None:
        return None
    long = [n for n in data.shape if n not in {None, 1}]
    if len(long) <= 1 and math.prod(n or 1 for n in data.shape) <= 16_000:
        return None
    return Problem(f"its input is {list(data.shape)}", "leave the softmax to the app, or take the argmax instead")


def resize_kinds(operation: Operation) -> Problem | None:
    """ONNX Resize of accelerators: nearest or linear."""
    mode = operation.attributes.get("mode", "nearest")
    if operation.kind != "Resize" or mode in {"nearest", "linear"}:
        return None
    return Problem(f"its mode is {mode}", "resize by nearest or linear")
