"""Trials as tasks of a Ray cluster: any node that has what a trial needs, the same code, versions and data.

The model, the float32 file and all results travel through the shared store; the data do not, every node has its own.
A node that dies costs nothing but time: Ray runs its tasks elsewhere, and only the search counts trials.
"""

import dataclasses
import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from edge.artifact import Artifact
from edge.errors import BadInput, BadRecipe, EdgetoolError, EnvironmentFailed, RuntimeMissing, from_system
from edge.probe import environment
from edgetool.candidates import code_sha256
from edgetool.conversion_worker import ConversionWorker, load_source
from edgetool.patience import first_line
from edgetool.recipe import TaskSource
from edgetool.results import Results
from edgetool.search.local import beside_others
from edgetool.search.trial import Job, Tried, attempt
from edgetool.shared_store import SharedStore
from edgetool.verify.race import LOCK

MOST_AT_ONCE = 64
RETRIES = 5  # a trial whose node or process died that often, one after the other, is not the nodes' fault
THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


@dataclass(frozen=True)
class Needs:
    """What a trial takes of its node. `named` are resources that the node was started with, such as a device."""

    cores: float = 1.0
    gpus: float = 0.0
    named: tuple[tuple[str, float], ...] = ()

    def amounts(self) -> dict[str, float]:
        """All of it by Ray's names."""
        return {name: n for name, n in (("CPU", self.cores), ("GPU", self.gpus), *self.named) if n}


def parse_needs(text: str) -> Needs:
    """`cores=2,gpus=1,NAME=1` to Needs.

    Raises BadRecipe: no such list, or an amount that is not above 0.
    """
    amounts: dict[str, float] = {}
    for part in text.split(","):
        name, _, amount = part.partition("=")
        try:
            amounts[name.strip()] = float(amount)
        except ValueError:
            amounts[name.strip()] = -1.0
        if not name.strip() or not 0 < amounts[name.strip()] < float("inf"):
            raise BadRecipe(f"what a trial needs is not {part.strip()!r}", "write cores=2,gpus=1,NAME=1")
    return Needs(amounts.pop("cores", 1.0), amounts.pop("gpus", 0.0), tuple(sorted(amounts.items())))


@dataclass(frozen=True)
class Order:
    """A job as a node is given it, with what has to be the same there."""

    job: Job
    store: str
    versions: tuple[tuple[str, str], ...]
    cores: float


@dataclass(frozen=True)
class Refused:
    """A node that may not take part, and why."""

    node: str
    reason: str


class RayWorkers:
    """An executor on a running cluster.

    Args:
        address: host:port of the cluster's head, ray://host:10001, or auto.
        workers: how many trials at a time; None as many as the nodes hold, those included that come later.
        needs: what each takes of its node.
        results: the folder and the shared store; None of the store is bad input.

    Raises:
        BadRecipe: there is no shared store, or no node could ever run a trial.
        EnvironmentFailed: the cluster cannot be reached.
        RuntimeMissing: Ray is not installed.

    """

    def __init__(self, address: str, workers: int | None, needs: Needs, results: Results) -> None:
        if results.shared is None:
            raise BadRecipe("a cluster needs a store that all its nodes see", "add --store FOLDER or s3://BUCKET")
        self._ray = _connected(address)
        self._needs, self._results, self._limit = needs, results, workers
        self._refused: dict[str, str] = {}
        self._sent: set[str] = set()
        self._sending = threading.Lock()
        self._running: set[Any] = set()
        self._threads = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="trial")
        nodes = self._nodes().values()
        if not any(map(self._holds, nodes)):
            self._ray.shutdown()
            raise BadRecipe(
                f"no node of the cluster has what a trial needs: {_said(needs.amounts())}; the nodes have "
                f"{' / '.join(map(_said, nodes)) or 'nothing'}",
                "ask for less with --per-trial, or start such a node",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for reference in list(self._running):
            self._ray.cancel(reference, force=True)
        self._threads.shutdown(cancel_futures=True)
        self._ray.shutdown()

    @property
    def workers(self) -> int:
        """How many trials at a time, by what is there now."""
        if self._limit is not None:
            return min(self._limit, MOST_AT_ONCE)
        return max(1, min(MOST_AT_ONCE, sum(map(self._holds, self._allowed().values()))))

    def submit(self, job: Job) -> "Future[Tried]":
        """Start a trial on whichever node has room for it."""
        return self._threads.submit(self._tried, job)

    def _tried(self, job: Job) -> Tried:
        self._send(job.source, job.baseline)
        task = dataclasses.replace(job.recipe.task, data=_everywhere(job.recipe.task))
        elsewhere = dataclasses.replace(job, recipe=dataclasses.replace(job.recipe, task=task))
        assert self._results.shared is not None
        order = Order(elsewhere, self._results.shared.address, tuple(identity().items()), self._needs.cores)
        while True:
            answer = self._answered(order)
            if isinstance(answer, Refused):
                self._refuse(answer)
            elif isinstance(answer, EdgetoolError):
                raise answer
            elif answer.artifact is None:
                return answer
            elif answer.artifact.sha256 == job.source.sha256:
                return dataclasses.replace(answer, artifact=job.source)
            else:
                return dataclasses.replace(answer, artifact=self._results.brought(answer.artifact))

    def _answered(self, order: Order) -> Tried | Refused | EdgetoolError:
        number = order.job.number
        named = dict(self._needs.named)
        avoiding = {"ray.io/node-id": f"!in({','.join(sorted(self._refused))})"} if self._refused else None
        task = self._ray.remote(run_trial).options(
            num_cpus=self._needs.cores,
            num_gpus=self._needs.gpus,
            resources=named or None,
            label_selector=avoiding,
            max_retries=RETRIES,
            name=f"trial {number}",
        )
        reference = task.remote(order)
        self._running.add(reference)
        try:
            answer: Tried | Refused | EdgetoolError = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ImportError):
                raise EnvironmentFailed(
                    f"a node of the cluster cannot import what a trial needs: {error.cause}",
                    "install the same edgetool on all nodes",
                ) from error
            raise
        except self._ray.exceptions.RayError as error:
            raise EnvironmentFailed(
                f"trial {number} did not end on the cluster: {first_line(error)}", "go on with --resume"
            ) from error
        finally:
            self._running.discard(reference)
        return answer

    def _send(self, *models: Artifact) -> None:
        with self._sending:
            for model in models:
                if model.sha256 not in self._sent:
                    self._results.send(model)
                    self._sent.add(model.sha256)

    def _refuse(self, answer: Refused) -> None:
        self._refused[answer.node] = answer.reason
        if not any(map(self._holds, self._allowed().values())):
            raise EnvironmentFailed(f"no node of the cluster may take part: {answer.reason}", "install the same there")

    def _nodes(self) -> Mapping[str, dict[str, float]]:
        return {node["NodeID"]: node["Resources"] for node in self._ray.nodes() if node["Alive"]}

    def _allowed(self) -> Mapping[str, dict[str, float]]:
        return {name: amounts for name, amounts in self._nodes().items() if name not in self._refused}

    def _holds(self, amounts: Mapping[str, float]) -> int:
        """How many trials fit a node."""
        return int(min(amounts.get(name, 0.0) // n for name, n in self._needs.amounts().items()))


def identity() -> dict[str, str]:
    """The versions of all that changes or runs models, and the hash of this tool's own code."""
    return {**environment().versions, "edgetool": code_sha256()}


def run_trial(order: Order) -> Tried | Refused | EdgetoolError:
    """One trial on a node, by the warm worker of this process. The path of its file is relative to `work_folder()`."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    job = order.job
    try:
        reason = unlike(order, identity())
        if reason is not None:
            return Refused(node, f"node {node[:8]}: {reason}")
        results = Results(work_folder(), SharedStore(order.store))
        job = dataclasses.replace(job, source=results.received(job.source), baseline=results.received(job.baseline))
        for name in THREADS:
            os.environ[name] = str(max(1, int(order.cores)))
        with beside_others(LOCK):
            one = attempt(job, results, _warm(os.environ.get("CUDA_VISIBLE_DEVICES")))
    except EdgetoolError as error:
        return error
    except OSError as error:
        expected = from_system(error)
        if expected is None:
            raise
        return expected
    if one.artifact is None or one.artifact.sha256 == job.source.sha256:
        return one
    return dataclasses.replace(
        one, artifact=dataclasses.replace(one.artifact, path=one.artifact.path.relative_to(results.work))
    )


def unlike(order: Order, here: Mapping[str, str]) -> str | None:
    """Why a node with these versions may not run a trial: other versions, other code, other data; None where it may."""
    wanted = dict(order.versions)
    for name in sorted({*wanted, *here}):
        if wanted.get(name) != here.get(name):
            found, asked = ((one.get(name) or "missing")[:12] for one in (here, wanted))
            return f"{name} is {found} there, {asked} here"
    try:
        data = load_source(order.job.recipe.task, order.job.source).sha256
    except BadInput as error:
        return error.message
    if data != order.job.task_sha256:
        return f"the hash of the data is {data[:12]} there, {order.job.task_sha256[:12]} here"
    return None


def work_folder() -> Path:
    """Where a node keeps its results: $XDG_CACHE_HOME/edgetool/cluster, or its usual place below the home folder."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "edgetool" / "cluster"


@lru_cache(maxsize=1)
def _warm(gpus: str | None) -> ConversionWorker:
    """The process that all trials of this Ray worker share; another one where Ray gives it other GPUs."""
    del gpus
    return ConversionWorker()


def _everywhere(task: TaskSource) -> str:
    """The data as other processes find them, wherever they start."""
    return str(Path(task.data).absolute()) if Path(task.data).exists() else task.data


def _said(amounts: Mapping[str, float]) -> str:
    plain = {"CPU": "cores", "GPU": "gpus"}
    shown = {plain.get(name, name): n for name, n in amounts.items() if ":" not in name and "memory" not in name}
    return ", ".join(f"{name}={n:g}" for name, n in shown.items()) or "no cores"


def _connected(address: str) -> Any:
    try:
        import ray
    except ImportError as error:
        raise RuntimeMissing("Ray is not installed", "pip install 'edgetool[cluster]'") from error
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise EnvironmentFailed(
            f"no Ray cluster of this version answers at {address}: {first_line(error)}",
            "start one with `ray start --head`, or see --cluster in docs/search.md",
        ) from error
    return ray
