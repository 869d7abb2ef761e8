"""A search on a real Ray cluster of two nodes, one of which is killed in the middle."""

import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from edge.errors import BadRecipe, EnvironmentFailed
from edge.report import Limits
from edgetool.progress import Silent
from edgetool.recipe import Budget
from edgetool.results import Results
from edgetool.search.cluster import Needs, Order, RayWorkers, identity, parse_needs, unlike
from edgetool.search.local import LocalWorkers
from edgetool.search.record import ATTRIBUTE, Record
from edgetool.search.run import search
from edgetool.search.trial import Job
from edgetool.shared_store import SharedStore
from tests.edgetool.search import real

LIMITS = Limits(max_drop=1.0)
ONE_CORE = Needs()
PLACE = "place"
PATIENCE_S = 180.0
IN_A_PLACE = Needs(named=((PLACE, 1.0),))
TRIALS = real.SPACE.size
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


def patient(start: Callable[[], Any]) -> Any:
    """Ray gives up on a node that is not there after 30 seconds, which a busy machine may need."""
    for _ in range(3):
        try:
            return start()
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
    pytest.skip("Ray did not start a node within 30 seconds, three times: this machine is too busy")


class Nodes:
    """A cluster of this machine: every node has one core and a folder for its results."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self._folder = folder
        self.cluster = patient(lambda: Cluster(initialize_head=True, head_node_args=self._arguments("head")))

    def add(self, name: str, **environment: str) -> Any:
        """A node that has a PLACE, which the head has not."""
        settings = {**self._arguments(name, environment), "resources": {PLACE: 1}}
        return patient(lambda: self.cluster.add_node(**settings))

    def work(self, name: str) -> Path:
        return self._folder / name / "edgetool" / "cluster"

    def _arguments(self, name: str, environment: dict[str, str] | None = None) -> dict[str, Any]:
        own = self._folder / name
        (own / "tmp").mkdir(parents=True, exist_ok=True)  # with a race lock of its own: others may time here
        return {
            "num_cpus": 1,
            "object_store_memory": 80 << 20,
            "include_dashboard": False,
            "env_vars": {"XDG_CACHE_HOME": str(own), "TMPDIR": str(own / "tmp"), **(environment or {})},
        }


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    pytest.importorskip("ray", reason="Ray is not installed: the extra `cluster`")
    made = Nodes(tmp_path_factory.mktemp("nodes"))
    yield made
    made.cluster.shutdown()


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return real.job(tmp_path_factory.mktemp("model"))


def on_cluster(nodes: Nodes, folder: Path, store: Path, needs: Needs = ONE_CORE) -> RayWorkers:
    return RayWorkers(nodes.cluster.address, None, needs, Results(folder, SharedStore(str(store))))


def test_a_trial_whose_node_is_killed_is_run_on_another_and_counted_once(
    nodes: Nodes, job: Job, tmp_path: Path
) -> None:
    doomed = nodes.add("doomed")
    work = nodes.work("doomed")
    record = Record(str(tmp_path / "journal"), "study", real.SPACE, 2, lambda _: None)
    with (
        ThreadPoolExecutor(1) as pool,
        on_cluster(nodes, tmp_path / "here", tmp_path / "store", IN_A_PLACE) as executor,
    ):
        budget = Budget(TRIALS)
        searching = pool.submit(search, real.SPACE, job, "study", budget, LIMITS, executor, record, None, Silent())
        while not (in_flight := list(work.glob(".making-*"))) and not searching.done():
            time.sleep(0.005)
        nodes.cluster.remove_node(doomed, allow_graceful=False)
        following = nodes.add("next")
        found = searching.result(PATIENCE_S)
    assert in_flight, "no trial was in flight"
    assert nodes.work("next").is_dir()
    assert [one.number for one in found.trials] == list(range(TRIALS))
    assert sorted(json.loads(trial.user_attrs[ATTRIBUTE])["number"] for trial in record._study.trials) == list(
        range(TRIALS)
    )
    assert [one.failure for one in found.trials] == [None] * TRIALS
    assert all(one.artifact is not None and one.artifact.path.is_file() for one in found.trials)

    # one machine that has the store finds the same without making anything
    again = Record(str(tmp_path / "again"), "study", real.SPACE, 2, lambda _: None)
    elsewhere = Results(tmp_path / "other", SharedStore(str(tmp_path / "store")))
    with LocalWorkers(1, elsewhere, tmp_path / "lock") as local:
        same = search(real.SPACE, job, "study", Budget(TRIALS), LIMITS, local, again, None, Silent())
        assert local._all[0]._process is None
    assert [one.objectives() for one in same.trials] == [one.objectives() for one in found.trials]
    assert same.sequences == found.sequences
    nodes.cluster.remove_node(following)


def test_a_node_with_other_versions_takes_no_part(nodes: Nodes, job: Job, tmp_path: Path) -> None:
    other = tmp_path / "packages" / "keras-9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: keras\nVersion: 9.9\n")
    odd = nodes.add("odd", PYTHONPATH=str(other.parent))
    asked = [dataclasses.replace(job, number=n, point=(n,), sequence=real.SPACE.sequence((n,))) for n in range(3)]
    with (
        on_cluster(nodes, tmp_path / "here", tmp_path / "store", IN_A_PLACE) as executor,
        pytest.raises(EnvironmentFailed, match=f"no node .*: node {odd.node_id[:8]}: keras is 9.9 there"),
    ):
        executor.submit(asked[0]).result(PATIENCE_S)
    with on_cluster(nodes, tmp_path / "here", tmp_path / "store") as executor:
        found = [future.result(PATIENCE_S) for future in [executor.submit(one) for one in asked]]
        assert [one.number for one in found] == [0, 1, 2]
        assert set(executor._refused) <= {odd.node_id}
    assert not nodes.work("odd").exists()
    nodes.cluster.remove_node(odd)


def test_where_every_node_has_other_data_the_search_ends(nodes: Nodes, job: Job, tmp_path: Path) -> None:
    stranger = dataclasses.replace(job, task_sha256="0" * 64, sequence=real.SPACE.sequence((0,)))
    with (
        on_cluster(nodes, tmp_path / "here", tmp_path / "store") as executor,
        pytest.raises(EnvironmentFailed, match=r"no node .*: the hash of the data is \w{12} there, 000000000000 here"),
    ):
        executor.submit(stranger).result(PATIENCE_S)


def test_what_no_node_has_is_refused_at_once(nodes: Nodes, tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match=r"what a trial needs: cores=1, gpus=2, coral=1; the nodes have cores=1"):
        on_cluster(nodes, tmp_path, tmp_path / "store", Needs(gpus=2, named=(("coral", 1.0),)))


def test_a_cluster_needs_a_store_that_all_nodes_see(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="a store that all its nodes see"):
        RayWorkers("auto", None, Needs(), Results(tmp_path))


def test_other_code_and_missing_data_are_named(job: Job) -> None:
    order = Order(job, "", tuple(identity().items()), 1.0)
    assert unlike(order, identity()) is None
    assert unlike(order, {**identity(), "edgetool": "f" * 64}) == (
        f"edgetool is {'f' * 12} there, {identity()['edgetool'][:12]} here"
    )
    recipe = dataclasses.replace(job.recipe, task=dataclasses.replace(job.recipe.task, data="/nowhere/at/all.csv"))
    elsewhere = dataclasses.replace(order, job=dataclasses.replace(job, recipe=recipe))
    assert "no data at /nowhere/at/all.csv" in (unlike(elsewhere, identity()) or "")


def test_what_a_trial_needs() -> None:
    assert parse_needs("cores=2,gpus=0.5,raspberrypi5=1") == Needs(2.0, 0.5, (("raspberrypi5", 1.0),))
    assert parse_needs("gpus=1").cores == 1.0
    for text in ("cores", "cores=-1", "=2", "cores=inf", ""):
        with pytest.raises(BadRecipe, match="what a trial needs"):
            parse_needs(text)
