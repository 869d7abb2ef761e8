import os
import signal
import threading
import time

import pytest

from edge.errors import BadRecipe, CheckFailed, EnvironmentFailed, ProcessCrashed, UnknownName
from edgetool.progress import Silent
from edgetool.serve.server import serve
from edgetool.serve.settings import Settings
from tests.edgetool.serve import bundles
from tests.edgetool.serve.server import Server, refused

INPUT = {"input": [0.25, 0.25, 0.25, 0.25]}


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def in_background(call, number):
    """The results of `number` concurrent calls, filled in when their threads are joined."""
    results = []
    threads = [threading.Thread(target=lambda: results.append(call())) for _ in range(number)]
    for thread in threads:
        thread.start()
    return threads, results


@pytest.mark.parametrize(
    ("changes", "settings", "kind", "says"),
    [
        ({"shift": 0.5}, {}, CheckFailed, r"differs by 0\.5 from the golden vectors"),
        ({"crash_at": 0}, {}, ProcessCrashed, r"was killed by SIGSEGV while loading fake\.fake"),
        ({"crash_at": 2, "crash_signal": "SIGABRT"}, {}, ProcessCrashed, "was killed by SIGABRT"),
        ({}, {"delegate": "cpuu"}, UnknownName, "cpuu"),
        ({"planted_fallback": ("WHILE",)}, {"delegate": "planted"}, CheckFailed, "1 of 2 operations did not run"),
        ({"planted_wrong": 0.5}, {"delegate": "planted"}, CheckFailed, r"differs by 0\.5"),
        ({}, {"workers": 0}, BadRecipe, "at least 1"),
        ({}, {"queue": -1}, BadRecipe, "queue is -1"),
        ({}, {"timeout_s": 0}, BadRecipe, "time limit is 0 s"),
        ({}, {"port": 70000}, BadRecipe, "port is 70000"),
        ({}, {"host": "192.0.2.1"}, BadRecipe, "no address of this machine"),
        ({}, {"host": "no such host"}, BadRecipe, "is no address"),
    ],
)
def test_what_is_not_proven_is_not_served(tmp_path, changes, settings, kind, says):
    bundle = bundles.fake(tmp_path, **changes)
    with pytest.raises(kind, match=says):
        serve([bundle], Settings(**{"port": 0, **settings}), "x" * 20, progress=Silent(), announce=never)


def never(url, models):
    raise AssertionError(f"it serves {models} on {url}")


def test_the_command_line_says_it_in_one_line(tmp_path):
    code, err = refused(bundles.fake(tmp_path, shift=0.5))
    assert code == 1
    assert [line.partition(":")[0] for line in err.splitlines()[-2:]] == ["error", "hint"]
    code, err = refused(tmp_path / "a.edge", options=("--token", "x" * 20, "--no-token"))
    assert (code, "exclude each other" in err) == (2, True)


def test_a_port_that_is_taken(tmp_path, served):
    with pytest.raises(EnvironmentFailed, match="Address already in use"):
        serve([bundles.fake(tmp_path)], Settings(port=served.port), "x" * 20, progress=Silent(), announce=never)


def test_a_fallback_that_is_allowed_is_served_and_told(tmp_path):
    bundle = bundles.fake(tmp_path, planted_fallback=("WHILE",))
    with Server(bundle, options=("--delegate", "planted", "--allow-fallback", "WHILE")) as server:
        placement = server.ask("/v1/models")[2]["models"][0]["placement"]
        assert placement["fallback_ops"] == [{"op": "WHILE", "reason": "planted: the delegate lacks it"}]
        assert "on planted, 1 of 2 operations" in server.lines[1]


def test_a_runtime_that_aborts_costs_one_answer(tmp_path):
    with Server(bundles.fake(tmp_path, crash_at=4, crash_signal="SIGABRT")) as server:
        for _ in range(2):
            assert server.predict("fake", INPUT)[0] == 200
            status, headers, content = server.ask("/v1/models/fake/predict", {"inputs": INPUT})
            assert (status, content["error"]["kind"], headers["retry-after"]) == (503, "crashed", "1")
            assert "was killed by SIGABRT" in content["error"]["message"]
            assert server.ask("/health")[0] == 200
        until(lambda: server.metric('edgetool_worker_restarts_total{model="fake"}') == 2)
        assert server.ask("/ready")[0] == 200
        assert server.metric('edgetool_errors_total{kind="crashed",model="fake"}') == 2
        code, err = server.stop()
    assert code == 0
    assert "fake: the worker was killed by SIGABRT" in err
    assert "fake runs in a new process" in err


def test_a_worker_that_is_killed_is_replaced(tmp_path):
    with Server(bundles.fake(tmp_path)) as server:
        (worker,) = server.children()
        os.kill(worker, signal.SIGKILL)
        status, content = server.predict("fake", INPUT)
        assert (status, content["error"]["kind"]) == (503, "crashed")
        assert server.predict("fake", INPUT)[0] == 200
        assert server.children() != [worker]


def test_a_model_that_hangs_is_cut_off(tmp_path):
    with Server(bundles.fake(tmp_path, hang_at=3), options=("--timeout", "500ms")) as server:
        status, headers, content = server.ask("/v1/models/fake/predict", {"inputs": INPUT})
        assert (status, content["error"]["kind"], headers["retry-after"]) == (504, "timeout", "1")
        until(lambda: server.metric('edgetool_worker_restarts_total{model="fake"}') == 1)
        assert server.ask("/ready")[0] == 200


def test_a_full_queue_refuses_and_counts(tmp_path):
    options = ("--queue", "1", "--timeout", "20s")
    with Server(bundles.fake(tmp_path, latency_ms=700), options=options) as server:
        threads, results = in_background(lambda: server.ask("/v1/models/fake/predict", {"inputs": INPUT}), 4)
        for thread in threads:
            thread.join()
        assert sorted(status for status, _, _ in results) == [200, 200, 503, 503]
        full = next(result for result in results if result[0] == 503)
        assert (full[1]["retry-after"], full[2]["error"]["kind"]) == ("1", "queue_full")
        assert server.metric('edgetool_predict_calls_total{model="fake"}') == 4
        assert server.metric('edgetool_errors_total{kind="queue_full",model="fake"}') == 2
        assert server.metric('edgetool_predict_seconds_count{model="fake"}') == 2
        assert server.metric('edgetool_inference_seconds_bucket{le="0.5",model="fake"}') == 0
        assert server.metric('edgetool_inference_seconds_bucket{le="+Inf",model="fake"}') == 2
        assert len(server.ask("/v1/models")[2]["models"][0]["recent_ms"]) == 2


def test_several_workers_answer_at_once_and_stop_together(tmp_path):
    with Server(bundles.fake(tmp_path), options=("--workers", "2")) as server:
        assert len(server.children()) == 2
        threads, results = in_background(lambda: server.predict("fake", INPUT)[0], 20)
        for thread in threads:
            thread.join()
        assert results == [200] * 20
        code, _ = server.stop()
        assert code == 0


def test_a_model_that_keeps_state_starts_anew_for_each_request(tmp_path):
    with Server(bundles.running(tmp_path)) as server:
        first = server.predict("running", {"x": [1, 2, 3, 4]})
        assert first[0] == 200
        assert server.predict("running", {"x": [1, 2, 3, 4]})[1]["outputs"] == first[1]["outputs"]
