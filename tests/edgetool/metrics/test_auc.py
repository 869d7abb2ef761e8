import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import BadData
from edgetool.metrics import metric


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(2, 50), st.sampled_from([3, 1000]), st.sampled_from(["n", "n1", "n2"]))
def test_binary_with_ties_agrees_with_scikit_learn(seed, n, levels, form):
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(seed)
    labels = np.append([0, 1], rng.integers(0, 2, n))
    scores = rng.integers(0, levels, n + 2) / levels
    outputs = {"n": scores, "n1": scores[:, None], "n2": np.stack([1 - scores, scores], axis=1)}[form]
    assert metric("auc").value(outputs, labels) == pytest.approx(roc_auc_score(labels, scores))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(3, 5))
def test_macro_average_agrees_with_scikit_learn(seed, classes):
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(seed)
    labels = np.append(np.arange(classes), rng.integers(0, classes, 40))
    outputs = rng.random((len(labels), classes))
    outputs /= outputs.sum(axis=1, keepdims=True)
    expected = roc_auc_score(labels, outputs, multi_class="ovr", average="macro")
    assert metric("auc").value(outputs, labels) == pytest.approx(expected)


def test_a_resample_without_a_class_is_undefined():
    statistic = metric("auc").statistic(np.array([0.1, 0.9]), np.array([0, 1]))
    values, _ = statistic(np.array([[1.0, 1.0], [2.0, 0.0]]))
    assert values[0] == 1.0
    assert np.isnan(values[1])


def test_a_class_without_examples_is_refused():
    with pytest.raises(BadData, match="no example has label 0"):
        metric("auc").check(np.array([0.1, 0.9]), np.array([1, 1]))
