import numpy as np
import pytest

from edgetool.data.split import stratified_split
from edgetool.data.tables import load_arrays
from recipes.train_tables import OUT

OUTPUTS = {"diabetes": "progression", "breast_cancer": "benign"}


def scaled(name):
    """(standardised test rows as the built-in task makes them, their targets, the training targets)."""
    x, y, x_test, y_test, _ = load_arrays(name)
    rest, _ = stratified_split(y, 0.1, 0)
    return ((x_test - x[rest].mean(axis=0)) / x[rest].std(axis=0)).astype(np.float32), y_test, y[rest]


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_committed_models_have_the_promised_form(name):
    import keras

    file = OUT / f"{name}.keras"
    model = keras.models.load_model(file)
    assert file.stat().st_size < 100_000
    assert [tensor.name for tensor in model.inputs] == ["features"]
    assert model.output_names == [OUTPUTS[name]]
    assert model.output_shape == (None, 1)


def test_diabetes_predicts_in_the_units_of_the_table_and_beats_the_mean():
    import keras

    rows, truth, trained_on = scaled("diabetes")
    predicted = keras.models.load_model(OUT / "diabetes.keras").predict(rows, verbose=0)[:, 0]
    error = np.abs(predicted - truth).mean()
    assert error < 0.75 * np.abs(trained_on.mean() - truth).mean()
    assert predicted.mean() == pytest.approx(truth.mean(), rel=0.1)


def test_breast_cancer_gives_the_probability_of_class_one_which_is_benign():
    import keras

    rows, truth, _ = scaled("breast_cancer")
    probability = keras.models.load_model(OUT / "breast_cancer.keras").predict(rows, verbose=0)[:, 0]
    assert np.all((probability >= 0) & (probability <= 1))
    assert np.mean((probability > 0.5) == truth) > 0.95
