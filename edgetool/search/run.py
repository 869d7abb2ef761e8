"""The search: trials asked, run, timed and recorded until a limit of number or time, and the few that go on."""

import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, wait
from dataclasses import dataclass

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

Clock = Callable[[Artifact], float | None]


@dataclass(frozen=True)
class Searched:
    """The space, all trials in the order of their numbers, the sequences that go on, and how long it took."""

    space: Space
    trials: tuple[Tried, ...]
    sequences: tuple[Choice, ...]
    seconds: float


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

    `template` is a job with all that trials share. With a `clock` every file is timed while no trial runs.

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
        return next_trial(space, [found[earlier] for earlier in known_to(number)], asked, study)

    while True:
        while len(running) < executor.workers and (wanted := ask()) is not None:
            number = len(asked)
            asked.append(wanted)
            progress.at(number / budget.trials, f"trial {number + 1} of {budget.trials}")
            if number not in found:
                running[executor.submit(_job(template, space, wanted, number))] = number
        if not running:
            break
        # nothing may run beside what is timed
        done, _ = wait(running, return_when=FIRST_COMPLETED if clock is None else ALL_COMPLETED)
        for future in sorted(done, key=running.__getitem__):
            one = future.result() if clock is None else _timed(future.result(), clock)
            record.add(one)
            found[running.pop(future)] = one
    trials = tuple(found[number] for number in range(len(asked)))
    if not any(one.objectives() for one in trials):
        reasons = [one.failure for one in trials if one.failure] or ["the time was over before the first trial ended"]
        raise CheckFailed(f"none of {len(trials)} trials could be made: {reasons[0]}", "give more time, or a recipe")
    chosen = finalists(trials, limits)
    return Searched(space, trials, tuple(space.sequence(one.point) for one in chosen), time.monotonic() - began)


def _timed(one: Tried, clock: Clock) -> Tried:
    if one.artifact is None:
        return one
    p50 = clock(one.artifact)
    if p50 is None:
        return dataclasses.replace(one, artifact=None, drop=None, failure="it could not be timed")
    return dataclasses.replace(one, p50_ms=p50, latency="measured")


def _job(template: Job, space: Space, asked: Asked, number: int) -> Job:
    sequence = shortened(space.sequence(asked.point), asked.epochs) if asked.epochs < 1 else space.sequence(asked.point)
    return dataclasses.replace(template, number=number, point=asked.point, epochs=asked.epochs, sequence=sequence)
