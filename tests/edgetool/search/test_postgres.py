"""A study on a real PostgreSQL server that is stopped and started in the middle of a search."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

import edgetool.patience
from edge.errors import BadRecipe, EnvironmentFailed
from edge.report import Limits
from edgetool.progress import Silent
from edgetool.recipe import Budget
from edgetool.search.record import Record
from edgetool.search.run import Searched, search
from edgetool.search.trial import Job, Tried
from tests.edgetool.search.points import SPACE, Computed, job, tried
from tests.edgetool.search.postgres import Postgres, programs


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    pytest.importorskip("psycopg", reason="psycopg is not installed: the extra `cluster`")
    where = programs()
    if where is None:
        pytest.skip("PostgreSQL is not installed: the package postgresql")
    with Postgres(where) as running:
        yield running


class Interrupting(Computed):
    """Stops the server as trial 9 begins, and crashes it as trial 17 does; each time it is back a second later."""

    def __init__(self, workers: int, server: Postgres) -> None:
        super().__init__(workers)
        self._server = server
        self.starting: list[threading.Timer] = []

    def submit(self, job: Job) -> "Future[Tried]":
        how = {9: "fast", 17: "immediate"}.get(job.number)
        if how is not None:
            for earlier in self.starting:
                earlier.join()
            self._server.stop(how)
            self.starting.append(threading.Timer(1.0, self._server.start))
            self.starting[-1].start()
        return super().submit(job)


def run(record: Record, executor: Computed) -> Searched:
    return search(SPACE, job(), "study", Budget(24), Limits(max_drop=1.5), executor, record, None, Silent())


def test_a_server_that_goes_away_and_comes_back_loses_no_trial_and_counts_none_twice(
    server: Postgres, tmp_path: Path
) -> None:
    said: list[str] = []
    record = Record(server.url, "study", SPACE, 2, said.append)
    executor = Interrupting(3, server)
    found = run(record, executor)
    assert len(executor.starting) == 2
    assert any(line.startswith("waiting for the storage of the study: ") for line in said)
    assert sorted(one.number for one in record.load().values()) == list(range(24))
    assert len(record._study.trials) == 24
    assert executor.submitted == list(range(24))
    journal = Record(str(tmp_path / "journal"), "study", SPACE, 2, lambda _: None)
    assert found.trials == run(journal, Computed(3)).trials

    # another process that takes the study up has nothing left to do
    again = Computed(1)
    assert run(Record(server.url, "study", SPACE, 2, said.append), again).trials == found.trials
    assert again.submitted == []


def test_a_server_that_stays_away_ends_the_search(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record(server.url, "other", SPACE, 2, lambda _: None)
    monkeypatch.setattr(edgetool.patience, "PATIENCE_S", 0.0)
    monkeypatch.setattr(edgetool.patience, "WAIT_S", 0.1)
    server.stop("fast")
    try:
        with pytest.raises(EnvironmentFailed, match=r"the storage of the study was away for 0 s") as failed:
            record.add(tried(0, (0, 0, 0)))
    finally:
        server.start()
    assert "--resume" in (failed.value.hint or "")
    record.add(tried(0, (0, 0, 0)))
    assert list(record.load()) == [0]


def test_a_server_that_is_not_there_is_said_without_its_password() -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed: the extra `cluster`")
    with pytest.raises(EnvironmentFailed, match="cannot be reached") as failed:
        Record("postgresql+psycopg://me:secret@127.0.0.1:1/none", "study", SPACE, 2, lambda _: None)
    assert "secret" not in failed.value.message


@pytest.mark.parametrize("address", ["postgresql+nothing://127.0.0.1/x", "://", "no+such://x"])
def test_an_address_that_means_nothing_is_bad_input(address: str) -> None:
    with pytest.raises(BadRecipe, match="cannot be used"):
        Record(address, "study", SPACE, 2, lambda _: None)
