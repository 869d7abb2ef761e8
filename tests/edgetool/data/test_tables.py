import numpy as np
import pytest

from edge.errors import UnknownName
from edgetool.data.split import stratified_split
from edgetool.data.tables import LABELS, load_arrays


@pytest.mark.parametrize(
    ("name", "n", "columns", "dtype"), [("breast_cancer", 569, 30, np.int64), ("diabetes", 442, 10, np.float64)]
)
def test_tables(name, n, columns, dtype):
    x, y, x_test, y_test, names = load_arrays(name)
    assert x.shape[1] == x_test.shape[1] == len(names) == columns
    assert len(x) + len(x_test) == len(y) + len(y_test) == n
    assert len(x_test) / n == pytest.approx(0.3, abs=0.002)
    assert y.dtype == y_test.dtype == dtype
    assert bool(LABELS[name]) == (dtype == np.int64)


def test_the_test_rows_are_those_that_models_have_not_seen():
    from sklearn.datasets import load_breast_cancer, load_diabetes

    cancer, diabetes = load_breast_cancer(), load_diabetes(scaled=False)
    np.testing.assert_array_equal(
        load_arrays("breast_cancer")[2], cancer.data[stratified_split(cancer.target, 0.3, 0)[1]]
    )
    drawn = np.sort(np.random.default_rng(0).permutation(442)[:133])
    np.testing.assert_array_equal(load_arrays("diabetes")[3], diabetes.target[drawn])


def test_unknown_tables_are_refused():
    with pytest.raises(UnknownName, match="brest_cancer") as caught:
        load_arrays("brest_cancer")
    assert "breast_cancer" in caught.value.hint
