import numpy as np
import pytest

from compress.cluster.entropy import EntropyConstraint, fit_to_budget
from compress.training import FineTune
from edge.errors import BadData, BadModel, CheckFailed
from edge.packing import pack


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


def fit(model, constraint, epochs=4, batches=batches, learning_rate=5e-3, progress=lambda *_: None, kept=None):
    settings = FineTune(epochs, learning_rate, 64, 0)
    return fit_to_budget(model, batches, 30, "crossentropy", constraint, settings, progress, kept)


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


def test_an_interrupted_fit_goes_on_and_ends_the_same(trained, tmp_path):
    def stop_at(step):
        def progress(done, _total, _loss):
            if done == step:
                raise KeyboardInterrupt

        return progress

    constraint, kept = EntropyConstraint(ratio=10, frequency_steps=7), tmp_path / "kept"
    whole, resumed = net(), net()
    for model in (whole, resumed):
        model.set_weights(trained)
    summary = fit(whole, constraint)
    for step in (40, 100):  # before values are shared, and after
        with pytest.raises(KeyboardInterrupt):
            fit(resumed, constraint, progress=stop_at(step), kept=kept)
    assert fit(resumed, constraint, kept=kept).epoch_losses == summary.epoch_losses
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
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

    for bad, error, words in ((nan, CheckFailed, "NaN or infinite|loss became nan"), (short, BadData, "ended after 3")):
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
