import math
import os
import runpy
import signal
import subprocess
import sys

import numpy as np
import pytest

from compress.training import FineTune, TransformSummary, fine_tune, output_kind
from edge.errors import BadData, BadModel, CheckFailed
from tests.conftest import REPOSITORY


def silent(*_):
    pass


def blobs(n=96, columns=4, classes=3):
    """Well separated clusters: (rows [n, columns], labels [n])."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, n)
    return (np.eye(classes, columns)[labels] * 3 + rng.normal(0, 0.3, (n, columns))).astype(np.float32), labels


def in_batches(inputs, labels, size=32):
    def train(epoch):
        order = np.random.default_rng((0, epoch)).permutation(len(labels))
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            yield {name: array[chosen] for name, array in inputs.items()}, labels[chosen]

    return train


def dense(units, activation=None, columns=4, dropout=0.0, hidden="relu"):
    import keras

    keras.utils.set_random_seed(1)
    rows = keras.Input((columns,), name="rows")
    x = keras.layers.Dense(8, activation=hidden)(rows)
    x = keras.layers.Dropout(dropout)(x) if dropout else x
    return keras.Model(rows, keras.layers.Dense(units, activation=activation)(x))


class Recorder:
    """Counts what it is called with and holds the first weight at 7."""

    def __init__(self):
        self.calls = []

    def begin(self, model):
        self.bias = model.layers[-1].bias

    def step(self, step, total_steps):
        self.calls.append((step, total_steps))
        self.bias.assign(np.full(self.bias.shape, 7.0))

    def state(self):
        return {"calls": np.array(self.calls)}

    def restore(self, state):
        self.calls = [tuple(call) for call in state["calls"].tolist()]

    def finish(self):
        return TransformSummary("recorder", {self.bias.path: float(self.bias.numpy()[0])})


@pytest.mark.parametrize("activation", ["softmax", None])
def test_classes_are_learned_from_probabilities_and_from_logits(activation):
    rows, labels = blobs()
    model = dense(3, activation)
    summary = fine_tune(model, in_batches({"rows": rows}, labels), 3, "crossentropy", [], FineTune(8, 3e-2), silent)
    assert output_kind(model) == (activation or "logits")
    assert summary.steps == 24
    assert summary.epoch_losses[0] > math.log(3) / 3 > summary.epoch_losses[-1]
    assert np.mean(model.predict(rows, verbose=0).argmax(axis=1) == labels) == 1


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_a_single_output_is_binary(activation):
    rows, labels = blobs(classes=2)
    model = dense(1, activation)
    fine_tune(model, in_batches({"rows": rows}, labels), 3, "crossentropy", [], FineTune(8, 3e-2), silent)
    threshold = 0.5 if activation else 0.0
    assert np.mean((model.predict(rows, verbose=0)[:, 0] > threshold) == labels) == 1


def test_regression_from_two_inputs_whose_order_in_the_batch_does_not_matter():
    import keras

    keras.utils.set_random_seed(0)
    wide, narrow = keras.Input((3,), name="wide"), keras.Input((1,), name="narrow")
    model = keras.Model([wide, narrow], keras.layers.Dense(1)(keras.layers.Concatenate()([wide, narrow])))
    rng = np.random.default_rng(0)
    inputs = {"narrow": rng.random((64, 1), np.float32), "wide": rng.random((64, 3), np.float32)}
    targets = inputs["wide"].sum(axis=1) - 2 * inputs["narrow"][:, 0]
    fine_tune(model, in_batches(inputs, targets), 2, "mse", [], FineTune(80, 5e-2), silent)
    predicted = model.predict([inputs["wide"], inputs["narrow"]], verbose=0)[:, 0]
    assert np.sqrt(np.mean((predicted - targets) ** 2)) < 0.05
    with pytest.raises(BadData, match="no input 'narrow'"):
        fine_tune(model, in_batches({"wide": inputs["wide"], "x": targets}, targets), 2, "mse", [], FineTune(), silent)


def test_transforms_see_every_step_and_have_the_last_word():
    rows, labels = blobs()
    model, recorder, seen = dense(3, "softmax"), Recorder(), []
    train = in_batches({"rows": rows}, labels)
    report = lambda *step: seen.append(step)  # noqa: E731 - as short as it gets
    summary = fine_tune(model, train, 3, "crossentropy", [recorder], FineTune(2), report)
    assert recorder.calls == [(step, 6) for step in range(1, 7)]
    assert [step[:2] for step in seen] == recorder.calls
    assert np.all(model.layers[-1].bias.numpy() == 7)
    assert list(summary.transforms[0].figures.values()) == [7.0]


def test_the_same_seed_gives_the_same_weights_and_another_seed_does_not():
    rows, labels = blobs()
    start = dense(3, "softmax", dropout=0.5)
    weights = start.get_weights()

    def fit(seed):
        start.set_weights(weights)
        settings = FineTune(2, 1e-2, seed=seed)
        fine_tune(start, in_batches({"rows": rows}, labels), 3, "crossentropy", [], settings, silent)
        return start.trainable_variables[0].numpy()

    first, second, other = fit(0), fit(0), fit(1)
    np.testing.assert_array_equal(first, second)
    assert np.any(first != other)


@pytest.mark.parametrize(
    ("activation", "reason"), [("linear", "nan at step 2 of 2"), ("relu", "nan at step 2 of 2|kernel has weights")]
)
def test_not_a_number_is_found_in_loss_or_weights_and_the_weights_are_put_back(activation, reason):
    rows, labels = blobs()
    rows[40:] = np.nan
    model = dense(3, "softmax", hidden=activation)
    before = model.get_weights()
    train = lambda epoch: iter([({"rows": rows[:32]}, labels[:32]), ({"rows": rows[32:64]}, labels[32:64])])  # noqa: E731 - as short as it gets
    with pytest.raises(CheckFailed, match=reason):
        fine_tune(model, train, 2, "crossentropy", [], FineTune(1), silent)
    for kept, weight in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, weight)


def test_data_that_ends_early_is_an_error():
    rows, labels = blobs(n=64)
    with pytest.raises(BadData, match="epoch 1 of the training data ended after 2 of 3"):
        fine_tune(dense(3), in_batches({"rows": rows}, labels), 3, "crossentropy", [], FineTune(), silent)


def test_models_that_cannot_be_trained_are_refused():
    import keras
    import tf_keras

    legacy = tf_keras.Sequential([tf_keras.layers.Dense(1, input_shape=(2,))])
    rows = keras.Input((2,))
    two = keras.Model(rows, [keras.layers.Dense(1)(rows), keras.layers.Dense(1)(rows)])
    frozen = keras.Model(rows, keras.layers.Dense(1)(rows))
    frozen.trainable = False
    for model, reason in ((legacy, "Keras 3 model, not tf_keras"), (two, "2 outputs"), (frozen, "no trainable")):
        with pytest.raises(BadModel, match=reason):
            fine_tune(model, in_batches({}, np.zeros(0)), 1, "mse", [], FineTune(), silent)


def test_output_kind_looks_into_layers_and_nested_models():
    import keras

    rows = keras.Input((4,))
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])
    assert output_kind(keras.Model(rows, inner(rows))) == "softmax"
    assert output_kind(keras.Model(rows, keras.layers.Softmax()(rows))) == "softmax"
    assert output_kind(keras.Model(rows, keras.layers.Activation("sigmoid")(rows))) == "sigmoid"
    assert output_kind(keras.Model(rows, keras.layers.Dense(2, activation="relu")(rows))) == "logits"


@pytest.mark.parametrize(
    "setting", [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"learning_rate": math.nan}]
)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ValueError, match="must be"):
        FineTune(**setting)


INTERRUPTED = """
import os, signal, sys
import numpy as np
from pathlib import Path
from compress.prune.magnitude import magnitude_pruner
from compress.prune.pruner import Schedule
from compress.training import FineTune, fine_tune
from tests.compress.test_training import blobs, dense, in_batches

def fit(folder, kill_at):
    def progress(done, total, loss):
        if done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    rows, labels = blobs()
    model = dense(3, "softmax", dropout=0.3)
    pruner = magnitude_pruner(Schedule(0.5, frequency_steps=2))
    train = in_batches({"rows": rows}, labels)
    settings = FineTune(4, 1e-2)
    return model, fine_tune(model, train, 3, "crossentropy", [pruner], settings, progress, checkpoint=folder)

if __name__ == "__main__":
    fit(Path(sys.argv[1]), int(sys.argv[2]))
"""


def test_a_killed_fit_goes_on_from_its_last_epoch_and_ends_the_same(tmp_path):
    script, kept = tmp_path / "interrupted.py", tmp_path / "checkpoint"
    script.write_text(INTERRUPTED)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    killed = subprocess.run([sys.executable, script, kept, "8"], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    space = runpy.run_path(str(script))
    whole, summary = space["fit"](None, 0)
    before = (kept / "epoch.npz").stat().st_mtime_ns
    resumed, again = space["fit"](kept, 0)
    assert before < (kept / "epoch.npz").stat().st_mtime_ns
    assert again.epoch_losses == summary.epoch_losses
    for left, right in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
