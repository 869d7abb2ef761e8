import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgetool.search.front import hypervolume, knee, nondominated

sets = npst.arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 3)), elements=st.integers(0, 6))


@given(sets)
def test_a_front_beats_every_other_point(points):
    front = nondominated(points)
    assert front.any()
    for one in points[~front]:
        assert any((other <= one).all() and (other < one).any() for other in points[front])
    for one, other in itertools.permutations(points[front], 2):
        assert not ((one <= other).all() and (one < other).any())


@given(sets)
def test_the_volume_is_that_of_the_unit_cells_below(points):
    m = points.shape[1]
    cells = np.array(list(itertools.product(range(7), repeat=m)), float)
    dominated = sum(bool((points <= cell).all(axis=1).any()) for cell in cells)
    assert hypervolume(points, np.full(m, 7.0)) == pytest.approx(dominated)


@given(sets)
def test_only_the_front_counts(points):
    reference = np.full(points.shape[1], 7.0)
    assert hypervolume(points[nondominated(points)], reference) == pytest.approx(hypervolume(points, reference))


def test_points_beyond_the_reference_count_for_nothing():
    assert hypervolume(np.array([[2.0, 0.5]]), np.array([1.0, 1.0])) == 0


def test_the_knee_is_where_the_front_bends():
    bent = np.array([[0.0, 10.0], [0.2, 2.0], [1.0, 1.9], [5.0, 1.5]])
    assert knee(bent) == 1
    assert knee(np.array([[3.0, 4.0]])) == 0
