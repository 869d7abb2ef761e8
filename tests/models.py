"""Tiny models, made once per test session in a temporary folder. Each function gives the path of a file.

The device-core tests use the committed files of tests/edge/data instead: they run without TensorFlow and onnx.
"""

import atexit
import functools
import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

MAKE = Path(__file__).parent / "edge" / "data" / "make.py"


def litert_float() -> Path:
    """.tflite: image [1, 8, 8, 1] float32 -> scores [1, 3]; conv, depthwise conv, dense; has a signature."""
    return _file("float.tflite", lambda: _make().litert(1, int8=False))


def litert_dynamic_batch() -> Path:
    """`litert_float` with a batch dimension that is not fixed."""
    return _file("dynamic.tflite", lambda: _make().litert(None, int8=False))


def litert_int8() -> Path:
    """`litert_float` quantized: int8 weights and activations, int8 at both ends."""
    return _file("int8.tflite", lambda: _make().litert(1, int8=True))


def litert_fallback() -> Path:
    """.tflite: left, right [1, 6] -> total [1, 6], where [1]; XNNPACK does not take its ARG_MAX."""
    return _file("fallback.tflite", lambda: _make().litert_fallback())


def onnx_conv() -> Path:
    """.onnx: the network of `litert_float`, image [batch, 1, 8, 8] -> scores [batch, 3]."""
    return _file("conv.onnx", lambda: _make().onnx_float())


def onnx_mlp() -> Path:
    """.onnx: features [batch, 16] -> logits [batch, 4] through 32 hidden units."""
    return _file("mlp.onnx", _mlp)


def onnx_unusual_op() -> Path:
    """.onnx: x [batch, 3, 3] -> determinant [batch]; no quantizer and no converter knows Det."""
    return _file("det.onnx", _det)


def linear_onnx(shape: tuple[int, ...], weights: Any, folder: Path) -> Path:
    """.onnx in `folder`: x [batch, *shape] -> value [batch, 1], the sum of weights * x: what counts is known."""
    from onnx import TensorProto, helper, numpy_helper

    flat = numpy_helper.from_array(np.asarray(weights, np.float32).reshape(-1, 1), "weights")
    nodes = [helper.make_node("Flatten", ["x"], ["row"]), helper.make_node("MatMul", ["row", "weights"], ["value"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])
    value = helper.make_tensor_value_info("value", TensorProto.FLOAT, ["batch", 1])
    path = folder / "linear.onnx"
    path.write_bytes(_onnx(helper.make_graph(nodes, "linear", [x], [value], [flat])))
    return path


def _mlp() -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(7)
    shapes = {"w1": (16, 32), "b1": (32,), "w2": (32, 4), "b2": (4,)}
    weights = [numpy_helper.from_array(rng.normal(0, 0.3, s).astype(np.float32), n) for n, s in shapes.items()]
    nodes = [
        helper.make_node("Gemm", ["features", "w1", "b1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "w2", "b2"], ["logits"]),
    ]
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 16])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])
    return _onnx(helper.make_graph(nodes, "mlp", [features], [logits], weights))


def _det() -> bytes:
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 3])
    determinant = helper.make_tensor_value_info("determinant", TensorProto.FLOAT, ["batch"])
    return _onnx(helper.make_graph([helper.make_node("Det", ["x"], ["determinant"])], "det", [x], [determinant]))


def _onnx(graph: Any) -> bytes:
    from onnx import checker, helper

    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return bytes(model.SerializeToString())


def _file(name: str, content: Any) -> Path:
    path = _folder() / name
    if not path.exists():
        path.write_bytes(content())
    return path


@functools.cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="edgetool-models-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def _make() -> Any:
    spec = importlib.util.spec_from_file_location("make_device_models", MAKE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
