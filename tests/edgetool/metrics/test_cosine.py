import numpy as np
import pytest

from edge.errors import BadData
from edgetool.metrics import metric


def test_only_the_direction_counts():
    labels = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0]])
    outputs = np.array([[6.0, 8.0], [0.0, 5.0], [0.0, -1.0]])
    assert metric("cosine").scores(outputs, labels) == pytest.approx([1, 0, -1])
    assert metric("cosine").value(outputs, labels) == pytest.approx(0)
    assert metric("cosine").drop(0.8, 0.795) == pytest.approx(0.005)


def test_a_vector_in_no_direction_is_refused():
    with pytest.raises(BadData, match="1 of the outputs are zero"):
        metric("cosine").check(np.array([[0.0, 0.0], [1.0, 0.0]]), np.ones((2, 2)))
    with pytest.raises(BadData, match=r"labels \(2, 2\)"):
        metric("cosine").check(np.ones((2, 3)), np.ones((2, 2)))
