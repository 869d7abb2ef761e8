import numpy as np
import pytest

from edge.errors import BadRecipe
from edgetool.verify.speed_gate import p95_upper, percentile_upper, ratio

RNG = np.random.default_rng(0)


def _blocks(seconds, blocks=30, noise=0.01):
    """Blocks of 20 calls: a level of their own, and a long tail above."""
    levels = seconds * (1 + noise * RNG.standard_normal(blocks))
    return [level * (1 + 0.05 * RNG.exponential(size=20)) for level in levels]


@pytest.mark.parametrize(
    ("factor", "verdict"), [(0.9, "faster"), (1.0, "not_slower"), (1.1, "slower"), (0.98, "not_slower")]
)
def test_verdicts(factor, verdict):
    found = ratio(_blocks(1e-3 * factor), _blocks(1e-3))
    assert found.value == pytest.approx(factor, rel=0.01)
    assert found.verdict == verdict
    assert found.ci99[0] <= found.ci95[0] <= found.value <= found.ci95[1] <= found.ci99[1]


def test_noise_that_hides_the_difference_is_inconclusive():
    assert ratio(_blocks(1e-3, noise=0.3), _blocks(1e-3, noise=0.3)).verdict == "inconclusive"


@pytest.mark.parametrize("blocks", [8, 40])
def test_a_descheduled_process_flips_no_verdict(blocks):
    quiet = [np.full(20, 1e-3 * level) for level in 1 + 0.002 * RNG.standard_normal(blocks)]
    for arms in ((0, 1), (1, 0)):
        spiked = [block.copy() for block in quiet]
        spiked[3][7] = 0.5
        spiked[5][:] = 0.1
        both = (spiked, quiet) if arms == (0, 1) else (quiet, spiked)
        assert ratio(*both).verdict not in ("faster", "slower")
        assert ratio(*both).value == pytest.approx(1, abs=0.01)


def test_drift_of_the_machine_cancels_in_pairs():
    """The clock falls by half during the race; pairs still agree on 20 %."""
    drift = np.linspace(1, 2, 30)
    noise = 1 + 0.003 * RNG.standard_normal((2, 30))
    found = ratio(0.8 * drift * noise[0], drift * noise[1])
    assert found.value == pytest.approx(0.8, rel=0.02)
    assert found.verdict == "faster"


def test_too_few_blocks_decide_nothing():
    assert ratio(np.full(7, 2.0), np.full(7, 1.0)).verdict == "inconclusive"
    assert ratio(np.full(8, 2.0), np.full(8, 1.0)).verdict == "slower"


def test_medians_and_calls_are_the_same_thing():
    blocks = _blocks(1e-3), _blocks(1.05e-3)
    medians = [np.array([np.median(block) for block in arm]) for arm in blocks]
    assert ratio(*blocks, seed=3) == ratio(*medians, seed=3)


def test_unpaired_blocks_are_refused():
    with pytest.raises(BadRecipe, match="3 blocks of the candidate and 2"):
        ratio(np.ones(3), np.ones(2))
    with pytest.raises(BadRecipe, match="0 blocks"):
        ratio([], [])


def test_p95_bound_is_the_order_statistic_of_the_tables():
    """Of 59 calls the slowest; of 100 the 99th, as in tables of nonparametric tolerance limits; n at any order."""
    assert p95_upper(RNG.permutation(59) + 1.0) == 59
    assert p95_upper(RNG.permutation(100) + 1.0) == 99
    assert p95_upper(RNG.permutation(1000) + 1.0) == 962
    assert p95_upper(RNG.permutation(100000) + 1.0) == pytest.approx(95113, abs=2)


def test_p95_bound_holds_its_level():
    above = sum(p95_upper(RNG.random(150)) >= 0.95 for _ in range(2000)) / 2000
    assert 0.94 < above < 1


def test_too_few_calls_bound_nothing():
    with pytest.raises(BadRecipe, match="58 timed calls cannot bound p95: 59 are needed"):
        p95_upper(np.ones(58))
    with pytest.raises(BadRecipe, match="p99"):
        percentile_upper(np.ones(100), 0.99)
