"""A float ONNX model with int8 around chosen nodes only, in QDQ form; the others stay float32.

The graph is rewritten by ONNX Runtime, as in compress.quantize.onnx_static.
"""

import math
from typing import Any

from compress.quantize import Quantized, Samples
from compress.quantize.mixable import Chosen, Layer, Mixable, Operation, Precision, follow
from compress.quantize.onnx_model import finish, preprocess, read_model, require_float
from compress.quantize.onnx_static import collect_ranges, rewrite
from edge.errors import BadModel
from edge.quiet import quiet

_WEIGHTS_AT = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "Gather": 0}
_PRECISIONS: tuple[Precision, ...] = ("int8", "float32")


def mixable(model: bytes, calibration: Samples, *, per_channel: bool = True) -> Mixable:
    """Calibrate a float ONNX model, so that its layers can be quantized in any combination.

    `calibration` gives {input name: [1, ...]}. `per_channel=False` gives the weights of every layer one scale.
    A layer is a node with constant weights of at least two dimensions, and bears the name of its first output.

    Raises:
        BadModel: damaged or quantized already.
        BadData: the samples do not fit the inputs, there are none, or they make an activation NaN.

    """
    parsed = read_model(model)
    require_float(parsed)
    ready = preprocess(parsed)
    for node in ready.graph.node:
        node.name = node.output[0]  # names may be missing or used twice; outputs are unique
    ranges = {
        name: seen.range("minmax") for name, seen in collect_ranges(ready, calibration, with_histogram=False).items()
    }
    constants = {tensor.name: tensor for tensor in ready.graph.initializer}

    def build(chosen: Chosen) -> Quantized:
        treated = [name for name, precision in follow(_operations(ready), chosen).items() if precision == "int8"]
        if not treated:
            return Quantized(ready.SerializeToString())
        with quiet():
            try:
                result = rewrite(ready, ranges, "int8", per_channel=per_channel, nodes=treated)
            except (ValueError, TypeError, RuntimeError, KeyError, AttributeError) as error:
                raise BadModel(f"mixed precision of this ONNX model failed: {error}", "use quantize.int8") from error
        return Quantized(finish(result))

    return Mixable(ready.SerializeToString(), "onnx", tuple(_layers(ready, constants)), _PRECISIONS, build)


def _layers(model: Any, constants: dict[str, Any]) -> list[Layer]:
    import onnx

    found = []
    for node in model.graph.node:
        at = _WEIGHTS_AT.get(node.op_type)
        tensor = None if at is None or len(node.input) <= at else constants.get(node.input[at])
        if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) < 2:
            continue
        channels = {"Conv": tensor.dims[0], "Gather": 0}.get(node.op_type, tensor.dims[-1])
        found.append(Layer(node.name, node.op_type, math.prod(tensor.dims), int(channels)))
    return found


def _operations(model: Any) -> list[Operation]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return [
        Operation(node.name, tuple(name for name in node.input if name and name not in constants), tuple(node.output))
        for node in model.graph.node
    ]
