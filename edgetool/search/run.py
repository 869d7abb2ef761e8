"""The search: trials asked, run, timed and recorded until a limit of number or time, and the few that go on."""

import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Literal

from edge.artifact import Artifact
from edge.errors import CheckFailed
from edge.report import Limits
from edgetool.progress import Progress
from edgetool.recipe import Budget
from edgetool.search.finalists import finalists
from edgetool.search.local import Executor
from edgetool.search.order import Asked, known_to, next_trial
from edgetool.search.record import Record
from edgetool.search.space import Choice, Space, shortened
from edgetool.search.trial import Job, Tried


@dataclass(frozen=True)
class Clock:
    """How trials are timed. `ms` gives the p50 of a file, None where it cannot; its second argument is told what it
    waits for. What is measured is measured while no trial runs.
    """

    ms: Callable[[Artifact, Callable[[str], None]], float | None]
    status: Literal["measured", "estimated"]


PULSE_S = 2.0  # between two words of progress while trials run


@dataclass(frozen=True)
class Searched:
    """The space, all trials in the order of their numbers, the sequences that go on, and how long it took; and the
    error of the latency model, where times are estimated.
    """

    space: Space
    trials: tuple[Tried, ...]
    sequences: tuple[Choice, ...]
    seconds: float
    latency_error: float | None = None


def search(
    space: Space,
    template: Job,
    study: str,
    budget: Budget,
    limits: Limits,
    executor: Executor,
    record: Record,
    clock: Clock | None,
    progress: Progress,
) -> Searched:
    """Run the trials that are not in `record` yet, and pick from all of them.

    `template` is a job with all that trials share. With a `clock` every file is timed.

    Raises:
        CheckFailed: no trial could be made; the message has the first reason.
        EnvironmentFailed: the storage stayed away, or the machine was never free to time on.

    """
    began = time.monotonic()
    found = record.load()
    asked: list[Asked] = []
    running: dict[Future[Tried], int] = {}

    def ask() -> Asked | None:
        number = len(asked)
        over = budget.seconds is not None and time.monotonic() - began > budget.seconds
        if over or number >= budget.trials or not all(earlier in found for earlier in known_to(number)):
            return None
        known = [found[earlier] for earlier in known_to(number)]
        return next_trial(space, known, asked, study, halve=budget.seconds is not None)

    def said(what: str) -> None:
        fraction, trial = _done(budget, len(asked), time.monotonic() - began)
        progress.at(fraction, f"{trial}: {what}")

    while True:
        while len(running) < executor.workers and (wanted := ask()) is not None:
            number = len(asked)
            asked.append(wanted)
            if number not in found:
                running[executor.submit(_job(template, space, wanted, number))] = number
        if not running:
            break
        for future in _finished(running, together=clock is not None and clock.status == "measured"):
            one = future.result() if clock is None else _timed(future.result(), clock, said)
            record.add(one)
            found[running.pop(future)] = one
        progress.at(*_done(budget, len(asked), time.monotonic() - began))
    trials = tuple(found[number] for number in range(len(asked)))
    if not any(one.objectives() for one in trials):
        reasons = [one.failure for one in trials if one.failure] or ["the time was over before the first trial ended"]
        raise CheckFailed(f"none of {len(trials)} trials could be made: {reasons[0]}", "give more time, or a recipe")
    chosen = finalists(trials, limits)
    return Searched(space, trials, tuple(space.sequence(one.point) for one in chosen), time.monotonic() - began)


def _finished(running: dict[Future[Tried], int], *, together: bool) -> list[Future[Tried]]:
    """Those that are done, by number; none yet after PULSE_S. `together`: all or none, as nothing may be timed beside
    a trial.
    """
    done, left = wait(running, PULSE_S, ALL_COMPLETED if together else FIRST_COMPLETED)
    return [] if together and left else sorted(done, key=running.__getitem__)


def _done(budget: Budget, number: int, seconds: float) -> tuple[float, str]:
    """How much of the budget is gone, by trials or by time, and what is at work."""
    fraction, what = max(0, number - 1) / budget.trials, f"trial {number} of {budget.trials}"
    if budget.seconds is None or fraction > seconds / budget.seconds:
        return fraction, what
    return seconds / budget.seconds, f"trial {number}, {seconds / 60:.0f} of {budget.seconds / 60:.0f} min"


def _timed(one: Tried, clock: Clock, said: Callable[[str], None]) -> Tried:
    if one.artifact is None:
        return one
    p50 = clock.ms(one.artifact, said)
    if p50 is None:
        return dataclasses.replace(one, artifact=None, drop=None, failure=f"its time could not be {clock.status}")
    return dataclasses.replace(one, p50_ms=p50, latency=clock.status)


def _job(template: Job, space: Space, asked: Asked, number: int) -> Job:
    sequence = shortened(space.sequence(asked.point), asked.epochs) if asked.epochs < 1 else space.sequence(asked.point)
    return dataclasses.replace(template, number=number, point=asked.point, epochs=asked.epochs, sequence=sequence)
