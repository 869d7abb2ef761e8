import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import BadData
from edgetool.metrics import metric, topk

seeds = st.integers(0, 2**32 - 1)


@settings(deadline=None, max_examples=60)
@given(seeds, st.integers(3, 9), st.integers(1, 60))
def test_accuracy_and_topk_agree_with_scikit_learn(seed, classes, n):
    from sklearn.metrics import accuracy_score, top_k_accuracy_score

    rng = np.random.default_rng(seed)
    outputs, labels = rng.random((n, classes)), rng.integers(0, classes, n)
    assert metric("accuracy").value(outputs, labels) == pytest.approx(accuracy_score(labels, outputs.argmax(1)))
    theirs = top_k_accuracy_score(labels, outputs, k=2, labels=np.arange(classes))
    assert topk(2).value(outputs, labels) == pytest.approx(theirs)


def test_one_sigmoid_output_is_class_1_above_a_half():
    outputs = np.array([[0.2], [0.5], [0.51], [0.9]], np.float32)
    assert metric("accuracy").scores(outputs, np.array([0, 0, 1, 0])).tolist() == [1, 1, 1, 0]
    assert metric("accuracy").value(outputs[:, 0], np.array([[0], [1], [1], [1]])) == 0.75


def test_ties_go_to_the_lower_class_as_in_argmax():
    outputs = np.array([[0.5, 0.5, 0.0]])
    assert metric("accuracy").value(outputs, np.array([0])) == topk(1).value(outputs, np.array([0])) == 1
    assert metric("accuracy").value(outputs, np.array([1])) == topk(1).value(outputs, np.array([1])) == 0


@pytest.mark.parametrize(
    ("outputs", "labels", "message"),
    [
        (np.ones((2, 3)), np.array([0, 3]), "label 3 is outside 0 … 2"),
        (np.ones((2, 3)), np.array([0, -1]), "label -1 is outside 0 … 2"),
        (np.ones((2, 3)), np.array([0, 0.5]), "labels must be whole numbers, one is 0.5"),
        (np.ones((2, 3)), np.eye(3)[:2], r"labels have shape \(2, 3\)"),
        (np.ones((2, 4, 3)), np.array([0, 1]), r"outputs have shape \(2, 4, 3\)"),
        (np.array([[-3.0], [4.0]]), np.array([0, 1]), "must be a probability, it runs from -3 to 4"),
        (np.array([["a"], ["b"]]), np.array([0, 1]), "outputs have dtype <U1"),
    ],
)
def test_what_does_not_fit_is_named(outputs, labels, message):
    with pytest.raises(BadData, match=message):
        metric("accuracy").check(outputs, labels)


def test_topk_of_too_few_classes_is_refused():
    with pytest.raises(BadData, match="top5 needs more than 5 classes"):
        metric("top5").check(np.ones((2, 5)), np.array([0, 1]))
