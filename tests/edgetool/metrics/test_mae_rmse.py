import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import BadData
from edgetool.metrics import metric


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.floats(1e-6, 1e6))
def test_agrees_with_scikit_learn_at_every_scale(seed, n, scale):
    from sklearn.metrics import mean_absolute_error, root_mean_squared_error

    rng = np.random.default_rng(seed)
    outputs, labels = scale * rng.standard_normal((2, n))
    assert metric("mae").value(outputs[:, None], labels) == pytest.approx(mean_absolute_error(labels, outputs))
    assert metric("rmse").value(outputs, labels[:, None]) == pytest.approx(root_mean_squared_error(labels, outputs))


def test_pictures_average_over_their_values_first():
    outputs, labels = np.zeros((2, 2, 2)), np.stack([np.ones((2, 2)), np.diag([3.0, 3.0])])
    assert metric("mae").scores(outputs, labels).tolist() == [1.0, 1.5]


def test_other_shapes_are_refused():
    with pytest.raises(BadData, match=r"outputs have shape \(3, 2\) and labels \(3,\)"):
        metric("mae").check(np.ones((3, 2)), np.ones(3))
    with pytest.raises(BadData, match=r"outputs have shape \(3, 2, 3\) and labels \(3, 3, 2\)"):
        metric("rmse").check(np.ones((3, 2, 3)), np.ones((3, 3, 2)))
