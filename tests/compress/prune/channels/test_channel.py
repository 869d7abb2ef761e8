"""Channel pruning of real Keras 3 models: each structure is pruned and held against the masked original."""

import numpy as np
import pytest

from compress.prune.channels.channel import ChannelPruning, prune_channels
from edge.errors import BadData, BadModel, CheckFailed


def residual_with_gate(layers, keras):
    """Residual sum, depthwise with a multiplier, separable, concatenation, squeeze-excite, flatten to dense."""
    image = keras.Input((8, 8, 3), name="image")
    stem = layers.Conv2D(16, 3, padding="same", use_bias=False, name="stem")(image)
    stem = layers.ReLU()(layers.BatchNormalization(name="norm")(stem))
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="depthwise")(stem)
    x = layers.Add()([layers.Conv2D(16, 1, name="pointwise")(x), stem])
    y = layers.SeparableConv2D(24, 3, padding="same", name="separable")(x)
    x = layers.Concatenate()([x, y])
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(8, 1, activation="relu", name="squeeze")(gate)
    gate = layers.Conv2D(40, 1, activation="sigmoid", name="excite")(gate)
    x = layers.Flatten()(layers.MaxPooling2D()(layers.Multiply()([x, gate])))
    x = layers.Dense(32, activation="relu", name="hidden")(x)
    return keras.Model(image, layers.Dense(10, activation="softmax", name="out")(x))


def recurrent(layers, keras):
    """Units of GRU, of both directions of an LSTM, and of an LSTM."""
    steps = keras.Input((6, 5), name="steps")
    x = layers.GRU(16, return_sequences=True, name="gru")(steps)
    x = layers.Bidirectional(layers.LSTM(8, return_sequences=True), name="both")(x)
    return keras.Model(steps, layers.Dense(3, name="out")(layers.LSTM(16, name="lstm")(x)))


def transformer(layers, keras):
    """Heads, the residual stream (none of it normalized over channels here), and a hidden layer."""
    steps = keras.Input((6, 16), name="steps")
    x = layers.Dense(16, name="embed")(steps)
    x = layers.Add()([x, layers.MultiHeadAttention(4, 4, name="attention")(x, x)])
    x = layers.Add()([x, layers.Dense(16, name="down")(layers.Dense(32, activation="gelu", name="up")(x))])
    return keras.Model(steps, layers.Dense(3, name="out")(layers.GlobalAveragePooling1D()(x)))


def used_twice(layers, keras):
    """One convolution used on two inputs, and a model within the model."""
    left, right = keras.Input((8, 8, 2), name="left"), keras.Input((8, 8, 2), name="right")
    shared = layers.Conv2D(16, 3, name="shared")
    inner = keras.Sequential(
        [keras.Input((8, 8, 2)), layers.Conv2D(16, 1, name="first"), layers.Conv2D(16, 1, name="second")], name="inner"
    )
    x = layers.Subtract()([shared(inner(left)), shared(inner(right))])
    x = layers.Conv2DTranspose(8, 2, name="wider")(x)
    return keras.Model([left, right], layers.Dense(2, name="out")(layers.GlobalMaxPooling2D()(x)))


def embedding(layers, keras):
    """An embedding, a reshape that counts channels, a one-dimensional convolution."""
    words = keras.Input((6,), dtype="int32", name="words")
    x = layers.Embedding(20, 16, name="table")(words)
    x = layers.Reshape((3, 2, 16))(x)
    x = layers.Conv2D(16, (2, 1), name="conv")(x)
    x = layers.Reshape((4, 16))(x)
    x = layers.PReLU(shared_axes=[1])(layers.Conv1D(16, 3, padding="same", name="wide")(x))
    return keras.Model(words, layers.Dense(3, name="out")(layers.Flatten()(x)))


BUILT = {
    residual_with_gate: {"stem+pointwise+excite", "separable+excite", "squeeze", "hidden"},
    recurrent: {"gru", "both+both", "lstm"},
    transformer: {"embed+down", "attention", "up"},
    used_twice: {"inner/first", "inner/second", "shared", "wider"},
    embedding: {"table", "conv", "wide"},
}


def make(builder):
    import keras

    keras.utils.set_random_seed(1)
    model = builder(keras.layers, keras)
    rng = np.random.default_rng(0)
    for weight in model.weights:  # a batch normalization as it is made, gamma 1 and beta 0, would hide errors
        if weight.name in ("gamma", "beta", "moving_mean", "moving_variance", "bias", "alpha"):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    return model


def examples(model, n=16):
    rng = np.random.default_rng(2)
    inputs = {
        tensor.name: rng.integers(0, 20, (n, *tensor.shape[1:]))
        if "int" in tensor.dtype
        else rng.normal(size=(n, *tensor.shape[1:])).astype(np.float32)
        for tensor in model.inputs
    }
    return [(inputs, rng.integers(0, model.outputs[0].shape[-1], n))]


@pytest.mark.parametrize("builder", BUILT)
@pytest.mark.parametrize("importance", ["l1", "taylor"])
def test_the_smaller_model_is_the_masked_original(builder, importance):
    model = make(builder)
    before = [weight.numpy() for weight in model.weights]
    pruned = prune_channels(model, ChannelPruning(0.5, importance, multiple=4), examples(model))
    assert set(pruned.left) == BUILT[builder]
    assert pruned.difference is not None
    assert pruned.difference <= 1e-5  # float32 sums in another order
    whole, left = pruned.macs
    assert left <= 0.5 * whole
    assert pruned.model.count_params() < model.count_params()
    assert all(now == was or now % 4 == 0 or name == "attention" for name, (now, was) in pruned.left.items())
    assert [(t.name, t.shape) for t in pruned.model.inputs] == [(t.name, t.shape) for t in model.inputs]
    assert [t.shape for t in pruned.model.outputs] == [t.shape for t in model.outputs]
    assert all(np.array_equal(one, weight.numpy()) for one, weight in zip(before, model.weights, strict=True))


def test_the_macs_are_those_of_the_rebuilt_model():
    from compress.prune.channels.keras_trace import trace
    from compress.prune.channels.structure import macs

    for builder in BUILT:
        pruned = prune_channels(make(builder), ChannelPruning(0.6, "l1", multiple=4))
        structure = trace(pruned.model).structure
        assert macs(structure, structure.everything()) == pruned.macs[1]


def test_the_rebuilt_model_survives_a_file(tmp_path):
    import keras

    for builder in BUILT:
        model = make(builder)
        made = prune_channels(model, ChannelPruning(0.6, "l1", multiple=4)).model
        made.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        feeds = list(examples(model)[0][0].values())
        feeds = feeds if len(feeds) > 1 else feeds[0]
        assert np.array_equal(made(feeds).numpy(), again(feeds).numpy())


def test_channels_without_importance_go_first():
    import keras

    model = make(residual_with_gate)
    hidden = model.get_layer("hidden")
    kernel, bias = hidden.get_weights()
    kernel[:, ::2] = 0
    bias[::2] = 0
    hidden.set_weights([kernel, bias])
    pruned = prune_channels(model, ChannelPruning(0.85, "l1", multiple=1))
    left = pruned.model.get_layer("hidden").get_weights()[0]
    assert np.abs(left).sum(axis=0).min() > 0
    assert isinstance(pruned.model, keras.Model)


def test_a_sequential_model_that_was_never_called():
    import keras

    layers = [keras.Input((6,), name="given"), keras.layers.Dense(32, name="wide"), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    pruned = prune_channels(model, ChannelPruning(0.5), examples(model))
    assert pruned.left == {"wide": (16, 32)}
    assert isinstance(pruned.model, keras.Sequential)


def test_bn_scale_ranks_what_is_scaled_and_names_the_rest():
    model = make(residual_with_gate)
    pruned = prune_channels(model, ChannelPruning(0.7, "bn_scale", multiple=4))
    assert set(pruned.left) == {"stem+pointwise+excite"}
    assert {entry.what for entry in pruned.skipped} == {"separable+excite", "squeeze", "hidden", "out"}
    with pytest.raises(CheckFailed, match=r"no channel of this model can be pruned: .*no batch normalization"):
        prune_channels(make(recurrent), ChannelPruning(0.5, "bn_scale"))


def test_normalization_over_channels_is_pruned_but_not_compared():
    import keras

    x = given = keras.Input((6,))
    x = keras.layers.LayerNormalization()(keras.layers.Dense(16, name="wide")(x))
    pruned = prune_channels(keras.Model(given, keras.layers.Dense(2)(x)), ChannelPruning(0.5, "l1", multiple=4))
    assert pruned.left == {"wide": (8, 16)}
    assert pruned.difference is None


def test_an_unknown_layer_stops_the_channels_that_reach_it_and_is_named():
    import keras

    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(16, 3, name="first")(image)
    x = keras.layers.GroupNormalization(4, name="groups")(x)
    x = keras.layers.Conv2D(16, 3, name="second")(x)
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
    pruned = prune_channels(model, ChannelPruning(0.7, "l1", multiple=4))
    assert set(pruned.left) == {"second"}
    reasons = {entry.what: entry.reason for entry in pruned.skipped}
    assert "GroupNormalization: how channels pass through it is not known; the 16 channels" in reasons["groups"]
    assert "groups (GroupNormalization) stops them" in reasons["first"]


def test_what_enters_a_model_within_the_model_stays():
    import keras

    inner = keras.Sequential([keras.Input((16,)), keras.layers.Dense(16, name="inside")], name="inner")
    given = keras.Input((6,))
    x = inner(keras.layers.Dense(16, name="before")(given))
    pruned = prune_channels(keras.Model(given, keras.layers.Dense(2)(x)), ChannelPruning(0.8, "l1"))
    assert set(pruned.left) == {"inner/inside"}
    assert any("inner is a model of its own" in entry.reason for entry in pruned.skipped if entry.what == "before")


def test_what_is_summed_with_an_input_or_is_an_output_stays():
    import keras

    given = keras.Input((6, 16))
    x = keras.layers.Add()([given, keras.layers.Dense(16, name="tied")(given)])
    with pytest.raises(CheckFailed, match="tied: 16 of its 16 channels stay: they are summed or shared"):
        prune_channels(keras.Model(given, keras.layers.Softmax()(x)), ChannelPruning(0.5, "l1"))


def test_several_outputs_are_pruned_by_norm_and_refused_for_taylor():
    import keras

    given = keras.Input((6,), name="given")
    x = keras.layers.Dense(32, activation="relu", name="wide")(given)
    model = keras.Model(given, [keras.layers.Dense(2)(x), keras.layers.Dense(3)(x)])
    pruned = prune_channels(model, ChannelPruning(0.5, "l1"))
    assert pruned.left == {"wide": (16, 32)}
    assert pruned.difference is not None
    with pytest.raises(BadModel, match="has 2 outputs; importance by Taylor takes one"):
        prune_channels(model, ChannelPruning(0.5), [({"given": np.zeros((1, 6), np.float32)}, np.zeros(1))])


def test_a_model_that_is_no_graph_is_refused_by_name():
    import keras

    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(BadModel, match="class Own is not a graph of layers"):
        prune_channels(Own(), ChannelPruning(0.5, "l1"))


def test_what_cannot_be_reached_or_ranked_is_said():
    model = make(recurrent)
    with pytest.raises(CheckFailed, match="cannot reach the budget"):
        prune_channels(model, ChannelPruning(0.01, "l1", keep=0.5))
    with pytest.raises(BadData, match="needs examples"):
        prune_channels(model, ChannelPruning(0.5))
    for wrong in ({"macs": 0.0}, {"importance": "l2"}, {"multiple": 0}, {"keep": 1.5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ChannelPruning(**wrong)


def test_any_cost_of_the_smaller_model_can_be_the_budget():
    model = make(residual_with_gate)
    pruned = prune_channels(model, ChannelPruning(0.5, "l1", multiple=4), cost=lambda made: made.count_params())
    assert pruned.model.count_params() <= 0.5 * model.count_params()
