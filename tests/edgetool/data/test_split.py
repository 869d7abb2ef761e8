import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge.errors import BadData
from edgetool.data.split import stratified_split, three_splits, validation_split


@given(arrays(np.int64, st.integers(1, 200), elements=st.integers(0, 5)), st.floats(0, 1), st.integers(0, 5))
def test_every_example_is_in_one_part_and_every_class_has_its_share(labels, fraction, seed):
    rest, drawn = stratified_split(labels, fraction, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([rest, drawn])), np.arange(len(labels)))
    assert (np.diff(drawn) > 0).all()
    assert (np.diff(rest) > 0).all()
    for c in np.unique(labels):
        assert (labels[drawn] == c).sum() == round((labels == c).sum() * fraction)


def test_the_draw_is_the_one_that_models_were_trained_with():
    labels = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 0])
    rng = np.random.default_rng(7)
    zeros, ones = rng.permutation([0, 2, 4, 6, 8, 9])[:3], rng.permutation([1, 3, 5, 7])[:2]
    _, drawn = stratified_split(labels, 0.5, 7)
    np.testing.assert_array_equal(drawn, np.sort([*zeros, *ones]))


def test_values_are_drawn_from_one_permutation():
    _, drawn = stratified_split(np.linspace(0, 1, 10), 0.3, 3)
    np.testing.assert_array_equal(drawn, np.sort(np.random.default_rng(3).permutation(10)[:3]))


def test_seeds_differ_and_repeat():
    labels = np.arange(100) % 4
    first, second, other = (stratified_split(labels, 0.2, seed)[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_three_splits_are_70_10_20_percent():
    labels = np.repeat([0, 1], [100, 200])
    train, val, test = three_splits(labels, 0, where="here")
    assert [np.bincount(labels[part]).tolist() for part in (train, val, test)] == [[70, 140], [10, 20], [20, 40]]
    assert len(np.unique(np.concatenate([train, val, test]))) == 300


def test_a_class_that_is_too_small_is_named():
    labels = np.repeat([0, 1], [50, 3])
    with pytest.raises(BadData, match=r"pets: class 'dog' has 3 examples, too few"):
        three_splits(labels, 0, where="pets", names=("cat", "dog"))
    with pytest.raises(BadData, match="class 1 has 3 examples"):
        validation_split(labels, 0, where="pets")
    with pytest.raises(BadData, match="4 examples are too few"):
        validation_split(np.linspace(0, 1, 4), 0, where="prices")
