"""The one-step form of recurrent models: step by step the same bits as the whole sequence, in LiteRT."""

import keras
import numpy as np
import pytest

from compress.quantize.litert_model import stored_as
from compress.quantize.lsq.fake import calibrate
from compress.quantize.lsq.lowering import lower
from compress.quantize.lsq.one_step import one_step
from compress.quantize.lsq.to_litert import step_to_litert, to_litert
from edge.engines import open_engine
from edge.errors import CheckFailed
from edge.streaming import Stream, open_step, states, steps

layers = keras.layers
STEPS, WIDTH = 9, 5


def stacked(kind, *, every_step, **settings):
    keras.utils.set_random_seed(5)
    frames = keras.Input((STEPS, WIDTH), name="frames")
    x = layers.LayerNormalization()(layers.Dense(6, activation="relu")(frames))
    x = kind(8, return_sequences=True, **settings)(x)
    x = kind(6, return_sequences=every_step, **settings)(layers.Multiply()([x, layers.Dense(8)(x)]))
    return keras.Model(frames, layers.Dense(3, activation="softmax")(x))


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(lambda: stacked(layers.GRU, every_step=False), id="gru"),
        pytest.param(lambda: stacked(layers.GRU, every_step=True, reset_after=False), id="gru-every-step"),
        pytest.param(lambda: stacked(layers.LSTM, every_step=True), id="lstm-every-step"),
    ],
)
def test_every_step_is_bit_equal_to_the_sequence(model):
    graph = lower(model())
    x = np.random.default_rng(2).normal(size=(8, STEPS, WIDTH)).astype(np.float32)
    grids, step = calibrate(graph, [{graph.inputs[0]: x}]), one_step(graph)
    both = to_litert(graph, grids, ["frames"], ["scores"], step)
    alone = step_to_litert(graph, grids, ["frames"], ["scores"], step)
    whole, stepping, only = open_engine(both, "tflite"), open_step(both, "tflite"), open_engine(alone, "tflite")
    assert states(stepping) == states(only) == {name: name for name in step.states}
    answers = set()
    for row in x:
        wanted = whole.run({"frames": row[None]})["scores"][0]
        for engine in (stepping, only):
            got = [outputs["scores"][0] for outputs in steps(engine, {"frames": row})]
            assert len(got) == STEPS
            seen = np.concatenate(got) if wanted.ndim == 2 else got[-1]
            np.testing.assert_array_equal(seen, wanted)
        answers.add(wanted.tobytes())
    assert len(answers) == len(x)


def test_weights_stand_in_the_file_once():
    graph = lower(stacked(layers.GRU, every_step=False))
    x = np.random.default_rng(2).normal(size=(4, STEPS, WIDTH)).astype(np.float32)
    grids, step = calibrate(graph, [{graph.inputs[0]: x}]), one_step(graph)
    both = to_litert(graph, grids, ["frames"], ["scores"], step)
    for kernel in (weight for part in (graph, step.graph) for weight in part.weights.values() if weight.role != "bias"):
        if len(kernel.shape) == 2:
            integers = np.clip(np.rint(np.asarray(kernel.read()).T / grids[kernel.name].scale), -127, 127)
            assert both.count(integers.astype(np.int8).tobytes()) == 1, kernel.name
    assert stored_as(both, "float32") == {}


def test_a_state_carries_from_frame_to_frame():
    graph = lower(stacked(layers.GRU, every_step=False))
    x = np.random.default_rng(2).normal(size=(4, STEPS, WIDTH)).astype(np.float32)
    step = one_step(graph)
    engine = open_engine(
        step_to_litert(graph, calibrate(graph, [{graph.inputs[0]: x}]), ["frames"], ["scores"], step), "tflite"
    )
    stream = Stream(engine, states(engine))
    first = stream.run({"frames": x[0, None, :1]})["scores"]
    second = stream.run({"frames": x[0, None, :1]})["scores"]
    assert not np.array_equal(first, second)
    stream.reset()
    np.testing.assert_array_equal(stream.run({"frames": x[0, None, :1]})["scores"], first)


def pooled(x):
    return layers.GlobalAveragePooling1D(name="pool")(layers.GRU(4, return_sequences=True)(x))


def attending(x):
    x = layers.GRU(4, return_sequences=True)(x)
    return layers.Flatten()(layers.MultiHeadAttention(1, 4, name="attend")(x, x))


def flattened(x):
    return layers.Flatten(name="flat")(layers.LSTM(4, return_sequences=True)(x))


def placed(x):
    made = layers.EinsumDense("btd,de->bte", output_shape=(STEPS, 4), bias_axes="te", name="places")(x)
    return layers.GRU(4)(made)


@pytest.mark.parametrize(
    ("inside", "reason"),
    [
        (pooled, "layer pool averages over the steps"),
        (attending, "layer attend (attends to several steps|moves the steps)"),
        (flattened, "layer flat flattens the steps"),
        (placed, "layer places has values of its own for each step"),
        (layers.Dense(4), "no recurrent layer"),
    ],
)
def test_what_looks_at_several_steps_is_named(inside, reason):
    frames = keras.Input((STEPS, WIDTH))
    with pytest.raises(CheckFailed, match=reason):
        one_step(lower(keras.Model(frames, inside(frames))))
