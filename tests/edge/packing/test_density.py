import numpy as np
import pytest

from edge.packing.density import bit_tables, classes_of, gaps_of, places_of
from edge.packing.rans import TOTAL


@pytest.mark.parametrize("density", [0.0, 0.0005, 0.01, 0.3, 1.0])
def test_gaps_lead_back_to_their_places(density):
    kept = np.random.default_rng(0).random(20_000) < density
    np.testing.assert_array_equal(places_of(gaps_of(kept), len(kept)), np.flatnonzero(kept))


def test_gaps_beyond_the_end_are_refused():
    for gaps, n in (([3, 3], 7), ([255], 300)):
        with pytest.raises(ValueError, match="beyond"):
            places_of(np.array(gaps, np.uint8), n)


def test_bit_tables_cover_every_probability():
    tables = bit_tables()
    assert (tables.sum(axis=1, dtype=np.int64) == TOTAL).all()
    ones = tables[:, 1].astype(float) / TOTAL
    assert ones[0] == 0
    assert ones[-1] == 1
    p = np.linspace(0.002, 0.998, 997)
    ideal = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    best = np.min(-(p[:, None] * np.log2(ones[1:-1]) + (1 - p[:, None]) * np.log2(1 - ones[1:-1])), axis=1)
    assert np.max(best / ideal) < 1.005


def test_classes_say_where_elements_are_impossible():
    kept = np.zeros((40, 60), np.bool_)
    kept[5:, 10:] = np.random.default_rng(0).random((35, 50)) < 0.2
    classes, bits = classes_of(kept)
    ones = bit_tables()[classes.contexts(), 1].reshape(kept.shape)
    assert not ones[:, :10].any()
    assert (ones[kept] > 0).all()
    p = kept.mean()
    assert bits < kept.size * -(p * np.log2(p) + (1 - p) * np.log2(1 - p))


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1)])
def test_narrow_masks(shape):
    for kept in (
        np.zeros(shape, np.bool_),
        np.ones(shape, np.bool_),
        np.arange(np.prod(shape)).reshape(shape) % 3 == 0,
    ):
        classes, bits = classes_of(kept)
        assert classes.contexts().shape == (kept.size,)
        assert bits >= 0
