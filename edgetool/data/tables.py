"""Two real tables that scikit-learn ships: a binary classification and a regression.

breast_cancer: Street, Wolberg, Mangasarian, "Nuclear feature extraction for breast tumor diagnosis", 1993
(569 rows, 30 columns). diabetes: Efron et al., "Least Angle Regression", 2004 (442 rows, 10 columns).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from edge.errors import RuntimeMissing, UnknownName
from edgetool.data.split import stratified_split

LABELS: dict[str, tuple[str, ...]] = {"breast_cancer": ("malignant", "benign"), "diabetes": ()}
TEST_FRACTION = 0.3

Rows = npt.NDArray[np.float64]
Values = npt.NDArray[Any]


def load_arrays(name: str) -> tuple[Rows, Values, Rows, Values, tuple[str, ...]]:
    """(x [n, columns], y [n], x_test, y_test, column names), as measured: nothing is scaled.

    breast_cancer has int64 labels, diabetes float64 targets. 30 % are test, drawn with seed 0, by class
    where there are classes; the rows keep their order.

    Raises:
        UnknownName: no such table.
        RuntimeMissing: scikit-learn is not installed.

    """
    if name not in LABELS:
        raise UnknownName("table", name, LABELS)
    try:
        from sklearn import datasets
    except ImportError as error:
        raise RuntimeMissing(f"{name} needs scikit-learn", "pip install 'edgetool[host]'") from error
    table = datasets.load_breast_cancer() if name == "breast_cancer" else datasets.load_diabetes(scaled=False)
    x, columns = np.asarray(table.data, np.float64), tuple(str(column) for column in table.feature_names)
    y = np.asarray(table.target, np.int64 if LABELS[name] else np.float64)
    rest, test = stratified_split(y, TEST_FRACTION, seed=0)
    return x[rest], y[rest], x[test], y[test], columns
