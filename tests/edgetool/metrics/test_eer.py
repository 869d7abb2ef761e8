import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import BadData
from edgetool.metrics import metric


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([4, 10**6]))
def test_rate_is_where_the_roc_curve_crosses_the_diagonal(seed, levels):
    """Against scikit-learn's whole ROC curve, cut by bisection. Ties are one step of it."""
    from sklearn.metrics import roc_curve

    rng = np.random.default_rng(seed)
    labels = np.append([0, 1], rng.integers(0, 2, 40))
    scores = np.floor(levels * rng.random(42)) + levels * 0.3 * labels
    far, hits, _ = roc_curve(labels, scores, drop_intermediate=False)
    # Along the curve FAR - FRR only grows: interpolate its zero on both axes.
    crossing = int(np.argmax(far - (1 - hits) >= 0))
    gaps = [abs(far[i] - (1 - hits[i])) for i in (crossing - 1, crossing)]
    expected = far[crossing - 1] + (far[crossing] - far[crossing - 1]) * gaps[0] / sum(gaps)
    assert metric("eer").value(scores, labels) == pytest.approx(expected)


def test_perfect_and_useless_scores():
    labels = np.array([0, 0, 1, 1])
    assert metric("eer").value(np.array([0.1, 0.2, 0.8, 0.9]), labels) == 0
    assert metric("eer").value(np.full((4, 1), 0.5), labels) == pytest.approx(0.5)


def test_influence_gives_the_spread_that_new_data_show():
    rng = np.random.default_rng(5)
    values, errors = [], []
    for _ in range(300):
        labels = rng.random(600) < 0.3
        scores = rng.standard_normal(600) * np.where(labels, 1.5, 1.0) + 2 * labels
        value, influence = metric("eer").statistic(scores, labels)(np.ones((1, 600)))
        values.append(value[0])
        errors.append(np.sqrt((influence**2).sum()) / 600)
    # 300 repetitions know a standard deviation to about 4 %; the window of the slope adds as much.
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.12)


def test_one_class_only_and_many_columns_are_refused():
    with pytest.raises(BadData, match=r"label 1 \(genuine\)"):
        metric("eer").check(np.array([0.1, 0.2]), np.array([0, 0]))
    with pytest.raises(BadData, match="one score per example"):
        metric("eer").check(np.ones((2, 3)), np.array([0, 1]))
