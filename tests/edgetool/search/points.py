"""A small space of real passes, and trials whose figures follow from their point, made without training."""

from concurrent.futures import Future
from pathlib import Path

from edge.artifact import Artifact
from edge.target import target
from edgetool.search.local import Executor
from edgetool.search.space import Point, Space, space_for
from edgetool.search.trial import Job, Tried

SPACE = space_for("keras", {"Dense": 1}, target("raspberrypi5"))


def job() -> Job:
    nothing = Artifact(Path("model.tflite"), "tflite", (), (), "0" * 64)
    return Job(0, (), 1.0, (), None, nothing, nothing, "", 1.0)  # type: ignore[arg-type]  # no recipe is read here


def tried(number: int, point: Point, epochs: float = 1.0, space: Space = SPACE) -> Tried:
    """Deeper cuts lose more and are smaller; the strongest together fail; short fits lose twice as much."""
    shrink, sparsify, quantize = point
    if shrink + sparsify == 5:
        return Tried(number, point, epochs, (), 0.0, failure="left nothing")
    drop = (shrink**2 + 0.5 * sparsify**2 + (0.2, 0.1, 0.0, 0.4, 1.5, 0.1, 0.4)[quantize]) * (2 if epochs < 1 else 1)
    stored = int(1000 * (1, 0.75, 0.5, 0.35)[shrink] * (1, 0.7, 0.4)[sparsify] * (2, 1, 1.1, 1, 0.6, 1, 1)[quantize])
    artifact = Artifact(
        Path(f"{number}.tflite"),
        "tflite",
        (),
        (),
        f"{number:064}",
        (),
    )
    return Tried(number, point, epochs, (), 0.0, artifact, drop, drop, stored)


class Computed:
    """An executor whose trials are done when somebody waits, the youngest first where `backwards`."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.submitted: list[int] = []

    def submit(self, job: Job) -> "Future[Tried]":
        self.submitted.append(job.number)
        future: Future[Tried] = Future()
        future.set_result(tried(job.number, job.point, job.epochs))
        return future


def executor(workers: int) -> Computed:
    made: Executor = Computed(workers)
    assert isinstance(made, Computed)
    return made
