"""One trial of a search: a sequence of passes made, run on `val` and weighed. Runs in whichever process is told to."""

import dataclasses
import time
from dataclasses import dataclass

from edge.artifact import Artifact
from edge.bundle import stored_bytes
from edge.errors import BadModel, CheckFailed, ProcessCrashed
from edge.report import Drop
from edgetool.candidates import make
from edgetool.conversion_worker import ConversionWorker, load_source
from edgetool.judge import outputs_on, paired_drop
from edgetool.passes.step import label
from edgetool.progress import Silent
from edgetool.recipe import Recipe
from edgetool.results import Results
from edgetool.search.space import Choice, Point


@dataclass(frozen=True)
class Job:
    """What a worker needs to know to try one point. `epochs` is the fraction of the passes' epochs that is trained."""

    number: int
    point: Point
    epochs: float
    sequence: Choice
    recipe: Recipe
    source: Artifact
    baseline: Artifact
    task_sha256: str
    max_drop: float


@dataclass(frozen=True)
class Tried:
    """What came of a trial. `drop` is on `val`, in the unit of the metric's drop; `artifact` is its file, None where it
    could not be made for the reason in `failure`. `p50_ms` is filled in by whoever times it, `latency` says how.
    """

    number: int
    point: Point
    epochs: float
    steps: tuple[str, ...]
    seconds: float
    artifact: Artifact | None = None
    drop: float | None = None
    upper95: float | None = None
    stored_bytes: int | None = None
    p50_ms: float | None = None
    latency: str | None = None
    failure: str | None = None

    def objectives(self) -> tuple[float, ...] | None:
        """What the search makes small: the drop (no gain counts), the stored bytes, and the time where it is known."""
        if self.drop is None or self.stored_bytes is None:
            return None
        found = (max(self.drop, 0.0), float(self.stored_bytes))
        return found if self.p50_ms is None else (*found, self.p50_ms)


def attempt(job: Job, results: Results, worker: ConversionWorker) -> Tried:
    """Make a point's file, run it on `val` and weigh it; what a pass refuses or crashes on is a trial that failed."""
    started = time.monotonic()
    begun = Tried(job.number, job.point, job.epochs, tuple(map(label, job.sequence)), 0.0)
    try:
        artifact = make(
            f"trial {job.number}", job.sequence, job.source, job.recipe, job.task_sha256, results, worker, Silent()
        ).artifact
        lost = _lost(job, artifact, results)
    except (BadModel, CheckFailed, ProcessCrashed) as error:
        return dataclasses.replace(begun, failure=error.message, seconds=time.monotonic() - started)
    return dataclasses.replace(
        begun,
        seconds=time.monotonic() - started,
        artifact=artifact,
        drop=lost.value,
        upper95=lost.upper95,
        stored_bytes=stored_bytes(artifact.path, artifact.format) or artifact.size_bytes,
    )


def _lost(job: Job, artifact: Artifact, results: Results) -> Drop:
    task = load_source(job.recipe.task, job.source)
    before, after = (
        outputs_on(one, task.val, job.task_sha256, results, "val", lambda *_: None) for one in (job.baseline, artifact)
    )
    return paired_drop(task.metric, before, after, task.val, job.max_drop, job.recipe.seed)
