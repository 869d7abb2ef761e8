import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.distill.logits import TARGET, LogitsObjective, form_of, logits_of, soft_labels
from compress.training import FineTune, fine_tune
from tests.compress.test_training import blobs, dense

seeds = st.integers(0, 50)


@given(seeds, st.floats(0.5, 20))
def test_probabilities_and_logits_of_a_teacher_give_the_same_soft_labels(seed, temperature):
    logits = np.random.default_rng(seed).normal(0, 3, (5, 4)).astype(np.float32)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    from_logits = soft_labels([logits_of(logits, "classes")], "classes", temperature)
    from_probabilities = soft_labels([logits_of(probabilities, "classes")], "classes", temperature)
    # a probability near 0 has lost digits of its logit
    np.testing.assert_allclose(from_logits, from_probabilities, atol=1e-4)
    np.testing.assert_allclose(from_logits.sum(axis=1), 1, rtol=1e-5)
    assert (from_logits.argmax(axis=1) == logits.argmax(axis=1)).all()


@given(seeds)
def test_a_higher_temperature_is_softer_and_teachers_are_averaged(seed):
    one, two = np.random.default_rng(seed).normal(0, 3, (2, 6, 3)).astype(np.float32)
    sharp, soft = (soft_labels([one], "classes", temperature) for temperature in (1.0, 8.0))
    assert (soft.max(axis=1) <= sharp.max(axis=1) + 1e-6).all()
    both = soft_labels([one, two], "classes", 2.0)
    apart = [soft_labels([teacher], "classes", 2.0) for teacher in (one, two)]
    np.testing.assert_allclose(both, np.mean(apart, axis=0), rtol=1e-5)


def test_the_form_follows_loss_and_output():
    assert form_of("mse", "logits", 3) == "values"
    assert form_of("crossentropy", "softmax", 3) == "classes"
    assert form_of("crossentropy", "sigmoid", 3) == form_of("crossentropy", "logits", 1) == "binary"


@pytest.mark.parametrize("form", ["classes", "binary", "values"])
def test_the_loss_is_zero_at_the_teacher_and_its_gradient_does_not_depend_on_the_temperature(form):
    import tensorflow as tf

    logits = np.random.default_rng(0).normal(0, 0.01, (8, 4)).astype(np.float32)
    slopes = []
    for temperature in (2.0, 8.0):
        objective = LogitsObjective(form, temperature)
        labels = soft_labels([logits], form, temperature)
        assert float(objective.value(tf.constant(logits), labels)) == pytest.approx(0, abs=1e-5)
        away = tf.constant(logits + np.float32([0.1, -0.1, 0.2, 0]))
        with tf.GradientTape() as tape:
            tape.watch(away)
            value = objective.value(away, labels)
        assert float(value) > 0
        slopes.append(tape.gradient(value, away).numpy())
    # for small logits the gradient is (z - v) / classes, section 2.1 of the paper
    np.testing.assert_allclose(slopes[0], slopes[1], rtol=0.05, atol=1e-4)


def test_the_loss_of_probabilities_is_exact_where_they_are_0_and_1():
    import keras

    model = dense(3, "softmax")
    model.layers[-1].set_weights([w * 80 for w in model.layers[-1].get_weights()])
    rows, _ = blobs()
    objective = LogitsObjective("classes", 4.0)
    objective.begin((None, 3), "softmax")
    before = keras.Model(model.input, model.layers[-2].output)
    kernel, bias = model.layers[-1].get_weights()
    logits = before.predict(rows, verbose=0) @ kernel + bias
    labels = soft_labels([np.zeros((96, 3), np.float32)], "classes", 4.0)
    with_logits = LogitsObjective("classes", 4.0)
    assert float(objective.value(model(rows), labels)) == pytest.approx(
        float(with_logits.value(logits, labels)), rel=1e-5
    )


def test_a_student_learns_from_a_teacher_without_labels():
    rows, labels = blobs()
    soft = np.eye(3, dtype=np.float32)[labels] * 0.8 + 0.2 / 3
    student = dense(3, "softmax")
    wrong = (labels + 1) % 3
    batches = lambda _: (({"rows": rows, TARGET: soft}, wrong) for _ in range(3))  # noqa: E731 - as short as it gets
    fine_tune(
        student, batches, 3, "crossentropy", [], FineTune(20, 3e-2), lambda *_: None,
        objectives=[LogitsObjective("classes", 1.0)], label_weight=0.0,
    )  # fmt: skip
    said = student.predict(rows, verbose=0)
    assert (said.argmax(axis=1) == labels).all()
    assert np.abs(said - soft).mean() < 0.05


def test_temperatures_out_of_range_are_refused():
    with pytest.raises(ValueError, match="temperature must be positive"):
        LogitsObjective("classes", 0.0)
