"""The order of trials, their record, and who goes on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge.errors import CheckFailed, EnvironmentFailed
from edge.report import Limits, Search, Trial
from edgetool.progress import Silent
from edgetool.recipe import Budget
from edgetool.search.binding import binding
from edgetool.search.finalists import finalists
from edgetool.search.front import hypervolume
from edgetool.search.order import LAG, front_of
from edgetool.search.record import Record
from edgetool.search.run import Searched, search
from tests.edgetool.search.points import SPACE, executor, job, tried

LIMITS = Limits(max_drop=1.5)
REPOSITORY = Path(__file__).resolve().parents[3]


def run(
    folder: Path, workers: int = 1, trials: int = 24, limits: Limits = LIMITS, seconds: float | None = None
) -> tuple[Searched, list[int]]:
    record = Record(str(folder / "study.journal"), "study", SPACE, 2, lambda _: None)
    where = executor(workers)
    found = search(SPACE, job(), "study", Budget(trials, seconds), limits, where, record, None, Silent())
    return found, where.submitted


def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    one, _ = run(tmp_path / "one")
    for workers in (3, LAG + 4):
        more, _ = run(tmp_path / str(workers), workers)
        assert (more.trials, more.sequences) == (one.trials, one.sequences)


def test_where_trials_are_counted_all_are_trained_in_full(tmp_path: Path) -> None:
    found, _ = run(tmp_path, trials=40)
    assert len({one.point for one in found.trials}) == len(found.trials) == 40
    assert {one.epochs for one in found.trials} == {1.0}


def test_where_time_counts_no_fit_is_made_twice_and_few_in_full(tmp_path: Path) -> None:
    found, _ = run(tmp_path, trials=40, seconds=600.0)
    assert len({(one.point, one.epochs) for one in found.trials}) == len(found.trials) == 40
    short = [one for one in found.trials if one.epochs < 1]
    promoted = {one.point for one in found.trials if one.epochs == 1} & {one.point for one in short}
    assert 0 < len(promoted) <= len(short) // 3


def test_a_study_goes_on_where_it_was_and_ends_the_same(tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "whole")
    run(tmp_path / "cut", trials=9)
    again, submitted = run(tmp_path / "cut")
    assert submitted == list(range(9, 24))
    assert again.trials == whole.trials


KILLED = """
import os, signal, sys
from pathlib import Path
import tests.edgetool.search.test_run as t
from tests.edgetool.search import points

class Deadly(points.Computed):
    def submit(self, job):
        if job.number == 11:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().submit(job)

t.executor = Deadly
t.run(Path(sys.argv[1]), workers=3)
"""


def test_a_killed_search_goes_on(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "cut"], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    again, submitted = run(tmp_path / "cut", 3)
    assert 11 in submitted
    assert len(submitted) <= 24 - 11 + LAG
    assert again.trials == run(tmp_path / "whole")[0].trials


def test_a_trial_is_recorded_once_and_as_it_was(tmp_path: Path) -> None:
    record = Record(str(tmp_path / "j"), "study", SPACE, 2, lambda _: None)
    for one in (tried(0, (1, 1, 3)), tried(1, (3, 2, 0))):
        record.add(one)
    again = Record(str(tmp_path / "j"), "study", SPACE, 2, lambda _: None).load()
    assert again == {0: tried(0, (1, 1, 3)), 1: tried(1, (3, 2, 0))}
    assert again[1].failure == "left nothing"


def test_a_line_that_was_cut_costs_its_trial_and_no_other(tmp_path: Path) -> None:
    """As a full disk or a kill leaves it."""
    journal = tmp_path / "j"
    record = Record(str(journal), "study", SPACE, 2, lambda _: None)
    record.add(tried(0, (1, 1, 3)))
    record.add(tried(1, (1, 1, 2)))
    journal.write_bytes(journal.read_bytes()[:-40])
    again = Record(str(journal), "study", SPACE, 2, lambda _: None)
    assert list(again.load()) == [0]
    again.add(tried(1, (1, 1, 2)))
    assert list(Record(str(journal), "study", SPACE, 2, lambda _: None).load()) == [0, 1]


def test_a_storage_that_is_not_there_is_said() -> None:
    with pytest.raises(EnvironmentFailed, match="cannot be reached"):
        Record("sqlite:////nowhere/at/all.db", "study", SPACE, 2, lambda _: None)


def test_a_quarter_of_the_trials_finds_most_of_what_a_grid_finds(tmp_path: Path) -> None:
    grid = [tried(0, point) for point in SPACE.points()]
    found, _ = run(tmp_path, trials=len(grid) // 4)

    def volume(trials):
        made = np.array([one.objectives() for one in trials if one.objectives()], float)
        return hypervolume(made, np.array([12.0, 2100.0]))

    assert volume(found.trials) > 0.95 * volume(grid)


def test_the_knee_goes_on_with_the_smallest_and_all_within_the_limits(tmp_path: Path) -> None:
    every = [tried(number, point) for number, point in enumerate(SPACE.points())]
    chosen = finalists(every, LIMITS)
    assert 1 < len(chosen) <= 3
    assert all(one.drop is not None and one.drop <= 1.5 for one in chosen)
    within = [one for one in every if one.drop is not None and one.drop <= 1.5]
    assert min(one.stored_bytes or 0 for one in within) in {one.stored_bytes for one in chosen}
    assert {one.number for one in chosen} <= {one.number for one in front_of(within)}


def test_where_nothing_is_within_the_limits_the_nearest_goes_on() -> None:
    (nearest,) = finalists([tried(0, (3, 0, 4)), tried(1, (1, 0, 4)), tried(2, (3, 2, 4))], Limits(max_drop=0.5))
    assert nearest.number == 1


def test_a_search_without_any_result_fails_with_the_first_reason(tmp_path: Path) -> None:
    record = Record(str(tmp_path / "j"), "study", SPACE, 2, lambda _: None)
    with pytest.raises(CheckFailed, match="time was over"):
        search(SPACE, job(), "study", Budget(5, -1.0), LIMITS, executor(1), record, None, Silent())


def test_the_limit_that_binds_and_the_nearest_trial_are_named() -> None:
    trials = tuple(
        Trial(k, ("quantize.int8",), 1.0, drop, drop, 100, p50, "measured", 1.0, on_front=True, size_bytes=size)
        for k, (drop, size, p50) in enumerate([(0.5, 3000, 1.0), (0.9, 1500, 1.0), (2.0, 900, 1.0)])
    )
    found = Search(trials, 1.0)
    tight = binding(found, Limits(max_drop=1.0, max_size_bytes=1000))
    assert tight is not None
    assert "max_size binds: the nearest, trial 1 (quantize.int8), has 1.5 kB, limit 1.0 kB" in tight
    slow = binding(found, Limits(max_drop=5.0, max_p95_ms=0.5))
    assert slow is not None
    assert "max_p95 binds" in slow
    assert binding(found, Limits(max_drop=1.0, max_size_bytes=2000)) is None
    assert binding(found, Limits()) is None
