"""Train the two small MLPs that keep the tool honest about more than pictures: a regression and a binary table.

    python recipes/train_tables.py [--out FOLDER]

diabetes: [N, 10] standardised columns -> "progression" [N, 1], in the units of the table.
breast_cancer: [N, 30] standardised columns -> "benign" [N, 1], the probability of class 1.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

REPOSITORY = Path(__file__).resolve().parent.parent
OUT = REPOSITORY / "recipes" / "models"
SEED = 0
BATCH_SIZE = 32
HIDDEN = (32, 16)
# L2 penalty on the weights: the tables have only 278 and 358 training rows. Not tuned.
PENALTY = {"diabetes": 0.01, "breast_cancer": 0.003}
EPOCHS = 60

Rows = npt.NDArray[np.float32]


def build(columns: int, output: str, activation: str, penalty: float) -> Any:
    """The MLP [N, columns] -> [N, 1], its weights drawn with `SEED`."""
    import keras

    keras.utils.set_random_seed(SEED)
    features = keras.Input((columns,), name="features")
    x = features
    for i, units in enumerate(HIDDEN, start=1):
        decay = keras.regularizers.L2(penalty)
        x = keras.layers.Dense(units, activation="relu", kernel_regularizer=decay, name=f"hidden{i}")(x)
    decay = keras.regularizers.L2(penalty)
    x = keras.layers.Dense(1, activation=activation, kernel_regularizer=decay, name=output)(x)
    return keras.Model(features, x)


def train(name: str) -> tuple[Any, dict[str, float]]:
    """A trained model of one table, and its figures on val and test."""
    from compress.training import FineTune, Loss, fine_tune
    from edge.table import TableInput
    from edgetool.data.split import stratified_split
    from edgetool.data.tables import load_arrays

    x, y, x_test, y_test, columns = load_arrays(name)
    rest, drawn = stratified_split(y, 0.1, SEED)
    scale = TableInput.fit(columns, x[rest])
    train_x, val_x, test_x = (np.stack([scale(row) for row in rows]) for rows in (x[rest], x[drawn], x_test))
    regression = name == "diabetes"
    mean, deviation = (float(y[rest].mean()), float(y[rest].std())) if regression else (0.0, 1.0)
    targets = ((y[rest] - mean) / deviation).astype(np.float32)

    def batches(epoch: int) -> Iterator[tuple[dict[str, Rows], Rows]]:
        order = np.random.default_rng((SEED, epoch)).permutation(len(rest))
        for start in range(0, len(order) - BATCH_SIZE + 1, BATCH_SIZE):
            chosen = order[start : start + BATCH_SIZE]
            yield {"features": train_x[chosen]}, targets[chosen]

    output, activation = ("progression", "linear") if regression else ("benign", "sigmoid")
    model = build(len(columns), output, activation, PENALTY[name])
    settings = FineTune(epochs=EPOCHS, learning_rate=3e-3, batch_size=BATCH_SIZE, seed=SEED)
    loss: Loss = "mse" if regression else "crossentropy"
    fine_tune(model, batches, len(rest) // BATCH_SIZE, loss, [], settings, lambda *_: None)
    kernel, bias = model.get_layer(output).get_weights()
    model.get_layer(output).set_weights([kernel * deviation, bias * deviation + mean])

    figures = {}
    for split, rows, truth in (("val", val_x, y[drawn]), ("test", test_x, y_test)):
        predicted = model.predict(rows, verbose=0)[:, 0]
        if regression:
            figures[f"{split} MAE"] = float(np.mean(np.abs(predicted - truth)))
            figures[f"{split} RMSE"] = float(np.sqrt(np.mean((predicted - truth) ** 2)))
        else:
            figures[f"{split} accuracy"] = float(np.mean((predicted > 0.5) == truth))
    return model, figures


def main() -> None:
    """Train both, save them, and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY))
    options.out.mkdir(parents=True, exist_ok=True)
    for name in PENALTY:
        model, figures = train(name)
        file = options.out / f"{name}.keras"
        model.save(file)
        shown = ", ".join(f"{figure} {value:.3f}" for figure, value in figures.items())
        print(f"{name}: {model.count_params()} parameters, {file.stat().st_size} bytes, {shown}")


if __name__ == "__main__":
    main()
