import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import BadData
from edgetool.metrics import metric


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_is_exp_of_scikit_learns_log_loss_from_either_form(seed):
    from sklearn.metrics import log_loss

    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(6), 12)
    probabilities = np.maximum(probabilities, 1e-6) / np.maximum(probabilities, 1e-6).sum(1, keepdims=True)
    tokens = rng.integers(0, 6, 12)
    expected = np.exp(log_loss(tokens, probabilities, labels=np.arange(6)))
    of_rows = probabilities.reshape(3, 4, 6), tokens.reshape(3, 4)
    assert metric("perplexity").value(*of_rows) == pytest.approx(expected, rel=1e-6)
    assert metric("perplexity").value(np.log(of_rows[0]), of_rows[1]) == pytest.approx(expected, rel=1e-6)


def test_a_uniform_guess_costs_the_vocabulary_and_padding_nothing():
    outputs = np.full((2, 3, 8), 1 / 8)
    assert metric("perplexity").value(outputs, np.array([[1, 2, -1], [-1, -1, -1]])) == pytest.approx(8)


def test_zero_probability_is_clipped():
    assert metric("perplexity").value(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(1e7)


@pytest.mark.parametrize(
    ("outputs", "labels", "message"),
    [
        (np.array([[-3.0, 5.0]]), np.array([0]), "neither probabilities nor log-probabilities"),
        (np.array([[0.5, 5.0]]), np.array([0]), "neither probabilities nor log-probabilities"),
        (np.array([[0.5, 0.5]]), np.array([2]), "token 2 is outside -1 … 1"),
        (np.array([[0.5, 0.5]]), np.array([-1]), "no token at all"),
        (np.array([[0.5, 0.5]]), np.array([[1, 1]]), "outputs have shape"),
    ],
)
def test_what_does_not_fit_is_named(outputs, labels, message):
    with pytest.raises(BadData, match=message):
        metric("perplexity").check(outputs, labels)
