"""The sums behind the door lock's figures are right, and the mutations reach what they are meant for."""

import random

import numpy as np
import pytest

from benchmarks.door_lock_circle import difference, fitted, log_loss
from benchmarks.door_lock_fuzz import JSON, damaged
from benchmarks.door_lock_rig import median_interval
from benchmarks.door_lock_soak import slope
from benchmarks.mutate import mutated


def test_the_slope_of_memory_is_found_after_the_first_ten_minutes_alone() -> None:
    rng = np.random.default_rng(0)
    times = np.arange(0, 3600, 5.0)
    grown = np.where(times < 600, 50 + times, 150 + 2.0 * (times - 600) / 3600)
    memory = [(float(at), float(size)) for at, size in zip(times, grown + rng.normal(0, 0.1, len(times)), strict=True)]
    found, (low, high) = slope(memory)
    assert found == pytest.approx(2.0, abs=0.15)
    assert low < 2.0 < high
    assert high - low < 0.5


def test_the_medians_interval_covers_it_about_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        middle, (low, high) = median_interval(list(rng.normal(5, 1, 101)))
        assert low <= middle <= high
        covered += low <= 5 <= high
    assert 0.92 <= covered / 400 <= 0.98


def test_a_fit_with_much_ridge_stays_and_one_with_little_learns() -> None:
    rng = np.random.default_rng(2)
    is_spoof = (np.arange(300) % 2).astype(float)
    features = rng.normal(0, 1, (300, 5)) + is_spoof[:, None] * np.array([2.0, 0, 0, 0, 0])
    features[:, 1] = 1  # a constant stands for the bias
    start = np.array([0.0, 0.0, 1.0, 0.0, 0.0])
    stayed, learned = (fitted(features, is_spoof, start, ridge) for ridge in (1e6, 1e-3))
    np.testing.assert_allclose(stayed, start, atol=1e-3)
    assert log_loss(features, is_spoof, learned) < 0.6 * log_loss(features, is_spoof, start)
    assert learned[0] > 1


def test_a_difference_is_resampled_by_people() -> None:
    before, after = np.ones(40, bool), np.repeat([False, True], 20)
    owners = [number // 20 for number in range(40)]  # one person is helped every time, one never
    change, (low, high) = difference(before, after, owners)
    assert (change, low, high) == (-0.5, -1.0, 0.0)


def test_mutations_differ_repeat_by_seed_and_leave_no_command_whole() -> None:
    right = b'{"action": "unlock", "at": 1.0, "by": "hall", "nonce": "aa", "mac": "bb"}'
    one, other = ([mutated(random.Random(7), right, JSON) for _ in range(3)] for _ in range(2))
    assert one == other
    rng = random.Random(8)
    many = [mutated(rng, right, JSON) for _ in range(500)]
    assert len(set(many)) > 450
    assert any(len(each) < len(right) for each in many)
    assert any(len(each) > len(right) for each in many)
    assert right not in {damaged(rng, right) for _ in range(500)}
    assert mutated(random.Random(1), b"") is not None
