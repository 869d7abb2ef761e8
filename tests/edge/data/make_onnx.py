"""Makes the .onnx fixtures of the delegates' tests: `python tests/edge/data/make_onnx.py` (needs onnx)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent
SEED = 21


def uint8() -> bytes:
    """image uint8 [1, 1, 8, 8] -> map uint8 [1, 4, 4, 4]: a convolution in QDQ form with integers at both ends."""
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(SEED)
    constants = {
        "image_scale": np.float32(1 / 255),
        "map_scale": np.float32(1 / 64),
        "zero": np.uint8(0),
        "kernel_q": rng.integers(-127, 128, (4, 1, 3, 3)).astype(np.int8),
        "kernel_scale": np.full(4, 1 / 127, np.float32),
        "kernel_zero": np.zeros(4, np.int8),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["image", "image_scale", "zero"], ["real"]),
        helper.make_node("DequantizeLinear", ["kernel_q", "kernel_scale", "kernel_zero"], ["kernel"], axis=0),
        helper.make_node("Conv", ["real", "kernel"], ["sum"], strides=[2, 2], pads=[0, 0, 1, 1]),
        helper.make_node("Relu", ["sum"], ["positive"]),
        helper.make_node("QuantizeLinear", ["positive", "map_scale", "zero"], ["map"]),
    ]
    return _model(
        nodes,
        [("image", "uint8", [1, 1, 8, 8])],
        [("map", "uint8", [1, 4, 4, 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )


def state() -> bytes:
    """sound [1, 4], state [1, 4] -> loudness [1, 1], next [1, 4]: next = state / 2 + sound, loudness its sum."""
    from onnx import helper, numpy_helper

    nodes = [
        helper.make_node("Mul", ["state", "half"], ["faded"]),
        helper.make_node("Add", ["faded", "sound"], ["next"]),
        helper.make_node("ReduceSum", ["next", "axis"], ["loudness"]),
    ]
    return _model(
        nodes,
        [("sound", "float", [1, 4]), ("state", "float", [1, 4])],
        [("loudness", "float", [1, 1]), ("next", "float", [1, 4])],
        [
            numpy_helper.from_array(np.array([0.5], np.float32), "half"),
            numpy_helper.from_array(np.array([1], np.int64), "axis"),
        ],
    )


def fallback() -> bytes:
    """x [batch, 3, 3] -> determinant [batch]: a convolution's worth of work and Det, which only the CPU has."""
    from onnx import helper

    nodes = [helper.make_node("Relu", ["x"], ["positive"]), helper.make_node("Det", ["positive"], ["determinant"])]
    return _model(nodes, [("x", "float", ["batch", 3, 3])], [("determinant", "float", ["batch"])], [])


def wide() -> bytes:
    """x [1, 16777216] -> largest [1, 1]: 64 MB of input for one number."""
    from onnx import helper

    node = helper.make_node("ReduceMax", ["x"], ["largest"], axes=[1], keepdims=1)
    return _model([node], [("x", "float", [1, 1 << 24])], [("largest", "float", [1, 1])], [])


def _model(
    nodes: Sequence[Any],
    inputs: Sequence[tuple[str, str, list[Any]]],
    outputs: Sequence[tuple[str, str, list[Any]]],
    constants: Sequence[Any],
) -> bytes:
    from onnx import TensorProto, checker, helper

    kinds = {"float": TensorProto.FLOAT, "uint8": TensorProto.UINT8}
    given, made = (
        [helper.make_tensor_value_info(name, kinds[kind], shape) for name, kind, shape in values]
        for values in (inputs, outputs)
    )
    graph = helper.make_graph(list(nodes), "tiny", given, made, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return bytes(model.SerializeToString())


def main() -> None:
    files = {
        "tiny_uint8.onnx": uint8(),
        "tiny_state.onnx": state(),
        "tiny_det.onnx": fallback(),
        "tiny_wide.onnx": wide(),
    }
    for name, content in files.items():
        (FOLDER / name).write_bytes(content)


if __name__ == "__main__":
    main()
