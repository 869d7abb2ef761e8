import numpy as np
import pytest

from edge.errors import BadData
from edgetool.metrics import METRICS, metric
from edgetool.verify import score_interval
from edgetool.verify.accuracy_gate import drop, interval

ACCURACY = metric("accuracy")


def _outcomes(both, only_baseline, only_candidate, neither):
    """Outputs of a baseline and a candidate whose 0/1 outcomes make this 2 x 2 table; labels 1."""
    cells = (both, only_baseline, only_candidate, neither)
    baseline, candidate = np.repeat([1.0, 1.0, 0.0, 0.0], cells), np.repeat([1.0, 0.0, 1.0, 0.0], cells)
    return baseline, candidate, np.ones(sum(cells), np.int64)


def test_outcomes_go_through_the_score_interval():
    found = drop(ACCURACY, *_outcomes(800, 12, 8, 180), max_drop=0.02)
    assert found.value == pytest.approx(0.004)
    assert found.upper95 == pytest.approx(float(score_interval.upper_bound(12, 8, 1000)))
    assert found.ci95 == pytest.approx(score_interval.interval(12, 8, 1000))
    assert (found.method, found.unit, found.n) == ("paired score interval (Tango 1998)", "points", 1000)
    assert (found.verdict, found.n_needed) == ("pass", None)


def test_verdicts_and_the_n_that_would_pass():
    small = drop(ACCURACY, *_outcomes(80, 2, 2, 16), max_drop=0.01)
    assert small.verdict == "unresolved"
    enough = -(-small.n_needed // 100)
    again = drop(ACCURACY, *_outcomes(*(cell * enough for cell in (80, 2, 2, 16))), max_drop=0.01)
    assert again.verdict == "pass"
    fewer = drop(ACCURACY, *_outcomes(*(cell * (enough - 2) for cell in (80, 2, 2, 16))), max_drop=0.01)
    assert fewer.verdict == "unresolved"
    assert drop(ACCURACY, *_outcomes(80, 5, 2, 13), max_drop=0.01).verdict == "fail"


def test_a_drop_at_the_limit_is_decided_by_no_number():
    found = drop(ACCURACY, *_outcomes(80, 3, 2, 15), max_drop=0.01)
    assert (found.verdict, found.n_needed) == ("unresolved", None)
    found = drop(ACCURACY, *_outcomes(80, 0, 0, 20), max_drop=0.0)
    assert (found.verdict, found.n_needed) == ("unresolved", None)


@pytest.mark.parametrize("name", ["accuracy", "f1", "auc", "precision"])
def test_identical_outputs_never_pass_by_default(name):
    """Also where both are perfect, and every influence is 0."""
    labels = np.arange(100) % 2
    for outputs in (labels * 0.98 + 0.01, np.where(np.arange(100) < 4, 0.5, labels * 0.98 + 0.01)):
        found = drop(metric(name), outputs, outputs, labels, max_drop=0.01)
        assert (found.value, found.verdict) == (0, "unresolved")
        assert 100 < found.n_needed < 3000
    many = np.arange(1000) % 2
    assert drop(metric(name), many * 0.98, many * 0.98, many, max_drop=0.01).verdict == "pass"


@pytest.mark.parametrize("name", ["mae", "rmse"])
def test_relative_drops_have_the_interval_of_their_ratio(name):
    """Against the delta method on the logarithm of the ratio, which is worked out here anew."""
    rng = np.random.default_rng(1)
    target, noise = rng.standard_normal(3000), rng.standard_normal((2, 3000))
    baseline, candidate = target + noise[0], target + noise[0] + 0.3 * noise[1]
    found = drop(metric(name), baseline, candidate, target, max_drop=0.2)
    power = 1 if name == "mae" else 2
    before, after = (np.abs(outputs - target) ** power for outputs in (baseline, candidate))
    ratio = (after.mean() / before.mean()) ** (1 / power)
    error = ratio / power * np.std(after / after.mean() - before / before.mean()) / np.sqrt(3000)
    assert found.value == pytest.approx(ratio - 1)
    assert found.upper95 == pytest.approx(ratio - 1 + 1.645 * error, abs=0.15 * error)
    assert (found.unit, found.method, found.verdict) == ("relative", "paired bootstrap-t", "pass")
    assert drop(metric(name), candidate, baseline, target, max_drop=0.0).verdict == "pass"
    assert drop(metric(name), baseline, candidate, target, max_drop=0.01).verdict == "fail"


def test_groups_are_resampled_whole_also_for_outcomes():
    """Ten examples a person that all fail together: the bound must be as wide as for 100 examples, not 1,000."""
    baseline, candidate, labels = _outcomes(55, 25, 20, 0)
    groups = np.repeat(np.arange(100), 10)
    repeated = (np.repeat(baseline, 10), np.repeat(candidate, 10), np.repeat(labels, 10))
    found = drop(ACCURACY, *repeated, max_drop=0.2, groups=groups)
    assert found.method == "paired bootstrap-t over groups"
    assert found.value == pytest.approx(0.05)
    assert found.upper95 == pytest.approx(float(score_interval.upper_bound(25, 20, 100)), abs=0.01)
    assert found.upper95 > drop(ACCURACY, *repeated, max_drop=0.2).upper95 + 0.05
    low, high = interval(ACCURACY, repeated[1], repeated[2], groups)[1]
    assert (low, high) == pytest.approx(score_interval.wilson(75, 100), abs=0.015)


def test_interval_of_outcomes_is_wilsons():
    baseline, _, labels = _outcomes(80, 5, 0, 15)
    assert interval(ACCURACY, baseline, labels) == (pytest.approx(0.85), pytest.approx(score_interval.wilson(85, 100)))


def test_intervals_stay_within_what_the_metric_can_be():
    labels = np.arange(40) % 2
    value, (low, high) = interval(metric("auc"), labels + 0.0, labels)
    assert value == high == 1.0
    assert 0.8 < low < 0.95
    value, (low, high) = interval(metric("mae"), np.append(np.zeros(39), 5.0), np.zeros(40))
    assert low == 0.0
    assert high > value


def test_three_sigma_of_new_test_sets_stay_within_the_interval():
    """F1 of the same detector on 200 new test sets: about 95 % of the intervals hold the true value."""
    rng = np.random.default_rng(11)
    truth, held = 2 * 0.3 * 0.8 / (0.3 * 0.8 + 0.7 * 0.1 + 0.3), 0
    for _ in range(200):
        labels = (rng.random(300) < 0.3).astype(int)
        outputs = (rng.random(300) < np.where(labels, 0.8, 0.1)) + 0.0
        low, high = interval(metric("f1"), outputs, labels)[1]
        held += low <= truth <= high
    assert 180 <= held <= 199


@pytest.mark.parametrize("name", sorted(METRICS))
def test_every_metric_has_both_answers_and_they_are_finite(name):
    from tests.edgetool.metrics.test_metrics import _example

    outputs, labels = _example(name)
    value, (low, high) = interval(metric(name), outputs, labels)
    assert low <= value <= high
    assert np.isfinite([low, high]).all()
    found = drop(metric(name), outputs, outputs, labels, max_drop=0.5)
    assert found.value == 0
    assert 0 < found.upper95 < np.inf


def test_what_does_not_fit_is_named():
    baseline, candidate, labels = _outcomes(5, 1, 1, 3)
    with pytest.raises(BadData, match="the limit of the drop is nan"):
        drop(ACCURACY, baseline, candidate, labels, float("nan"))
    with pytest.raises(BadData, match="not one label an output"):
        drop(ACCURACY, baseline, candidate[:-1], labels, 0.01)
    with pytest.raises(BadData, match="one group"):
        drop(ACCURACY, baseline, candidate, labels, 0.01, groups=np.zeros(10, np.int64))


def test_confirming_several_asks_more_of_each():
    table = _outcomes(900, 20, 12, 68)
    alone, one_of_three = drop(ACCURACY, *table, max_drop=0.0185), drop(ACCURACY, *table, max_drop=0.0185, confirmed=3)
    assert (alone.verdict, alone.upper_of_all) == ("pass", None)
    assert one_of_three.verdict == "unresolved"
    assert one_of_three.n_needed > 1000
    assert one_of_three.upper95 == alone.upper95 < 0.0185 < one_of_three.upper_of_all
    assert one_of_three.upper_of_all == pytest.approx(float(score_interval.upper_bound(20, 12, 1000, 1 - 0.05 / 3)))
    labels = np.arange(400, dtype=float) + 50
    noise = np.random.default_rng(2).normal(0, 3, (2, 400))
    found = [drop(metric("mae"), labels + noise[0], labels + noise[1], labels, 0.01, confirmed=k) for k in (1, 2, 4)]
    assert found[0].upper95 < found[1].upper_of_all < found[2].upper_of_all


def test_of_several_at_the_limit_any_passes_one_time_in_twenty_at_most():
    """1,000 studies of 4 candidates whose true drop is the limit: uncorrected, any passes far more often."""
    rng = np.random.default_rng(7)
    n, better, limit, of = 2000, 0.02, 0.01, 4
    tables = rng.multinomial(n, [better + limit, better, 1 - 2 * better - limit], size=(1000, of))
    uppers = {
        level: score_interval.upper_bound(tables[..., 0], tables[..., 1], n, level) for level in (0.95, 1 - 0.05 / of)
    }
    any_passes = {level: float((upper <= limit).any(axis=1).mean()) for level, upper in uppers.items()}
    assert any_passes[1 - 0.05 / of] < 0.05 + 3 * (0.05 * 0.95 / 1000) ** 0.5
    assert any_passes[0.95] > 0.12
