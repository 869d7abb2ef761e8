"""What a release did to the figures of a fleet: the same devices before and after, class by class.

The unit is a device: the logarithm of its figure after over before. A class's effect is the mean of its devices, with
Student's t interval; how two classes differ is Welch's t interval for the difference of their means ("The
generalization of 'Student's' problem when several different population variances are involved", Biometrika 34, 1947).
All intervals of a report hold together with 95 %: each has the level 1 - 0.05 / m where m are asked (Bonferroni; Dunn,
"Multiple comparisons among means", Journal of the American Statistical Association 56, 1961). Verdicts are those of the
toolkit's races: a dead band of 3 %, and `inconclusive` where the interval is too wide.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.report import Interval, SpeedVerdict
from edgetool.fleet.benches import METRICS, Bench
from edgetool.verify.speed_gate import FASTER_BELOW, NOT_SLOWER_BELOW, SLOWER_ABOVE

ALPHA = 0.05
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """A metric of one class, or of one class over another's (`against`). `ratio` is after over before: above 1 is
    worse. `interval` has the simultaneous level; None where fewer than two devices were measured.
    """

    metric: str
    device_class: str
    against: str | None
    devices: int
    ratio: float
    interval: Interval | None
    verdict: SpeedVerdict
    ratios: tuple[tuple[str, float], ...] = ()

    def as_text(self) -> str:
        """`p50_ms of pi4: 1.12 [1.08, 1.17], slower, 5 devices`."""
        over = "" if self.against is None else f" over that of {self.against}"
        interval = "" if self.interval is None else f" [{self.interval[0]:.3f}, {self.interval[1]:.3f}]"
        of = f"{self.metric} of {self.device_class}{over}"
        return f"{of}: {self.ratio:.3f}{interval}, {self.verdict.replace('_', ' ')}, {self.devices} devices"


def log_ratios(before: Sequence[Bench], after: Sequence[Bench], metric: str) -> dict[str, float]:
    """By device: log(after / before) of a metric, each the mean over the device's benchmarks that are not void."""
    found = {}
    for device in {one.device for one in before} & {one.device for one in after}:
        sides = [
            [math.log(one.figures[metric]) for one in side if one.device == device and one.figures.get(metric, 0) > 0]
            for side in (before, after)
        ]
        if all(sides):
            found[device] = float(np.mean(sides[1]) - np.mean(sides[0]))
    return dict(sorted(found.items()))


def compare(before: Sequence[Bench], after: Sequence[Bench]) -> tuple[Comparison, ...]:
    """Every metric of every class, and of every pair of classes that both have two devices."""
    old, new = ([one for one in side if one.void is None] for side in (before, after))
    classes = {one.device: one.device_class for one in (*old, *new)}
    grouped: dict[str, dict[str, dict[str, float]]] = {}
    for metric in METRICS:
        grouped[metric] = {}
        for device, value in log_ratios(old, new, metric).items():
            grouped[metric].setdefault(classes[device], {})[device] = value
    return compare_logs(grouped)


def compare_logs(grouped: Mapping[str, Mapping[str, Mapping[str, float]]]) -> tuple[Comparison, ...]:
    """The comparisons of {metric: {class: {device: log ratio}}}."""
    pairs = {metric: _pairs(by_class) for metric, by_class in grouped.items()}
    asked = sum(
        sum(len(devices) > 1 for devices in by_class.values()) + len(pairs[metric])
        for metric, by_class in grouped.items()
    )
    level = 1 - ALPHA / max(1, asked)
    found = []
    for metric, by_class in grouped.items():
        for name, devices in sorted(by_class.items()):
            values = np.array(list(devices.values()))
            interval = _student(values, level)
            ratios = tuple((device, math.exp(value)) for device, value in devices.items())
            ratio = math.exp(float(values.mean()))
            found.append(Comparison(metric, name, None, len(values), ratio, interval, _verdict(interval), ratios))
        for one, other in pairs[metric]:
            sides = [np.array(list(by_class[name].values())) for name in (one, other)]
            interval = _welch(sides[0], sides[1], level)
            ratio = math.exp(float(sides[0].mean() - sides[1].mean()))
            found.append(
                Comparison(metric, one, other, len(sides[0]) + len(sides[1]), ratio, interval, _verdict(interval))
            )
    return tuple(found)


def _pairs(by_class: Mapping[str, Mapping[str, float]]) -> list[tuple[str, str]]:
    return list(itertools.combinations(sorted(name for name, devices in by_class.items() if len(devices) > 1), 2))


def _student(values: Floats, level: float) -> Interval | None:
    if len(values) < 2:
        return None
    return _around(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values)), len(values) - 1, level)


def _welch(one: Floats, other: Floats, level: float) -> Interval:
    shares = [float(side.var(ddof=1)) / len(side) for side in (one, other)]
    total = sum(shares)
    squares = sum(share**2 / (len(side) - 1) for share, side in zip(shares, (one, other), strict=True))
    freedom = total**2 / squares if squares > 0 else len(one) + len(other) - 2
    return _around(float(one.mean() - other.mean()), math.sqrt(total), freedom, level)


def _around(centre: float, error: float, freedom: float, level: float) -> Interval:
    from scipy.special import stdtrit

    far = float(stdtrit(freedom, (1 + level) / 2)) * error
    return math.exp(centre - far), math.exp(centre + far)


def _verdict(interval: Interval | None) -> SpeedVerdict:
    if interval is None:
        return "inconclusive"
    if interval[1] < FASTER_BELOW:
        return "faster"
    if interval[0] > SLOWER_ABOVE:
        return "slower"
    return "not_slower" if interval[1] < NOT_SLOWER_BELOW else "inconclusive"
