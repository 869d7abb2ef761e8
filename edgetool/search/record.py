"""The study on disk or on a server: every finished trial once, through Optuna's storages.

Trials are written by the one process that runs the search. A server that goes away is waited for: the trial is kept in
memory until it is back, and looked for before it is written again.
"""

import dataclasses
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from edge.errors import BadRecipe, EnvironmentFailed
from edge.report import from_plain
from edgetool.patience import first_line, patiently
from edgetool.search.space import Space
from edgetool.search.trial import Tried

T = TypeVar("T")
ATTRIBUTE = "edgetool"


class Record:
    """The trials of one study, by number.

    Args:
        storage: the path of a journal file, or the URL of a database that SQLAlchemy knows (postgresql+psycopg://…).
        study: the name of the study; one that exists is gone on with.
        objectives: how many there are, all minimised.
        said: told when the storage has to be waited for.

    Raises:
        BadRecipe: the address means nothing here, or the package that speaks to such a database is not installed.
        EnvironmentFailed: the storage cannot be reached.

    """

    def __init__(self, storage: str, study: str, space: Space, objectives: int, said: Callable[[str], None]) -> None:
        import optuna

        optuna.logging.set_verbosity(logging.WARNING)
        self._said = said
        self._distributions: dict[str, Any] = {
            axis.name: optuna.distributions.IntDistribution(0, len(axis.choices) - 1) for axis in space.axes
        }
        try:
            self._study = optuna.create_study(
                storage=_opened(storage), study_name=study, directions=["minimize"] * objectives, load_if_exists=True
            )
        except Exception as error:
            if _is_unknown(error):
                hint = "write postgresql+psycopg://USER@HOST/DATABASE, and install 'edgetool[cluster]'"
                raise BadRecipe(f"the storage {_safe(storage)} cannot be used: {first_line(error)}", hint) from error
            if not _is_away(error):
                raise
            raise EnvironmentFailed(f"the storage {_safe(storage)} cannot be reached: {first_line(error)}") from error

    def load(self) -> dict[int, Tried]:
        """Every trial that was finished, by number."""
        trials = self._patiently(lambda: self._study.get_trials(deepcopy=False))
        kept = (trial.user_attrs.get(ATTRIBUTE) for trial in trials)
        found = (_read(text) for text in kept if text is not None)
        return {one.number: one for one in found}

    def add(self, one: Tried) -> None:
        """Keep a finished trial, once, however often the storage goes away meanwhile."""
        import optuna

        values = one.objectives()
        made = optuna.trial.create_trial(
            state=optuna.trial.TrialState.FAIL if values is None else optuna.trial.TrialState.COMPLETE,
            values=None if values is None else list(values),
            params=dict(zip(self._distributions, one.point, strict=True)),
            distributions=dict(self._distributions),
            user_attrs={ATTRIBUTE: json.dumps(dataclasses.asdict(one), default=str)},
        )

        def write() -> None:
            if one.number not in self.load():  # a server that went away may have kept it
                self._study.add_trial(made)

        self._patiently(write)

    def _patiently(self, ask: Callable[[], T]) -> T:
        return patiently(ask, "the storage of the study", _is_away, self._said)


def _read(text: str) -> Tried:
    one: Tried = from_plain(Tried, json.loads(text))
    if one.artifact is None:
        return one
    return dataclasses.replace(one, artifact=dataclasses.replace(one.artifact, path=Path(one.artifact.path)))


def _opened(storage: str) -> Any:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    if "://" in storage:
        # a connection that died while the server was away is noticed before it is used
        return optuna.storages.RDBStorage(storage, engine_kwargs={"pool_pre_ping": True})
    Path(storage).parent.mkdir(parents=True, exist_ok=True)
    _cut_half_a_line(Path(storage))
    return optuna.storages.JournalStorage(JournalFileBackend(storage))


def _cut_half_a_line(journal: Path) -> None:
    """Remove what a full disk or a kill left of the last line; with the next one behind it nothing could be read."""
    from optuna.storages.journal import JournalFileSymlinkLock

    if not journal.exists() or journal.read_bytes()[-1:] in {b"", b"\n"}:
        return
    lock = JournalFileSymlinkLock(str(journal))
    lock.acquire()
    try:
        content = journal.read_bytes()
        os.truncate(journal, content.rfind(b"\n") + 1)
    finally:
        lock.release()


def _is_away(error: BaseException) -> bool:
    """Whether it is the server that is not there, not what was asked of it."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

    if isinstance(error, StorageInternalError):
        return error.__cause__ is None or _is_away(error.__cause__)
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(error, (OperationalError, InterfaceError, ConnectionError))


def _is_unknown(error: BaseException) -> bool:
    """Whether the address of the storage is at fault, or what is installed for it."""
    from sqlalchemy.exc import ArgumentError

    return isinstance(error.__cause__ or error, (ArgumentError, ImportError))


def _safe(storage: str) -> str:
    """The address without its password."""
    head, at, tail = storage.rpartition("@")
    return f"{head.split(':')[0]}://…@{tail}" if at else storage


def study_name(identity: Mapping[str, Any]) -> str:
    """The name of the study of what is searched: the same model, data, space and versions give the same study."""
    from edgetool.results import key_of

    return f"edgetool-{key_of(identity)}"
