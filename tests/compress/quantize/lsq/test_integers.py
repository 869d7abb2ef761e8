"""Recurrent and attention models in integers: each operation against its fake-quantized one, in LiteRT."""

import keras
import numpy as np
import pytest

from compress.quantize.litert_model import count_ops, stored_as
from compress.quantize.lsq.fake import all_grids, calibrate, evaluate, fake_quantized, learned, operate
from compress.quantize.lsq.graph import Graph, is_wide
from compress.quantize.lsq.lowering import lower
from compress.quantize.lsq.step_size import dequantize, fake_quantize, quantize
from compress.quantize.lsq.to_litert import to_litert
from compress.training import FineTune, fine_tune
from edge.engines import open_engine
from edge.errors import CheckFailed

layers = keras.layers
STEPS, WIDTH, WORDS, EXAMPLES = 12, 10, 50, 16


def recurrent(kind, **settings):
    keras.utils.set_random_seed(3)
    frames = keras.Input((STEPS, WIDTH), name="frames")
    x = kind(16, return_sequences=True, **settings)(frames)
    x = layers.Dropout(0.3)(kind(12, **settings)(x))
    return keras.Model(frames, layers.Dense(5, activation="softmax", name="scores")(x))


def transformer():
    keras.utils.set_random_seed(3)
    ids = keras.Input((STEPS,), dtype="int32", name="ids")
    x = layers.Embedding(WORDS, 16)(ids)
    x = layers.EinsumDense("btd,de->bte", output_shape=(STEPS, 16), bias_axes="te")(x)
    x = layers.LayerNormalization()(layers.Add()([x, layers.MultiHeadAttention(2, 8)(x, x)]))
    x = layers.LayerNormalization()(x + layers.Dense(16)(layers.Dense(32, activation="gelu")(x)))
    return keras.Model(ids, layers.Dense(5, activation="softmax", name="scores")(layers.GlobalAveragePooling1D()(x)))


# what the state of a recurrent layer, attention and normalization keep finer than 8 bits
WIDE_OPERATIONS = {"ADD", "BATCH_MATMUL", "MEAN", "MUL", "RSQRT", "SOFTMAX", "SUB", "TANH"}

MODELS = {
    "gru": lambda: recurrent(layers.GRU),
    "gru_reset_before": lambda: recurrent(layers.GRU, reset_after=False),
    "lstm": lambda: recurrent(layers.LSTM),
    "transformer": transformer,
}


def examples(model):
    rng = np.random.default_rng(1)
    if model.inputs[0].dtype == "int32":
        return rng.integers(0, WORDS, (EXAMPLES, STEPS)).astype(np.int32)
    return rng.normal(size=(EXAMPLES, STEPS, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module", params=MODELS)
def made(request):
    model = MODELS[request.param]()
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name == "bias":  # they start at 0, which would hide a bias that is lost
            weight.assign(rng.normal(0, 0.2, weight.shape))
    graph, x = lower(model), examples(model)
    return model, graph, x, calibrate(graph, [{graph.inputs[0]: x}])


def integers(data, x):
    engine = open_engine(data, "tflite")
    name = engine.inputs[0].name
    return np.concatenate([engine.run({name: row[None]})["scores"] for row in x])


def test_the_graph_is_the_model(made):
    model, graph, x, _ = made
    for unrolled in (True, False):
        values = evaluate(graph, {graph.inputs[0]: x}, lambda _, value: value, unrolled=unrolled)
        np.testing.assert_allclose(values[graph.outputs[0]], model.predict(x, verbose=0), atol=1e-5)


def test_the_file_computes_what_was_trained(made):
    model, graph, x, grids = made
    fake = fake_quantized(model, graph, grids)
    data = to_litert(graph, learned(fake), [graph.inputs[0]], ["scores"])
    assert set(count_ops(data).float_ops) <= WIDE_OPERATIONS
    assert stored_as(data, "float32") == {}
    # one step of the output is 1/256; roundings of two operations in a row may fall to different sides
    assert np.abs(integers(data, x) - fake.predict(x, verbose=0)).max() <= 2.01 / 256


def test_each_integer_operation_is_within_one_step(made):
    """Every operation, of the bodies of loops too, is run as a model of its own."""
    _, graph, x, grids = made
    parts = [graph, *(node.loop.body for node in graph.nodes if node.loop)]
    known = all_grids(graph, grids)
    put = {}

    def rounded(name, value):
        value = np.asarray(value) if is_wide(known[name]) else fake_quantize(np.asarray(value), known[name])
        put.setdefault(name, value)
        return keras.ops.convert_to_tensor(value)

    evaluate(graph, {graph.inputs[0]: x}, rounded, unrolled=True)
    checked = 0
    for part in parts:
        for node in part.nodes:
            if node.kind == "scan" or any(part.tensors[n].integer for n in node.inputs if n in part.tensors):
                continue
            for row in range(3):
                worst = alone(part, node, grids, put, row)
                # what is wide is float32: XNNPACK's tanh and exp are within a few 1e-7 of the exact ones
                assert worst <= (1e-5 if is_wide(known[node.output]) else 1), (node.kind, node.output, worst)
            checked += 1
    assert checked > 10


def alone(part, node, grids, put, row):
    """The largest difference of one operation run as a model of its own, on real inputs of the fake one.

    It is in steps of the output's grid, relative to the largest value where that is wide.
    """
    single = Graph(nodes=[node], outputs=[node.output], weights=part.weights)
    rng = np.random.default_rng(row)
    feeds = {}
    known = all_grids_of(part, grids)
    for name in dict.fromkeys(n for n in node.inputs if n in part.tensors):
        single.inputs.append(name)
        owner = name
        while owner not in put and part.tensors[owner].like in part.tensors:
            owner = part.tensors[owner].like
        values = put.get(owner)
        shape = part.tensors[name].shape
        if values is None:  # a frame or a state of a loop
            grid = known[name]
            drawn = rng.integers(grid.low, grid.high, shape, endpoint=True)
            values = rng.uniform(-1, 1, shape).astype(np.float32) if is_wide(grid) else dequantize(drawn, grid)
        feeds[name] = values.reshape(-1)[: np.prod(shape)].reshape(shape)
    single.tensors = {n: part.tensors[n] for n in (*single.inputs, node.output)}
    for name, tensor in single.tensors.items():
        single.tensors[name] = type(tensor)(name, tensor.shape, known[name])
    data = to_litert(single, {**grids}, [f"in{i}" for i in range(len(feeds))], ["scores"])
    engine = open_engine(data, "tflite")
    out = engine.run({f"in{i}": v.astype(np.float32) for i, v in enumerate(feeds.values())})["scores"]
    weights = {
        n: np.asarray(part.weights[n].read()).reshape(part.weights[n].shape)
        if part.weights[n].role == "bias"
        else fake_quantize(np.asarray(part.weights[n].read()).reshape(part.weights[n].shape), grids[n])
        for n in node.inputs
        if n in part.weights
    }
    exact = operate(node, [feeds[n] if n in feeds else weights[n] for n in node.inputs])
    grid = known[node.output]
    if is_wide(grid):
        return float(np.abs(out - np.asarray(exact)).max() / np.abs(exact).max())
    return int(np.abs(quantize(out, grid) - quantize(np.asarray(exact), grid)).max())


def all_grids_of(part, grids):
    fixed = {t.name: t.grid for t in part.tensors.values() if t.grid is not None}
    known = {**fixed, **grids}

    def of(name):
        while name not in known:
            name = part.tensors[name].like
        return known[name]

    return {name: of(name) for name, tensor in part.tensors.items() if not tensor.integer}


def test_training_learns_steps_and_weights(made):
    model, graph, x, grids = made
    fake = fake_quantized(model, graph, grids)
    before = model.get_weights()
    labels = np.arange(len(x)) % 5
    batch = ({graph.inputs[0]: x}, labels)
    summary = fine_tune(
        fake, lambda _: iter([batch] * 8), 8, "crossentropy", [], FineTune(2, 1e-2, 16, 0), lambda *_: None
    )
    assert summary.epoch_losses[-1] < summary.epoch_losses[0]
    after = learned(fake)
    assert any(after[name].scale != grid.scale for name, grid in grids.items())
    assert all(after[name].zero_point == grid.zero_point for name, grid in grids.items())
    data = to_litert(graph, after, [graph.inputs[0]], ["scores"])
    assert np.abs(integers(data, x) - fake.predict(x, verbose=0)).max() <= 4.01 / 256
    model.set_weights(before)


def test_layers_that_cannot_be_treated_are_named():
    frames = keras.Input((STEPS, WIDTH))
    x = layers.Conv1D(4, 3, name="ears")(frames)
    x = layers.GRU(4, go_backwards=True, name="backwards")(x)
    model = keras.Model(frames, layers.Dense(2, activation="selu", name="odd")(x))
    with pytest.raises(CheckFailed, match="ears: there is no rule for Conv1D"):
        lower(model)
    bidirectional = keras.Model(frames, layers.Bidirectional(layers.GRU(4), name="both")(frames))
    with pytest.raises(CheckFailed, match="both: there is no rule for Bidirectional"):
        lower(bidirectional)
    masked = keras.Sequential([keras.Input((4,), dtype="int32"), layers.Embedding(9, 4, mask_zero=True, name="words")])
    with pytest.raises(CheckFailed, match="words: mask_zero"):
        lower(masked)


def test_shared_layers_and_models_within_models():
    inner = keras.Sequential([keras.Input((WIDTH,)), layers.Dense(8, activation="relu")], name="inner")
    left, right = keras.Input((WIDTH,), name="left"), keras.Input((WIDTH,), name="right")
    shared = layers.Dense(WIDTH, name="shared")
    merged = layers.Subtract()([inner(shared(left)), inner(shared(right))])
    model = keras.Model([left, right], layers.Dense(3, name="scores")(merged))
    graph = lower(model)
    rng = np.random.default_rng(0)
    x = {name: rng.normal(size=(8, WIDTH)).astype(np.float32) for name in ("left", "right")}
    values = evaluate(graph, x, lambda _, value: value)
    np.testing.assert_allclose(values[graph.outputs[0]], model.predict(list(x.values()), verbose=0), atol=1e-5)
    fake = fake_quantized(model, graph, calibrate(graph, [x]))
    engine = open_engine(to_litert(graph, learned(fake), ["left", "right"], ["scores"]), "tflite")
    got = np.concatenate([engine.run({n: v[i : i + 1] for n, v in x.items()})["scores"] for i in range(8)])
    want = fake.predict(list(x.values()), verbose=0)
    assert np.abs(got - want).max() <= 2.01 * learned(fake)[graph.outputs[0]].scale
