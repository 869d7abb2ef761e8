"""A face embedder without training: the aligned face in coarse pixels, centred. It tells some people apart."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_embedder(path: Path, *, offset: float = 0.0) -> None:
    """[1, 3, 112, 112] to [1, 196]: means of 8 x 8 pixels of the green channel, less their mean."""
    nodes = [
        helper.make_node("Slice", ["image", "one", "two", "axis"], ["green"]),
        helper.make_node("AveragePool", ["green"], ["coarse"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["coarse"], ["flat"]),
        helper.make_node("ReduceMean", ["flat", "axis"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["flat", "mean"], ["centred"]),
        helper.make_node("Add", ["centred", "offset"], ["embedding"]),
    ]
    constants = {"one": [1], "two": [2], "axis": [1]}
    initial = [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()]
    initial.append(numpy_helper.from_array(np.array(offset, np.float32), "offset"))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 112, 112])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 196])],
        initial,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
