import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import BadData
from edgetool.metrics import metric
from edgetool.metrics.wer import edit_distances

sentences = st.lists(st.integers(0, 3), max_size=7)


def _padded(rows):
    width = max(1, *(len(row) for row in rows))
    return np.array([row + [-1] * (width - len(row)) for row in rows])


def _distance(a, b):
    """The definition, by recursion over the first token."""
    if not a or not b:
        return len(a) + len(b)
    swapped = _distance(a[1:], b[1:]) + (a[0] != b[0])
    return swapped if a[0] == b[0] else min(swapped, 1 + _distance(a[1:], b), 1 + _distance(a, b[1:]))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(sentences, sentences), min_size=1, max_size=5))
def test_distances_are_those_of_the_definition(pairs):
    found = edit_distances(_padded([a for a, _ in pairs]), _padded([b for _, b in pairs]))
    assert found.tolist() == [_distance(a, b) for a, b in pairs]


def test_rate_is_all_edits_over_all_words():
    hypotheses, references = [[1, 2, 3], [], [5, 5]], [[1, 3], [4], [5]]
    assert metric("wer").value(_padded(hypotheses), _padded(references)) == pytest.approx(3 / 4)


@pytest.mark.parametrize(
    ("outputs", "labels", "message"),
    [
        (np.array([[1]]), np.array([[-1]]), "no word at all"),
        (np.array([[-1, 1]]), np.array([[1]]), "token after its padding"),
        (np.array([[-2]]), np.array([[1]]), "a token of the outputs is -2"),
        (np.array([[0.5]]), np.array([[1]]), "whole numbers"),
        (np.array([1]), np.array([[1]]), r"outputs have shape \(1,\)"),
    ],
)
def test_what_does_not_fit_is_named(outputs, labels, message):
    with pytest.raises(BadData, match=message):
        metric("wer").check(outputs, labels)
