"""Channel pruning of ONNX graphs without training, held against the masked original in ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.prune.channels.channel import ChannelPruning
from compress.prune.channels.onnx_trace import trace_onnx
from compress.prune.channels.structure import macs
from compress.prune.onnx_channels import prune_onnx
from edge.errors import BadModel, CheckFailed
from tests import models
from tests.compress.prune.channels import test_channel as keras_models


def serialized(nodes, inputs, outputs, weights):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def drawn(**shapes):
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def whole_macs(data):
    structure = trace_onnx(onnx.load_model_from_string(data)).structure
    return macs(structure, structure.everything())


@pytest.mark.parametrize("builder", [keras_models.residual_with_gate, keras_models.used_twice, keras_models.embedding])
def test_exported_keras_models(builder):
    from convert.to_onnx import to_onnx

    data = to_onnx(keras_models.make(builder))
    pruned = prune_onnx(data, ChannelPruning(0.6, "l1", multiple=4))
    assert pruned.macs[1] <= 0.6 * pruned.macs[0]
    assert pruned.difference is not None
    assert pruned.difference <= 1e-5
    assert len(pruned.model) < len(data)
    assert whole_macs(pruned.model) == pruned.macs[1]


def test_an_open_batch_stays_open():
    data = models.onnx_mlp().read_bytes()
    pruned = prune_onnx(data, ChannelPruning(0.5, "l1"))
    assert pruned.macs == (16 * 32 + 32 * 4, 16 * 16 + 16 * 4)
    session = onnxruntime.InferenceSession(pruned.model, providers=["CPUExecutionProvider"])
    assert session.run(None, {"features": np.zeros((5, 16), np.float32)})[0].shape == (5, 4)


def test_the_units_of_a_gru_go_with_all_their_gates():
    weights = drawn(w=(1, 48, 8), r=(1, 48, 16), b=(1, 96), out=(16, 2))
    nodes = [
        helper.make_node("GRU", ["x", "w", "r", "b"], ["", "state"], hidden_size=16, name="gru"),
        helper.make_node("Squeeze", ["state", "first"], ["row"]),
        helper.make_node("MatMul", ["row", "out"], ["y"], name="last"),
    ]
    weights["first"] = np.array([0], np.int64)
    data = serialized(nodes, {"x": [5, 1, 8]}, {"y": [1, 2]}, weights)
    pruned = prune_onnx(data, ChannelPruning(0.5, "l1", multiple=4))
    (gru,) = [node for node in onnx.load_model_from_string(pruned.model).graph.node if node.op_type == "GRU"]
    assert next(entry.i for entry in gru.attribute if entry.name == "hidden_size") == 8
    assert pruned.difference is not None
    assert pruned.difference <= 1e-5


def test_batch_normalization_ranks_what_it_scales():
    weights = drawn(w=(16, 3, 3, 3), mean=(16,), bias=(16,), last=(4, 16, 1, 1))
    weights |= {"gamma": np.arange(1, 17, dtype=np.float32), "variance": np.ones(16, np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="first"),
        helper.make_node("BatchNormalization", ["a", "gamma", "bias", "mean", "variance"], ["b"]),
        helper.make_node("Conv", ["b", "last"], ["y"], name="second"),
    ]
    data = serialized(nodes, {"x": ["n", 3, 8, 8]}, {"y": ["n", 4, 6, 6]}, weights)
    pruned = prune_onnx(data, ChannelPruning(0.5, "bn_scale"))
    left = {t.name: numpy_helper.to_array(t) for t in onnx.load_model_from_string(pruned.model).graph.initializer}
    assert left["gamma"].tolist() == list(range(9, 17))
    assert [entry.what for entry in pruned.skipped] == ["second"]
    with pytest.raises(CheckFailed, match=r"no channel of this model can be pruned: .*no batch normalization"):
        prune_onnx(models.onnx_mlp().read_bytes(), ChannelPruning(0.5, "bn_scale"))


def test_an_unknown_operation_and_a_weight_used_elsewhere_stop_channels():
    weights = drawn(w1=(8, 16), w2=(16, 16), w3=(16, 16), w4=(16, 2))
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], name="first"),
        helper.make_node("CumSum", ["a", "axis"], ["b"], name="sums"),
        helper.make_node("MatMul", ["b", "w2"], ["c"], name="second"),
        helper.make_node("MatMul", ["c", "w3"], ["d"], name="third"),
        helper.make_node("MatMul", ["d", "w4"], ["e"], name="fourth"),
        helper.make_node("ReduceSum", ["w3", "axes"], ["f"], keepdims=0, name="total"),
        helper.make_node("Add", ["e", "f"], ["y"], name="shifted"),
    ]
    weights |= {"axis": np.array(1, np.int64), "axes": np.array([0, 1], np.int64)}
    data = serialized(nodes, {"x": [1, 8]}, {"y": [1, 2]}, weights)
    with pytest.raises(CheckFailed) as caught:
        prune_onnx(data, ChannelPruning(0.5, "l1"))
    for said in (
        "sums: CumSum: how channels pass through it is not known; the 16 channels",
        "second: 16 of its 16 channels stay: w3 is used by another operation, too",
        "fourth: 2 of its 2 channels stay: they are an output",
    ):
        assert said in caught.value.message


def test_a_body_keeps_what_it_uses():
    body = helper.make_graph(
        [helper.make_node("Relu", ["a"], ["inner"])], "body", [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, [1, 16])],
    )  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], name="first"),
        helper.make_node("If", ["flag"], ["b"], then_branch=body, else_branch=body, name="either"),
        helper.make_node("MatMul", ["b", "w2"], ["c"], name="second"),
        helper.make_node("MatMul", ["c", "w3"], ["y"], name="third"),
    ]
    weights = drawn(w1=(8, 16), w2=(16, 32), w3=(32, 2)) | {"flag": np.array(True)}
    pruned = prune_onnx(serialized(nodes, {"x": [1, 8]}, {"y": [1, 2]}, weights), ChannelPruning(0.7, "l1"))
    reasons = {entry.what: entry.reason for entry in pruned.skipped}
    assert "16 of its 16 channels stay: the body of either uses them" in reasons["first"]
    assert pruned.macs[0] > pruned.macs[1]


def test_files_that_cannot_be_read_or_counted_are_refused():
    with pytest.raises(BadModel, match="damaged"):
        prune_onnx(b"nothing", ChannelPruning(0.5, "l1"))
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="only")]
    data = serialized(nodes, {"x": [1, 3, "h", 8]}, {"y": [1, 4, "h", 8]}, drawn(w=(4, 3, 1, 1)))
    with pytest.raises(BadModel, match="input 'x' is open in dimension 2"):
        prune_onnx(data, ChannelPruning(0.5, "l1"))
