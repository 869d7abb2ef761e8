import numpy as np
import pytest

from compress.distill.hints import TARGET, HintObjective
from compress.training import FineTune, fine_tune
from edge.errors import CheckFailed, UnknownName
from tests.compress.test_training import blobs, dense


def test_a_layer_learns_features_that_a_regressor_turns_into_the_teachers():
    rows, labels = blobs()
    features = np.stack([rows[:, 0] * rows[:, 1], rows[:, 2] ** 2], axis=1)
    student = dense(3, "softmax", hidden="tanh")
    hidden = student.layers[1].name
    batches = lambda _: (({"rows": rows, TARGET: features}, labels) for _ in range(3))  # noqa: E731 - as short as it gets
    before = student.count_params()
    objective = HintObjective(hidden, (2,), weight=10.0)
    summary = fine_tune(
        student, batches, 3, "crossentropy", [], FineTune(30, 3e-2), lambda *_: None,
        objectives=[objective], label_weight=0.0,
    )  # fmt: skip
    # of the loss, 10 / 2 times the mean squared difference; 1 / 5 of what a regressor that says nothing has
    assert summary.epoch_losses[-1] < summary.epoch_losses[0] / 5
    assert student.count_params() == before


def test_layers_that_do_not_fit_or_are_not_there_are_named():
    rows, labels = blobs()
    student = dense(3, "softmax")
    batches = lambda _: iter([({"rows": rows, TARGET: np.zeros((96, 5, 2), np.float32)}, labels)])  # noqa: E731 - as short as it gets
    for layer, kind, reason in (("dens", UnknownName, "'dens'"), (student.layers[1].name, CheckFailed, r"\[5, 2\]")):
        with pytest.raises(kind, match=reason):
            fine_tune(
                student, batches, 1, "crossentropy", [], FineTune(1), lambda *_: None,
                objectives=[HintObjective(layer, (5, 2))],
            )  # fmt: skip
