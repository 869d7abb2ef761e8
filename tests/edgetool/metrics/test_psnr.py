import numpy as np
import pytest

from edge.errors import BadData
from edgetool.metrics import metric


def test_is_ten_log_ten_of_peak_over_error():
    labels = np.full((1, 2, 2, 3), 100, np.uint8)
    assert metric("psnr").value(labels + 5.0, labels) == pytest.approx(20 * np.log10(255 / 5))
    assert metric("psnr").value(labels / 255 + 0.1, labels / 255) == pytest.approx(20)


def test_an_exact_copy_counts_100_db():
    labels = np.random.default_rng(0).random((2, 4, 4))
    outputs = labels.copy()
    outputs[1] += 0.01
    np.testing.assert_allclose(metric("psnr").scores(outputs, labels), [100, 40])


def test_floats_over_one_are_refused():
    with pytest.raises(BadData, match="labels run from 0 to 200"):
        metric("psnr").check(np.zeros((1, 2)), np.array([[0.0, 200.0]]))
