import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from compress.prune.channels.ranking import blocks, choose, normalised
from compress.prune.channels.structure import Group
from edge.errors import CheckFailed

scores = npst.arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 10))


@given(scores, st.integers(1, 9), st.integers(0, 40))
def test_blocks_leave_multiples_and_take_the_least(values, multiple, keep):
    classes = np.arange(100, 100 + len(values))
    left = len(values)
    gone = []
    for block in blocks(classes, values, multiple, keep):
        left -= len(block.classes)
        gone += (block.classes - 100).tolist()
        assert left % multiple == 0
        assert left >= max(keep, 1)
    assert len(set(gone)) == len(gone)
    stays = sorted(set(range(len(values))) - set(gone))
    assert left == len(stays)
    if gone:
        assert values[gone].max() <= values[stays].min()


@given(scores)
def test_normalised_scores_have_a_mean_of_one(values):
    if values.mean() > 1e-300:
        assert normalised(values).mean() == pytest.approx(1)
    else:
        assert not normalised(values).any() or values.any()


@given(st.lists(scores, min_size=1, max_size=4), st.floats(0.05, 1), st.integers(1, 4))
def test_the_budget_is_met_with_as_few_blocks_as_do(values, share, multiple):
    sizes = [len(entry) for entry in values]
    starts = np.cumsum([0, *sizes])
    groups = [
        Group(f"layer{i}", np.arange(start, start + size), single=False)
        for i, (start, size) in enumerate(zip(starts[:-1].tolist(), sizes, strict=True))
    ]
    everything = np.ones(starts[-1], np.bool_)

    def cost(alive):
        return float(alive.sum())

    budget = share * cost(everything)
    most = [blocks(group.classes, entry, multiple, 0) for group, entry in zip(groups, values, strict=True)]
    if cost(everything) - sum(len(block.classes) for group in most for block in group) > budget:
        with pytest.raises(CheckFailed, match="cannot reach the budget"):
            choose(groups, values, everything, cost, budget, multiple=multiple, keep=0.0)
        return
    alive, small = choose(groups, values, everything, cost, budget, multiple=multiple, keep=0.0)
    assert cost(alive) <= budget
    assert all(alive[group.classes].any() for group in groups)
    assert [entry.what for entry in small] == [
        group.name for group, found in zip(groups, most, strict=True) if not found
    ]
    # one block more would be too many: the largest block is `multiple` channels
    assert alive.all() or cost(alive) + multiple > budget


def test_a_score_that_is_not_a_number_is_refused():
    group = Group("conv", np.arange(3), single=False)
    with pytest.raises(CheckFailed, match="importance of conv is not a number"):
        choose(
            [group],
            [np.array([1, np.nan, 2])],
            np.ones(3, np.bool_),
            lambda alive: float(alive.sum()),
            1.0,
            multiple=1,
            keep=0,
        )
