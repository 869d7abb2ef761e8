import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from compress.cluster.entropy import (
    EntropyConstraint,
    budget_bits,
    codebook,
    coded_bits,
    density,
    entropy_bits,
    fit_to_budget,
    keep_within,
    nearest,
    short_floats,
)
from compress.training import FineTune
from edge.errors import BadData, BadModel, CheckFailed
from edge.packing import pack

values = npst.arrays(np.float64, st.integers(1, 200), elements=st.floats(-10, 10))
kernels = npst.arrays(
    np.float64, npst.array_shapes(min_dims=2, max_dims=4, max_side=6), elements=st.floats(0, 10, allow_subnormal=False)
)


@given(st.lists(kernels, min_size=1, max_size=3), st.floats(0, 500), st.floats(1, 8))
def test_what_is_kept_fits_the_budget(gains, bits, value_bits):
    kept = keep_within(gains, [gain > 5 for gain in gains], value_bits, bits)
    assert [mask.shape for mask in kept] == [gain.shape for gain in gains]
    if any(mask.any() for mask in kept):
        assert sum(coded_bits(mask, value_bits) for mask in kept) <= bits
    assert not any((mask & (gain <= 0)).any() for mask, gain in zip(kept, gains, strict=True))


def test_the_largest_gains_are_kept_first():
    gain = np.random.default_rng(0).permutation(600).reshape(20, 30) + 1.0
    kept = keep_within([gain], [np.ones((20, 30), np.bool_)], 3.0, 500.0)[0]
    assert 50 < kept.sum() < 200
    assert gain[kept].min() > gain[~kept].max()


def test_a_gain_where_others_are_costs_less():
    before = np.zeros((40, 40), np.bool_)
    before[:20] = True
    gain = np.where(before, 1.0, 1.5)
    assert keep_within([gain], [before], 2.0, 1800.0)[0][:20].all()


def test_coded_bits_are_near_the_entropy():
    kept = np.random.default_rng(0).random((200, 300)) < 0.05
    p = kept.mean()
    ideal = -kept.size * (p * np.log2(p) + (1 - p) * np.log2(1 - p)) + 3 * kept.sum()
    assert coded_bits(kept, 3.0) == pytest.approx(ideal, rel=0.03)


@given(npst.arrays(np.bool_, npst.array_shapes(min_dims=2, max_dims=4, max_side=8)))
def test_densities_are_probabilities(kept):
    p = density(kept)
    assert p.shape == kept.shape
    assert ((p > 0) & (p < 1)).all()


def test_density_knows_rows_and_columns():
    kept = np.zeros((50, 60), np.bool_)
    kept[10:20, 30:] = True
    p = density(kept)
    assert p[15, 45] > 0.8
    assert p[15, 5] < 0.05
    assert p[30, 45] < 0.1


@given(values, st.integers(2, 16))
def test_codebooks_are_sorted_and_lie_within(weights, clusters):
    centres = codebook(weights, clusters)
    assert centres.shape == (clusters,)
    assert (np.diff(centres) >= 0).all()
    assert weights.min() - 1e-9 <= centres[0]
    assert centres[-1] <= weights.max() + 1e-9


@given(values, st.integers(2, 8))
def test_a_round_of_lloyd_does_not_raise_the_error(weights, clusters):
    before = codebook(weights, clusters, rounds=0)
    after = codebook(weights, clusters, before, rounds=1)
    error = [float(np.square(weights - nearest(weights, centres)).sum()) for centres in (before, after)]
    assert error[1] <= error[0] + 1e-9


def test_few_values_are_their_own_codebook():
    weights = np.repeat([-2.0, 0.5, 3.0], 40)
    np.testing.assert_allclose(nearest(weights, codebook(weights, 3)), weights)


@given(npst.arrays(np.float32, st.integers(0, 50), elements=st.floats(-(2.0**60), 2.0**60, width=32)))
def test_short_floats_keep_eight_bits(numbers):
    short = short_floats(numbers)
    assert not (short.view(np.uint32) & 0xFFFF).any()
    np.testing.assert_allclose(short, numbers, rtol=2**-8, atol=1e-38)


def test_budgets_fall_to_the_ratio():
    bits = [budget_bits(step, 10, 16, 100, 4) for step in range(15)]
    assert bits[0] == 400
    assert bits[5] == pytest.approx(100 * (2 + 2 / 8))
    assert bits[10:] == [200] * 5
    assert all(b <= a for a, b in itertools.pairwise(bits))


def test_entropy_of_symbols():
    assert entropy_bits(np.array([1, 1, 2, 2])) == 1
    assert entropy_bits(np.array([7, 7])) == 0


@pytest.mark.parametrize(
    "setting",
    [{"ratio": 1.0}, {"clusters": 1}, {"prune_end": 0.9}, {"distill": 1.5}, {"frequency_steps": 0}, {"share_from": 1}],
)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ValueError, match="must"):
        EntropyConstraint(**setting)


RNG = np.random.default_rng(0)
DIRECTIONS = RNG.normal(size=(16, 3))


def examples(n):
    x = RNG.normal(size=(n, 16)).astype(np.float32)
    return x, (x @ DIRECTIONS).argmax(axis=1)


def batches(epoch):
    x, y = DATA
    order = np.random.default_rng(epoch).permutation(len(x))
    for start in range(0, len(x), 64):
        rows = order[start : start + 64]
        yield {"x": x[rows]}, y[rows]


DATA = examples(1920)


def net(width=64, frozen=False):
    import keras

    keras.utils.set_random_seed(0)
    x = keras.Input((16,), name="x")
    hidden = keras.layers.Dense(width, activation="relu", name="hidden", trainable=not frozen)(x)
    return keras.Model(x, keras.layers.Dense(3, activation="softmax", name="out")(hidden))


def fit(model, constraint, epochs=4, batches=batches, learning_rate=5e-3):
    settings = FineTune(epochs, learning_rate, 64, 0)
    return fit_to_budget(model, batches, 30, "crossentropy", constraint, settings, lambda *_: None)


@pytest.fixture(scope="module")
def trained():
    from compress.training import fine_tune

    model = net()
    fine_tune(model, batches, 30, "crossentropy", (), FineTune(6, 5e-3, 64, 0), lambda *_: None)
    return model.get_weights()


def accuracy(model):
    return float((model.predict(DATA[0], verbose=0).argmax(axis=1) == DATA[1]).mean())


def test_a_model_meets_its_budget_and_stays_right(trained):
    model = net()
    model.set_weights(trained)
    before = accuracy(model)
    summary = fit(model, EntropyConstraint(ratio=24, clusters=4, frequency_steps=10))
    account = summary.transforms[0]
    sizes = {k.path: int(np.prod(k.shape)) for k in model.trainable_variables if k.path in account.figures}
    bits = sum(account.figures[path] * size for path, size in sizes.items())
    assert bits <= 1.15 * 32 * sum(sizes.values()) / 24
    for kernel in [v for v in model.trainable_variables if v.path in sizes]:
        assert len(np.unique(kernel.numpy())) <= 5
    for variable in model.trainable_variables:
        assert not (variable.numpy().view(np.uint32) & 0xFFFF).any()
    assert accuracy(model) > before - 0.05
    assert any("biases" in skipped.what for skipped in account.skipped)


def test_the_same_seed_gives_the_same_weights(trained):
    models = [net(), net()]
    for model in models:
        model.set_weights(trained)
        fit(model, EntropyConstraint(ratio=10, frequency_steps=10), epochs=1)
    for one, other in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_smaller_budget_is_packed_smaller(trained):
    import tensorflow as tf

    sizes = []
    for ratio in (5, 30):
        model = net()
        model.set_weights(trained)
        fit(model, EntropyConstraint(ratio=ratio, frequency_steps=10), epochs=1)
        sizes.append(len(pack(tf.lite.TFLiteConverter.from_keras_model(model).convert(), "tflite")))
    assert sizes[1] < sizes[0]


def test_what_cannot_be_treated_is_named():
    model = net(frozen=True)
    account = fit(model, EntropyConstraint(ratio=4, frequency_steps=10), epochs=1).transforms[0]
    assert list(account.figures) == ["out/kernel"]
    assert ("cluster.entropy: hidden/kernel", "its layer is frozen") in [(s.what, s.reason) for s in account.skipped]


def test_nothing_to_treat_is_a_failed_check():
    import keras

    x = keras.Input((4, 4, 1))
    model = keras.Model(x, keras.layers.GlobalAveragePooling2D()(keras.layers.DepthwiseConv2D(2)(x)))
    with pytest.raises(CheckFailed, match=r"cluster\.entropy has nothing to treat"):
        fit(model, EntropyConstraint())


def test_failures_put_the_weights_back(trained):
    def nan(epoch):
        for inputs, labels in batches(epoch):
            yield {"x": inputs["x"] * np.float32("nan")}, labels

    def short(epoch):
        yield from list(batches(epoch))[:3]

    for bad, error, words in ((nan, CheckFailed, "NaN or infinite"), (short, BadData, "ended after 3")):
        model = net()
        model.set_weights(trained)
        with pytest.raises(error, match=words):
            fit(model, EntropyConstraint(ratio=4, frequency_steps=10), batches=bad)
        for one, other in zip(model.get_weights(), trained, strict=True):
            np.testing.assert_array_equal(one, other)
    model = net()
    with pytest.raises(CheckFailed, match="left nothing of"):
        fit(model, EntropyConstraint(ratio=1e6))


def test_a_subclassed_model_is_refused():
    import keras

    class Own(keras.Model):  # type: ignore[misc]  # keras is untyped
        def call(self, inputs):
            return inputs

    with pytest.raises(BadModel, match="not a graph of layers"):
        fit(Own(), EntropyConstraint())
