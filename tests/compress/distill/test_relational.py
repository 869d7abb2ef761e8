import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.distill.relational import TARGET, RelationalObjective, angles, distances, huber
from compress.training import FineTune, fine_tune


@given(st.integers(0, 50), st.floats(0.1, 10))
def test_relations_do_not_change_when_the_space_is_turned_and_stretched(seed, scale):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(6, 3))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turned = points @ turn * scale + 5
    np.testing.assert_allclose(distances(np, turned), distances(np, points), rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(angles(np, turned), angles(np, points), rtol=1e-6, atol=1e-5)
    assert distances(np, points).mean() == pytest.approx(1)


def test_a_right_angle_has_cosine_zero():
    corner = angles(np, np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 3.0]]))
    assert corner[0, 1, 2] == pytest.approx(0)
    assert corner[1, 0, 2] == pytest.approx(2 / np.sqrt(13))
    assert corner[0, 1, 1] == pytest.approx(1)


def test_huber_is_a_parabola_within_one_and_a_line_beyond():
    assert [float(huber(np, np.array([x]))) for x in (0.0, -0.5, 1.0, -3.0)] == [0.0, 0.125, 0.5, 2.5]


def test_a_student_of_fewer_dimensions_takes_on_the_relations():
    import keras

    rng = np.random.default_rng(0)
    rows = rng.normal(size=(32, 6)).astype(np.float32)
    teacher = np.concatenate([rows[:, :2] * 4, np.zeros((32, 5), np.float32)], axis=1)
    keras.utils.set_random_seed(0)
    student = keras.Sequential([keras.Input((6,), name="rows"), keras.layers.Dense(2)])

    def gap():
        have = distances(np, student.predict(rows, verbose=0))
        return float(np.abs(have - distances(np, teacher)).mean())

    before = gap()
    batches = lambda _: (({"rows": rows, TARGET: teacher}, np.zeros((32, 2), np.float32)) for _ in range(4))  # noqa: E731 - as short as it gets
    fine_tune(
        student, batches, 4, "mse", [], FineTune(25, 3e-2), lambda *_: None,
        objectives=[RelationalObjective()], label_weight=0.0,
    )  # fmt: skip
    assert gap() < before / 4
