"""The table, the shape of a Metric, and what every metric does alike."""

import pickle

import numpy as np
import pytest

from edge.errors import BadData, UnknownName
from edgetool.metrics import METRICS, metric, topk
from edgetool.metrics.metric import Means

RNG = np.random.default_rng(3)


def _example(name):
    """Outputs and labels that fit the metric, 60 examples."""
    n = 60
    classes = RNG.integers(0, 7, n)
    if name in ("accuracy", "top5", "precision", "recall", "f1", "auc"):
        outputs = RNG.random((n, 7))
        outputs[np.arange(n), classes] += 0.4
        return outputs, classes
    if name == "eer":
        return RNG.standard_normal(n) + (classes > 3), (classes > 3).astype(int)
    if name == "wer":
        rows = RNG.integers(0, 4, (n, 6))
        lengths = RNG.integers(1, 6, n)
        rows[np.arange(6) >= lengths[:, None]] = -1
        return np.roll(rows, 1, axis=0), rows
    if name == "perplexity":
        logits = RNG.standard_normal((n, 4, 7))
        return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), RNG.integers(-1, 7, (n, 4))
    if name == "psnr":
        pictures = RNG.integers(0, 256, (n, 4, 4, 3)).astype(np.uint8)
        return pictures + 3 * RNG.standard_normal(pictures.shape), pictures
    target = RNG.standard_normal((n, 2))
    return target + 0.1 * RNG.standard_normal((n, 2)), target


def test_table_is_keyed_by_name_and_holds_every_metric_of_the_design():
    assert {m.name for m in METRICS.values()} == set(METRICS)
    assert set(METRICS) == {
        *("accuracy", "top5", "precision", "recall", "f1", "auc", "eer"),
        *("mae", "rmse", "wer", "perplexity", "psnr", "cosine"),
    }


def test_an_unknown_name_lists_the_nearest():
    with pytest.raises(UnknownName, match="unknown metric: 'acuracy'") as caught:
        metric("acuracy")
    assert "accuracy" in str(caught.value.hint)


@pytest.mark.parametrize("name", METRICS)
def test_weights_are_repetitions_and_influences_are_derivatives(name):
    """Integer weights give the value of the repeated data, and the influence the slope along each weight."""
    outputs, labels = _example(name)
    n = len(labels)
    statistic = metric(name).statistic(outputs, labels)
    weights = RNG.integers(1, 4, (1, n)).astype(np.float64)
    repeated = np.repeat(np.arange(n), weights[0].astype(int))
    value, influence = statistic(weights)
    assert value[0] == pytest.approx(metric(name).value(outputs[repeated], labels[repeated]), rel=1e-9)
    assert (weights @ influence.T)[0, 0] == pytest.approx(0, abs=1e-6)
    if name == "eer":
        return  # its slope is measured over a window: test_eer.py holds it against simulated spread
    step, total = 1e-5, weights.sum()
    for i in range(0, n, 7):
        more = weights.copy()
        more[0, i] += step
        slope = (statistic(more)[0][0] - value[0]) * (total + step) / step
        assert slope == pytest.approx(influence[0, i], rel=1e-3, abs=1e-4 * np.abs(influence).max())


@pytest.mark.parametrize("name", METRICS)
def test_float32_weights_in_rows_agree_with_float64(name):
    statistic = metric(name).statistic(*_example(name))
    weights = RNG.poisson(1, (5, 60)) + 0.0
    values, influence = statistic(weights)
    narrow_values, narrow_influence = statistic(weights.astype(np.float32))
    np.testing.assert_allclose(narrow_values, values, rtol=1e-5)
    np.testing.assert_allclose(narrow_influence, influence, rtol=1e-3, atol=1e-4 * np.abs(influence).max())


@pytest.mark.parametrize("name", METRICS)
def test_scores_average_to_the_value_where_there_are_any(name):
    outputs, labels = _example(name)
    scores = metric(name).scores(outputs, labels)
    assert (scores is None) == (metric(name).kind == "set")
    if scores is not None:
        assert scores.shape == (60,)
        assert scores.mean() == pytest.approx(metric(name).value(outputs, labels))
    if metric(name).kind == "binary":
        assert set(np.unique(scores)) <= {0.0, 1.0}


@pytest.mark.parametrize("name", METRICS)
def test_nan_empty_and_unequal_lengths_are_refused(name):
    outputs, labels = _example(name)
    broken = outputs.astype(np.float64)
    broken.flat[5] = np.nan
    with pytest.raises(BadData, match=rf"{name}: 1 of the outputs are NaN or infinite"):
        metric(name).check(broken, labels)
    with pytest.raises(BadData, match="not one label an output"):
        metric(name).check(outputs[:-1], labels)
    with pytest.raises(BadData, match="no examples"):
        metric(name).check(outputs[:0], labels[:0])


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_can_be_sent_to_a_worker_process(name):
    outputs, labels = _example(name)
    sent = pickle.loads(pickle.dumps(metric(name)))
    assert sent.value(outputs, labels) == metric(name).value(outputs, labels)


def test_drop_is_positive_where_the_candidate_is_worse():
    assert metric("accuracy").drop(0.9, 0.88) == pytest.approx(0.02)
    assert metric("eer").drop(0.01, 0.03) == pytest.approx(0.02)
    assert metric("mae").drop(2.0, 2.1) == pytest.approx(0.05)
    assert metric("mae").drop(2.0, 1.9) == pytest.approx(-0.05)
    assert metric("psnr").drop(30.0, 29.5) == pytest.approx(0.5)
    with pytest.raises(BadData, match="the baseline's rmse is 0"):
        metric("rmse").drop(0.0, 0.1)


def test_topk_names_itself_and_refuses_zero():
    assert topk(3).name == "top3"
    with pytest.raises(ValueError, match="at least 1"):
        topk(0)


def test_means_of_a_constant_have_no_influence():
    value, influence = Means(np.full((4, 1), 2.0), lambda means: means[..., 0] ** 2)(np.ones((1, 4)))
    assert value[0] == 4.0
    assert np.all(influence == 0)
