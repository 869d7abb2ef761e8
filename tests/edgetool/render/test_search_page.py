"""The search on the page: its fronts, what each pass bought, every trial, nothing from outside."""

import dataclasses
import re
from pathlib import Path

import pytest

from edge.report import Limits, Report
from edgetool.render.page import page
from edgetool.render.search_page import bought, trial_failures
from edgetool.render.table import print_report
from edgetool.search.run import Searched
from edgetool.search.space import label_of
from edgetool.search.start import reported
from edgetool.search.trial import Tried
from tests.edgetool.reports import candidate, drop, report
from tests.edgetool.search.points import SPACE, tried


def _trial(number: int, point: tuple[int, ...]) -> Tried:
    one = tried(number, point)
    steps = tuple(label_of((step,)) for step in SPACE.sequence(point))
    if one.drop is None or one.stored_bytes is None:
        return dataclasses.replace(one, steps=steps)
    p50 = 0.01 * (1 + 0.2 * point[1]) / (1 + point[0])
    return dataclasses.replace(
        one, steps=steps, upper95=one.drop + 0.5, p50_ms=p50, latency="measured", seconds=1.5, drop=one.drop - 0.2
    )


@pytest.fixture(scope="module")
def searched() -> Report:
    points = [(0, 0, k) for k in range(7)] + [(1, 0, 1), (2, 0, 1), (1, 1, 1), (3, 2, 0), (2, 1, 3), (3, 0, 3)]
    trials = tuple(_trial(number, point) for number, point in enumerate(points))
    row = candidate("tflite-int8", 0.6, lost=drop(0.1, 0.4, "pass"))
    search = reported(Searched(SPACE, trials, (), 12.0))
    return dataclasses.replace(report(row, chosen="tflite-int8", limits=Limits(max_drop=1.5)), search=search)


def test_the_page_of_a_search_is_whole_and_needs_nothing_else(searched: Report) -> None:
    text = page(searched)
    assert len(text.encode()) < 2_000_000
    for outside in ("http://", "https://", "<script", "url(", "@import", "src=", "href=", "onload"):
        assert outside not in text
    assert text.count("<svg") == 4
    assert 'aria-label="Drop against in the bundle of 12 trials"' in text
    assert 'aria-label="Drop against p50, one thread of 12 trials"' in text
    for number in range(13):
        assert f"Trial {number}<small>" in text
    assert "<b>trial 10</b>: left nothing" in text
    assert "prune.channel" in text


def test_all_that_is_drawn_lies_inside_its_picture(searched: Report) -> None:
    for width, height, picture in re.findall(r'<svg.*?viewBox="0 0 (\d+) (\d+)".*?>(.*?)</svg>', page(searched)):
        for name, value in re.findall(r' (x|y|x1|x2|y1|y2|cx|cy)="(-?[\d.]+)"', picture):
            assert 0 <= float(value) <= int(width if "x" in name else height)


def test_what_a_pass_bought_is_by_trials_that_differ_in_it_alone(searched: Report) -> None:
    assert searched.search is not None
    rows = {(row.axis, row.choice): row for row in bought(searched.search)}
    channel = next(row for (axis, _), row in rows.items() if axis == "shrink")
    assert channel.against == "the model as it is"
    assert len(channel.drops) == len(channel.sizes) == len(channel.times) == 1
    assert channel.drops[0] == pytest.approx(1.0)
    assert channel.sizes[0] == pytest.approx(0.75)
    assert channel.times[0] == pytest.approx(0.5)
    (sparse,) = (row for (axis, _), row in rows.items() if axis == "sparsify")
    assert sparse.drops[0] == pytest.approx(0.5)


def test_trials_of_one_reason_are_said_together() -> None:
    trials = tuple(_trial(number, (3, 2, number)) for number in range(3))
    assert trial_failures(reported(Searched(SPACE, trials, (), 1.0))) == [("trials 0, 1, 2", "left nothing")]


def test_the_terminal_has_the_front(searched: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_report(searched, tmp_path)
    text = capsys.readouterr().out
    assert "front of 13 trials on val" in text
    assert "prune.channel" in text


def test_a_search_without_times_says_so(searched: Report) -> None:
    assert searched.search is not None
    untimed = tuple(dataclasses.replace(one, p50_ms=None) for one in searched.search.trials)
    text = page(dataclasses.replace(searched, search=dataclasses.replace(searched.search, trials=untimed)))
    assert "Not measured: p50, one thread." in text


def test_numbers_of_points_that_lie_together_stand_together(searched: Report) -> None:
    text = page(searched)
    numbers = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="start" class="also">([\d, ]+)</text>', text)
    by_size = numbers[: len(numbers) // 2]
    assert {"1, 5"} <= {words for *_, words in by_size}
    for i, (x, y, words) in enumerate(by_size):
        for other_x, other_y, _ in by_size[i + 1 :]:
            right = float(other_x) - float(x)
            assert abs(float(other_y) - float(y)) >= 15 or not 0 <= right < 9 * len(words)
