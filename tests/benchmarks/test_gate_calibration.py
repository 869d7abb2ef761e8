"""The simulations have the true drop they claim; what they say of the gates is in benchmarks/results."""

import numpy as np
import pytest

from benchmarks.gate_calibration import SETTINGS, Figure, _grossly_wrong, passes
from edgetool.metrics import metric


@pytest.mark.parametrize("setting", [setting for setting, _ in SETTINGS], ids=lambda setting: setting.name)
@pytest.mark.parametrize("drop", [0.0, 0.02])
def test_true_drop_is_the_one_asked_for(setting, drop):
    judged = metric(setting.metric)
    baseline, candidate, labels = setting(np.random.default_rng(0), 400_000, drop)
    measured = judged.drop(judged.value(baseline, labels), judged.value(candidate, labels))
    # Three standard errors of these 400,000 examples.
    assert measured == pytest.approx(drop, abs=0.003)


def test_a_slice_lets_few_models_at_the_limit_pass_and_many_that_are_as_good():
    setting = SETTINGS[1][0]
    assert passes(setting, 1000, 0.02, 0.02, 100, seed=0) <= 15
    assert passes(setting, 1000, 0.0, 0.02, 20, seed=0) >= 15


def test_only_a_clear_miss_fails_a_slice():
    def figure(goal, ci95):
        return Figure("x", goal, sum(ci95) / 2, "", ci95, met=False)

    assert not _grossly_wrong(figure("<= 0.06", (0.04, 0.11)))
    assert _grossly_wrong(figure("<= 0.06", (0.07, 0.11)))
    assert _grossly_wrong(figure(">= 0.9", (0.1, 0.8)))
    assert not _grossly_wrong(figure("reported", (0.1, 0.8)))
