import numpy as np
import pytest

from edge.errors import BadData
from edgetool.metrics import metric
from edgetool.metrics.metric import mean_of
from edgetool.verify import bootstrap
from edgetool.verify.bootstrap import bounds


def test_mean_of_many_has_the_textbook_interval():
    scores = np.random.default_rng(1).standard_normal(4000)
    found = bounds(mean_of(scores), 4000)
    error = scores.std(ddof=1) / np.sqrt(4000)
    assert found.value == pytest.approx(scores.mean())
    # 1,999 resamples know these quantiles to about 4 %.
    assert found.upper95 - found.value == pytest.approx(1.645 * error, rel=0.08)
    assert found.value - found.ci95[0] == pytest.approx(1.96 * error, rel=0.08)
    assert found.ci95[1] - found.value == pytest.approx(1.96 * error, rel=0.08)


def test_a_long_tail_above_moves_the_bound_up_beyond_the_normal_one():
    scores = np.random.default_rng(2).exponential(size=80) ** 2
    found = bounds(mean_of(scores), 80)
    error = scores.std(ddof=1) / np.sqrt(80)
    assert found.upper95 > found.value + 2.0 * error
    assert found.ci95[1] - found.value > found.value - found.ci95[0]


def test_same_seed_same_bounds_and_another_seed_about_the_same():
    scores = np.random.default_rng(3).random(300)
    assert bounds(mean_of(scores), 300, seed=4) == bounds(mean_of(scores), 300, seed=4)
    one, other = bounds(mean_of(scores), 300, seed=4), bounds(mean_of(scores), 300, seed=5)
    assert one.ci95 != other.ci95
    assert one.upper95 == pytest.approx(other.upper95, rel=0.01)


def test_groups_of_equal_examples_count_as_one_each():
    scores = np.random.default_rng(6).random(60)
    repeated, groups = np.repeat(scores, 10), np.repeat(np.arange(60), 10)
    shuffled = np.random.default_rng(7).permutation(600)
    alone = bounds(mean_of(scores), 60)
    grouped = bounds(mean_of(repeated[shuffled]), 600, groups[shuffled])
    assert grouped.value == pytest.approx(alone.value)
    assert grouped.upper95 == pytest.approx(alone.upper95)
    assert grouped.ci95 == pytest.approx(alone.ci95)
    assert bounds(mean_of(repeated), 600).upper95 < alone.upper95 - 0.02


def test_no_difference_seen_is_bounded_by_the_rule_of_three():
    found = bounds(mean_of(np.zeros(300)), 300)
    assert found.value == 0
    assert found.upper95 == pytest.approx(3 / 300, rel=0.01)
    assert found.ci95 == pytest.approx((-3.69 / 300, 3.69 / 300), rel=0.01)
    assert bounds(mean_of(np.zeros(300)), 300, largest=5.0).upper95 == pytest.approx(15 / 300, rel=0.01)


def test_few_differences_bound_the_share_that_differs():
    """4 of 1,000 seen: Clopper and Pearson's upper bound is 9.13 in 1,000."""
    scores = np.zeros(1000)
    scores[:4] = 1
    assert bounds(mean_of(scores), 1000).upper95 == pytest.approx(0.00913, abs=2e-5)


@pytest.mark.parametrize("differing", [19, 20])
def test_where_the_two_rules_meet_the_bound_hardly_jumps(differing):
    scores = np.zeros(400)
    scores[:differing] = 1
    above = bounds(mean_of(scores), 400).upper95 * 400 - differing
    assert 1.645 * np.sqrt(differing) * 0.97 < above < 2.2 * np.sqrt(differing)


def test_many_examples_are_cut_in_chunks_that_change_nothing(monkeypatch):
    counts = np.concatenate(list(bootstrap._resamples(50, 30, 9)))
    assert counts.shape == (30, 50)
    assert (counts.sum(axis=1) == 50).all()
    assert counts.var() == pytest.approx(1, abs=0.15)


def test_what_cannot_be_resampled_is_refused():
    with pytest.raises(BadData, match="1 example says nothing"):
        bounds(mean_of(np.ones(1)), 1)
    with pytest.raises(BadData, match="all 5 examples are of one group"):
        bounds(mean_of(np.arange(5.0)), 5, np.zeros(5, np.int64))
    with pytest.raises(BadData, match=r"groups have shape \(4,\)"):
        bounds(mean_of(np.arange(5.0)), 5, np.zeros(4, np.int64))


def test_area_with_one_positive_is_no_interval():
    rng = np.random.default_rng(8)
    scores, labels = rng.random(400), np.zeros(400, np.int64)
    labels[0] = 1
    found = bounds(metric("auc").statistic(scores, labels), 400)
    # Two thirds of the resamples hold the one positive: its own spread stays unseen, the bound is only of the others.
    assert np.isfinite(found.upper95)
