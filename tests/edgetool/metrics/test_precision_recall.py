import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetool.metrics import metric

NAMES = ("precision", "recall", "f1")


def _theirs(name):
    import sklearn.metrics

    return getattr(sklearn.metrics, f"{name}_score")


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.booleans())
def test_binary_agrees_with_scikit_learn(name, seed, n, softmax):
    rng = np.random.default_rng(seed)
    score, labels = rng.random(n), rng.integers(0, 2, n)
    outputs = np.stack([1 - score, score], axis=1) if softmax else score[:, None]
    expected = _theirs(name)(labels, score > 0.5, zero_division=0)
    assert metric(name).value(outputs, labels) == pytest.approx(expected)


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(3, 6))
def test_macro_average_agrees_with_scikit_learn(name, seed, n, classes):
    """Over the classes that occur in the labels, also where some occur in neither."""
    rng = np.random.default_rng(seed)
    outputs, labels = rng.random((n, classes)), rng.integers(0, classes, n)
    expected = _theirs(name)(labels, outputs.argmax(1), labels=np.unique(labels), average="macro", zero_division=0)
    assert metric(name).value(outputs, labels) == pytest.approx(expected)
