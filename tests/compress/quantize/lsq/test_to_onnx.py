"""Recurrent and attention models as QDQ .onnx: every operation against the fake-quantized one, in ONNX Runtime."""

from dataclasses import replace

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

from compress.quantize.lsq.fake import all_grids, calibrate, fake_quantized, learned, operate
from compress.quantize.lsq.graph import Graph, Tensor, graphs_of
from compress.quantize.lsq.lowering import lower
from compress.quantize.lsq.step_size import dequantize, fake_quantize, quantize
from compress.quantize.lsq.to_onnx import to_onnx
from compress.quantize.onnx_model import stayed_float

layers = keras.layers
STEPS, WIDTH, WORDS = 6, 10, 300


def recurrent():
    frames = keras.Input((STEPS, WIDTH), name="frames")
    x = layers.GRU(24, return_sequences=True)(frames)
    x = layers.GRU(16, return_sequences=True, reset_after=False)(x)
    return keras.Model(frames, layers.Dense(5, activation="softmax", name="scores")(layers.LSTM(12)(x)))


def transformer():
    ids = keras.Input((STEPS,), dtype="int32", name="ids")
    x = layers.Embedding(WORDS, 32)(ids)
    x = layers.EinsumDense("btd,de->bte", output_shape=(STEPS, 32), bias_axes="te")(x)
    x = layers.LayerNormalization()(layers.Add()([x, layers.MultiHeadAttention(2, 16)(x, x)]))
    x = layers.Dense(32)(layers.Dense(48, activation="gelu")(layers.Dense(48, activation="relu")(x)))
    return keras.Model(ids, layers.Dense(5, activation="softmax", name="scores")(layers.GlobalAveragePooling1D()(x)))


@pytest.fixture(scope="module", params=[recurrent, transformer])
def made(request):
    keras.utils.set_random_seed(3)
    model = request.param()
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name == "bias":  # they start at 0, which would hide a bias that is lost
            weight.assign(rng.normal(0, 0.2, weight.shape))
    x = rng.normal(size=(8, STEPS, WIDTH)).astype(np.float32)
    if model.inputs[0].dtype == "int32":
        x = rng.integers(0, WORDS, (8, STEPS)).astype(np.int32)
    graph = lower(model)
    fake = fake_quantized(model, graph, calibrate(graph, [{graph.inputs[0]: x}]))
    data = to_onnx(graph, learned(fake), [model.inputs[0].name], ["scores"])
    return model, graph, x, fake, data


def run(data, feeds):
    return onnxruntime.InferenceSession(data).run(None, feeds)


def fed(name):
    return f"fed/{name}"


def weight(part, name, grids):
    one = part.weights[name]
    values = np.asarray(one.read()).reshape(one.shape)
    return values if one.role == "bias" else fake_quantize(values, grids[name])


def test_the_file_computes_what_was_trained(made):
    _, graph, x, fake, data = made
    got = np.concatenate([run(data, {graph.inputs[0]: row[None]})[0] for row in x])
    # one step of the output is 1/256; sums that lie between two steps may round to the other side, twice in a row
    assert np.abs(got - np.asarray(fake([x]))).max() <= 2.01 / 256


def test_each_operation_is_within_one_step(made):
    """All operations side by side in one file, those of loops too, each fed with numbers of its inputs' grids."""
    _, graph, _, fake, _ = made
    grids = all_grids(graph, learned(fake))
    rng = np.random.default_rng(2)
    for part in graphs_of(graph):
        apart, feeds = Graph(weights=part.weights), {}
        for node in part.nodes:
            if node.kind in ("scan", "gather"):
                continue
            for name in node.inputs:
                if name in part.tensors and fed(name) not in feeds:
                    shape, grid = part.tensors[name].shape, grids[name]
                    apart.inputs.append(fed(name))
                    apart.tensors[fed(name)] = Tensor(fed(name), shape, grid)
                    feeds[fed(name)] = dequantize(rng.integers(grid.low, grid.high, shape, endpoint=True), grid)
            given = tuple(fed(name) if name in part.tensors else name for name in node.inputs)
            apart.nodes.append(replace(node, inputs=given))
            like = part.tensors[node.output].like is not None
            apart.tensors[node.output] = Tensor(
                node.output, part.shape(node.output), grids[node.output], given[0] if like else None
            )
            apart.outputs.append(node.output)
        data = to_onnx(apart, grids, apart.inputs, [f"shown{i}" for i in range(len(apart.outputs))])
        for node, got in zip(apart.nodes, run(data, feeds), strict=True):
            exact = operate(node, [feeds[n] if n in feeds else weight(part, n, grids) for n in node.inputs])
            off = quantize(got, grids[node.output]) - quantize(np.asarray(exact), grids[node.output])
            assert np.abs(off).max() <= 1, (node.kind, node.output)


def test_weights_are_stored_once_in_eight_bits(made):
    model, graph, _, _, data = made
    written = onnx.load_model_from_string(data)
    bodies = [a.g for n in written.graph.node if n.op_type == "Scan" for a in n.attribute if a.name == "body"]
    stored = [tensor for part in (written.graph, *bodies) for tensor in part.initializer]
    elements = {kind: sum(int(np.prod(t.dims)) for t in stored if t.data_type == kind) for kind in (1, 2, 6)}
    weights = [w for part in graphs_of(graph) for w in part.weights.values()]
    biases = sum(int(np.prod(w.shape)) for w in weights if w.role == "bias")
    rest = sum(int(np.prod(w.shape)) for w in weights if w.role != "bias")
    assert elements[6] == biases
    assert rest <= elements[2] <= rest + 256  # and zero points and the states at the start
    assert elements[1] < 256  # scales
    assert len(data) < 4 * model.count_params()  # bytes that a float file has at least


def test_what_has_no_integer_form_is_said(made):
    _, graph, _, _, data = made
    kinds = {node.kind for node in graph.nodes}
    said = {entry.what for entry in stayed_float(data, "in pieces")}
    assert bool(said) == ("gelu" in kinds or "rsqrt" in kinds), said
