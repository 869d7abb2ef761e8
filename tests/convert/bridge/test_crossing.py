"""Models that cross between Keras 3 and tf_keras, and those that are refused by name."""

from typing import Any

import keras
import numpy as np
import pytest
import tf_keras

from convert.bridge.crossing import copy_weights, is_legacy, to_keras, to_tf_keras
from convert.bridge.equality import LIMIT, relative_error, spreading_inputs
from convert.load import keras_specs
from edge.errors import BadModel, CheckFailed


def branched(api: Any) -> Any:
    """Two inputs, two outputs, a shared layer, a model within the model, a regularizer: in either Keras."""
    layers = api.layers
    api.backend.clear_session()  # the names that Keras gives start anew
    api.utils.set_random_seed(0)
    image, row = layers.Input((8, 8, 3), name="image"), layers.Input((5,), name="row")
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(8, 3, name="stem")(image)))
    shared = layers.Conv2D(8, 1, name="shared", kernel_regularizer="l2")
    x = layers.Add()([shared(x), shared(layers.DepthwiseConv2D(1)(x))])
    x = layers.LeakyReLU(0.1)(layers.SeparableConv2D(4, 3)(x))
    inner = api.Sequential([layers.Input((64,)), layers.Dense(6, activation="gelu", name="hidden")], name="inner")
    x = layers.Concatenate()([inner(layers.Flatten()(x)), layers.Dense(3)(row)])
    return api.Model(
        [image, row], [layers.Dense(3, activation="softmax", name="label")(x), layers.Dense(1, name="size")(x)]
    )


def sequence(api: Any) -> Any:
    """Recurrent and attention layers with their wrappers."""
    layers = api.layers
    api.utils.set_random_seed(0)
    tokens = layers.Input((7,), dtype="int32", name="tokens")
    x = layers.Embedding(11, 6)(tokens)
    x = layers.LayerNormalization()(layers.MultiHeadAttention(2, 3)(x, x))
    x = layers.Bidirectional(layers.GRU(4, return_sequences=True))(x)
    x = layers.TimeDistributed(layers.Dense(3))(x)
    return api.Model(tokens, layers.LSTM(3)(x))


def arithmetic_keras() -> Any:
    image = keras.Input((4, 4, 2), name="image")
    x = keras.ops.mean(image + 3.0, axis=[1, 2])
    x = keras.ops.relu(x[:, :1]) * (1 / 6)
    return keras.Model(image, keras.ops.concatenate([x, x - 1, x + x]))


def arithmetic_tf_keras() -> Any:
    import tensorflow as tf

    image = tf_keras.Input((4, 4, 2), name="image")
    x = tf.reduce_mean(image + 3.0, axis=[1, 2])
    x = tf.nn.relu(x[:, :1]) * (1 / 6)
    return tf_keras.Model(image, tf.concat([x, tf.subtract(x, 1.0), x + x], -1))


MODELS = {
    "branched": lambda: branched(keras),
    "branched, tf_keras": lambda: branched(tf_keras),
    "sequence": lambda: sequence(keras),
    "sequence, tf_keras": lambda: sequence(tf_keras),
    "arithmetic": arithmetic_keras,
    "arithmetic, tf_keras": arithmetic_tf_keras,
}


@pytest.mark.parametrize("name", MODELS)
def test_models_cross_and_come_back(name: str) -> None:
    model = MODELS[name]()
    there, back = (to_keras, to_tf_keras) if is_legacy(model) else (to_tf_keras, to_keras)
    crossed = there(model)
    assert is_legacy(crossed.model) != is_legacy(model)
    assert crossed.equality.relative_error <= LIMIT
    assert crossed.equality.relative_spread > 0.01
    assert keras_specs(crossed.model)[0] == keras_specs(model)[0]
    assert crossed.model.count_params() == model.count_params()
    returned = back(crossed.model)
    assert is_legacy(returned.model) == is_legacy(model)
    assert returned.equality.relative_error <= LIMIT


def test_settings_survive() -> None:
    crossed = to_tf_keras(branched(keras)).model
    shared = crossed.get_layer("shared")
    assert float(shared.kernel_regularizer.l2) == pytest.approx(0.01)
    assert len(shared._inbound_nodes) == 2
    assert crossed.get_layer("leaky_re_lu").alpha == pytest.approx(0.1)
    assert crossed.get_layer("inner").get_layer("hidden").activation.__name__ == "gelu"
    frozen = branched(keras)
    frozen.get_layer("stem").trainable = False
    assert not to_tf_keras(frozen).model.get_layer("stem").trainable


def test_inline_puts_models_within_the_model_into_its_graph() -> None:
    crossed = to_tf_keras(branched(keras), inline=True).model
    assert not any(isinstance(layer, tf_keras.Model) for layer in crossed.layers)
    assert crossed.get_layer("hidden").count_params() == 64 * 6 + 6


def test_a_sequential_stays_one() -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(2)])
    assert isinstance(to_tf_keras(model).model, tf_keras.Sequential)


def test_hard_functions_of_keras_3_are_not_those_of_keras_2() -> None:
    row = keras.Input((6,))
    model = keras.Model(row, keras.layers.Dense(3, "hard_silu")(keras.layers.Dense(5, "hard_sigmoid")(row)))
    crossed = to_tf_keras(model)
    assert to_keras(crossed.model).equality.relative_error <= LIMIT
    old = tf_keras.Sequential([tf_keras.layers.Input((6,)), tf_keras.layers.Dense(3, "hard_sigmoid", name="gate")])
    with pytest.raises(BadModel, match=r"gate \(Dense\): activation 'hard_sigmoid' of keras computes something else"):
        to_keras(old)


def test_every_layer_that_cannot_cross_is_named_in_one_error() -> None:
    class Own(keras.layers.Layer):  # type: ignore[misc]  # keras is untyped
        def call(self, x: Any) -> Any:
            return x

    row = keras.Input((4,))
    x = keras.layers.Lambda(lambda v: v * 2, name="twice")(Own(name="own")(row))
    inner = keras.Sequential([keras.Input((4,)), keras.layers.RMSNormalization(name="rms")], name="inner")
    x = keras.layers.Dense(3, activation="celu", name="celu")(inner(x))
    with pytest.raises(BadModel) as caught:
        to_tf_keras(keras.Model(row, keras.ops.cumsum(x)))
    assert caught.value.message.startswith("5 layers of model")
    for name in ("own (Own)", "twice (Lambda)", "rms (RMSNormalization)", "celu (Dense)", "cumsum (Cumsum)"):
        assert name in caught.value.message


def test_subclassed_and_unbuilt_models_are_refused() -> None:
    class Subclassed(keras.Model):  # type: ignore[misc]  # keras is untyped
        def call(self, x: Any) -> Any:
            return x

    with pytest.raises(BadModel, match="subclassed"):
        to_tf_keras(Subclassed())
    with pytest.raises(BadModel, match="never built"):
        to_tf_keras(keras.Sequential([keras.layers.Dense(3)]))
    with pytest.raises(BadModel, match="tf_keras model already"):
        to_tf_keras(branched(tf_keras))


def test_a_copy_that_computes_something_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from convert.bridge import crossing

    monkeypatch.setattr(crossing, "_copy", lambda *_: None)
    with pytest.raises(CheckFailed, match="differ by"):
        to_tf_keras(branched(keras))


def test_a_model_that_answers_always_the_same_cannot_be_judged() -> None:
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, kernel_initializer="zeros", bias_initializer="ones")]
    )
    with pytest.raises(CheckFailed, match="says nearly the same to every input"):
        to_tf_keras(model)


def test_weights_go_by_name_between_the_two() -> None:
    source, target = branched(keras), to_tf_keras(branched(keras)).model
    for weight in source.weights:
        weight.assign(weight + 1)
    copy_weights(source, target)
    assert np.array_equal(
        target.get_layer("inner").get_layer("hidden").kernel, source.get_layer("inner").get_layer("hidden").kernel
    )
    with pytest.raises(BadModel, match="has no layer 'stem'"):
        copy_weights(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), target)


def test_relative_error_is_over_the_spread() -> None:
    wanted = np.array([[100.0, 5.0], [100.5, 5.0]])
    equality = relative_error(wanted, wanted + 0.05)
    assert equality.relative_error == pytest.approx(0.1)
    assert equality.spread == pytest.approx(0.5)
    assert relative_error(wanted, wanted).relative_error == 0
    assert relative_error(wanted, wanted * np.nan).relative_error == np.inf


def test_inputs_fit_the_model() -> None:
    tokens = spreading_inputs(sequence(keras), 0)
    assert tokens.dtype == np.int32
    assert 0 <= tokens.min() <= tokens.max() < 11
