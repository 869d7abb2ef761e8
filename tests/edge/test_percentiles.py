import numpy as np
import pytest

from edge.percentiles import PERCENTILES, SKETCH, latency


@pytest.mark.parametrize("seed", range(30))
def test_percentiles_are_those_of_all_calls_and_lie_in_their_intervals(seed):
    rng = np.random.default_rng(seed)
    launches = [rng.exponential(1e-3, rng.integers(1, 30)) for _ in range(rng.integers(1, 6))]
    found = latency(launches)
    calls = np.concatenate(launches) * 1e3
    assert (found.n, found.launches) == (len(calls), len(launches))
    for one in found.percentiles:
        assert one.ms == pytest.approx(float(np.percentile(calls, one.percent)))
        assert one.ci95[0] <= one.ms <= one.ci95[1]
    assert [one.percent for one in found.percentiles] == list(PERCENTILES)
    assert len(found.sketch_ms) == SKETCH
    assert found.min_ms <= found.at(50).ms <= found.max_ms


def test_launches_that_differ_widen_the_interval():
    """Calls of one process are alike: a hundred more of them say nothing about the next process."""
    rng = np.random.default_rng(0)
    alike = [rng.normal(1e-3, 1e-5, 100) for _ in range(8)]
    apart = [calls * factor for calls, factor in zip(alike, np.linspace(0.9, 1.1, 8), strict=True)]
    width = [np.ptp(latency(launches).at(50).ci95) for launches in (alike, apart)]
    assert width[1] > 5 * width[0]
    assert latency(alike).unit == "launches"


def test_one_launch_has_the_interval_of_order_statistics():
    """Conover: for n = 100 the median's 95 % interval is that of the 40th and 61st value, give or take one."""
    found = latency([np.arange(1, 101) / 1e3])
    assert found.unit == "calls"
    assert found.at(50).ci95 == pytest.approx((41, 61), abs=1)


def test_coverage_of_the_interval_over_calls():
    rng = np.random.default_rng(1)
    hits = sum(
        low <= np.log(2) <= high
        for low, high in (latency([rng.exponential(1e-3, 200)]).at(50).ci95 for _ in range(300))
    )
    assert hits / 300 > 0.91
