"""Zeros and shared values are found and kept."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compress.shared_values import Keeper, Structure, groups, project, structure, survived, values_of

FEW = hnp.arrays(np.float32, (6, 8), elements=st.sampled_from([0.0, -1.0, 0.5, 2.0, 3.0]))


@given(FEW, st.integers(0, 2**32 - 1))
def test_a_projection_keeps_zeros_and_shared_values(weights: Any, seed: int) -> None:
    moved = weights + np.random.default_rng(seed).normal(size=weights.shape).astype(np.float32)
    kept = project(moved, groups(weights))
    assert np.unique(kept).size <= np.unique(weights).size
    if structure(weights).sparsity:
        assert np.all(kept[weights == 0] == 0)
    np.testing.assert_allclose(project(kept, groups(weights)), kept, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(project(weights, groups(weights)), weights, atol=1e-6)


def test_a_group_moves_by_its_mean() -> None:
    weights = np.array([[1.0, 1, 2, 2], [0, 0, 1, 1]] * 2, np.float32)
    moved = weights.copy()
    moved[0, 0] += 8  # one of the eight weights that share the value 1
    kept = project(moved, groups(weights))
    assert np.all(kept[weights == 1] == pytest.approx(2))
    assert np.all(kept[weights == 2] == 2)
    assert np.all(kept[weights == 0] == 0)


def test_weights_without_structure_have_none() -> None:
    weights = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    assert structure(weights) == Structure(0.0, None)
    assert not structure(weights).any
    weights[:, :4] = 0
    assert structure(weights).sparsity == pytest.approx(4 / 7)
    assert structure(weights).values is None


def test_values_are_counted_by_channel() -> None:
    assert values_of(np.array([[1.0, 5.0], [1.0, 6.0], [1.0, 7.0]])) == 3


def test_what_a_file_lost_is_said() -> None:
    before = Structure(0.5, 2)
    assert survived(before, np.array([[0, 0], [3, 0]], np.int8)) is None
    assert "25.0% of its weights are 0" in (survived(before, np.array([[0, 1], [2, 2]], np.int8)) or "")
    assert "holds 3 values" in (survived(Structure(0.0, 2), np.array([[1], [2], [3]], np.int8)) or "")


def test_a_keeper_keeps_what_has_structure() -> None:
    import tensorflow as tf

    sparse, dense = tf.Variable(np.eye(4, dtype=np.float32)), tf.Variable(np.arange(9.0).reshape(3, 3) + 1)
    keeper = Keeper([sparse, dense])
    assert len(keeper) == 1
    sparse.assign_add(np.full((4, 4), 0.25, np.float32))
    keeper.keep()
    np.testing.assert_allclose(sparse.numpy(), 1.25 * np.eye(4))
