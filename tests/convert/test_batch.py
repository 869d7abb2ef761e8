"""A fixed batch becomes 1 where examples do not act on one another."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from convert.batch import batch_of, with_batch_1
from edge.errors import BadModel, CheckFailed


def model(nodes: list[Any], constants: dict[str, Any], batch: int | str = 2, output: Any = (2, 8)) -> Any:
    graph = helper.make_graph(
        nodes,
        "pair",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, list(output))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def flattened(last: Any, **constants: Any) -> Any:
    """Flattened by a constant shape, then one more operation."""
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["flat"]), last]
    return model(nodes, {"shape": np.array([2, 8], np.int64), **constants})


def outputs(one: Any, x: Any) -> Any:
    return onnxruntime.InferenceSession(one.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})


def test_each_example_alone_is_what_it_was_in_the_batch() -> None:
    pair = flattened(helper.make_node("Softmax", ["flat"], ["y"], axis=1))
    single = with_batch_1(pair)
    assert (batch_of(pair), batch_of(single)) == (2, 1)
    x = np.random.default_rng(0).normal(size=(2, 4, 2)).astype(np.float32)
    (both,) = outputs(pair, x)
    for row in range(2):
        (alone,) = outputs(single, x[row : row + 1])
        np.testing.assert_allclose(alone, both[row : row + 1], rtol=1e-6)
    assert with_batch_1(single) == single


def test_a_constant_that_is_no_batch_stays() -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["flat"]),
        helper.make_node("Mul", ["flat", "two"], ["doubled"]),
        helper.make_node("Reshape", ["doubled", "halves"], ["y"]),
    ]
    constants = {"shape": np.array([2, 8], np.int64), "two": np.float32(2), "halves": np.array([-1, 2, 4], np.int64)}
    single = with_batch_1(model(nodes, constants, output=(2, 2, 4)))
    assert outputs(single, np.ones((1, 4, 2), np.float32))[0].shape == (1, 2, 4)


def test_examples_that_act_on_one_another_are_refused() -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    with pytest.raises(CheckFailed, match="says something else"):
        with_batch_1(model(nodes, {}, output=(2, 4, 2)))


def test_what_is_made_for_the_batch_or_has_none_is_refused() -> None:
    table = np.ones((2, 8), np.float32)
    with pytest.raises(BadModel, match="made for a batch of 2"):
        with_batch_1(flattened(helper.make_node("Concat", ["flat", "table"], ["y"], axis=1), table=table))
    with pytest.raises(BadModel, match="no fixed batch"):
        with_batch_1(model([helper.make_node("Relu", ["x"], ["y"])], {}, "n", ("n", 4, 2)))


@pytest.mark.shared_data
def test_the_face_embedder_of_two_takes_one(shared_data: Path) -> None:
    from convert.to_onnx import tflite_to_onnx
    from edge.engines import open_engine, predict

    path = shared_data / "models/mobilefacenet/MobileFaceNet.tflite"
    converted = tflite_to_onnx(path, batch_1=True)
    assert batch_of(onnx.load_model_from_string(converted)) == 1
    x = np.random.default_rng(1).uniform(-1, 1, (2, 112, 112, 3)).astype(np.float32)
    original = predict(open_engine(path, "tflite"), {"input": x})["embeddings"]
    engine = open_engine(converted, "onnx")
    for row in range(2):
        alone = predict(engine, {"input": x[row : row + 1]})["embeddings"]
        np.testing.assert_allclose(alone[0], original[row], atol=1e-4 * np.abs(original).max())
