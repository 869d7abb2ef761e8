import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edge import frames, worker
from edge.engines import open_engine, predict
from edge.engines.fake import FakeModel
from edge.engines.feeds import fixed
from edge.frames import Frame
from edge.tensors import Quantization, TensorSpec
from edge.worker import Worker

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def fake(tmp_path):
    def make(**settings) -> dict:
        path = tmp_path / "model.fake"
        path.write_bytes(FakeModel(**settings).to_bytes())
        return {"op": "load", "path": str(path), "format": "fake", "threads": 1, "delegate": "cpu"}

    return make


def answers(*requests: Frame) -> list[Frame]:
    """The replies of one worker over plain streams: the protocol needs no process."""
    sent, replies = io.BytesIO(), io.BytesIO()
    for request in requests:
        frames.write(sent, request)
    sent.seek(0)
    worker.serve(sent, replies)
    replies.seek(0)
    return list(iter(lambda: frames.read(replies), None))


def test_serve_runs_over_any_pair_of_streams_until_stop(fake):
    load, status, last = answers(
        Frame(fake()), Frame({"op": "status"}), Frame({"op": "time", "calls": 3}), Frame({"op": "stop"}), Frame({})
    )
    assert load.message["ok"]
    assert load.message["engine"] == "fake"
    assert status.message["first_ms"] is None
    assert last.arrays["seconds"].shape == (3,)


def test_predict_stacks_what_single_runs_give(fake):
    inputs = (TensorSpec("a", (1, 2, 2), "float32"), TensorSpec("b", (1, 3), "int8", Quantization(0.5, 1)))
    outputs = (TensorSpec("y", (1, 4), "float32"), TensorSpec("q", (1, 2), "uint8", Quantization(1 / 64, 128)))
    rng = np.random.default_rng(3)
    feeds = {"a": rng.normal(size=(5, 2, 2)), "b": rng.normal(size=(5, 3)).astype(np.float32)}
    _, reply = answers(Frame(fake(inputs=inputs, outputs=outputs)), Frame({"op": "predict"}, feeds))
    engine = open_engine(FakeModel(inputs, outputs).to_bytes(), "fake")
    assert reply.arrays["y"].shape == (5, 4)
    assert reply.arrays["q"].dtype == np.float32
    for i in range(5):
        one = predict(engine, {name: values[i : i + 1] for name, values in feeds.items()})
        for name, values in one.items():
            np.testing.assert_array_equal(reply.arrays[name][i : i + 1], values)


def test_predict_keeps_a_fixed_batch_and_stacks_outputs_without_one(fake):
    model = {"inputs": (TensorSpec("x", (2, 3), "float32"),), "outputs": (TensorSpec("y", (), "float32"),)}
    x = np.arange(18, dtype=np.float32).reshape(6, 3)
    _, reply, odd = answers(
        Frame(fake(**model)), Frame({"op": "predict"}, {"x": x}), Frame({"op": "predict"}, {"x": x[:5]})
    )
    np.testing.assert_allclose(reply.arrays["y"], [np.cos(x[i : i + 2].sum()) for i in (0, 2, 4)], atol=1e-6)
    assert "5 examples are no multiple" in odd.message["message"]


@pytest.mark.parametrize(
    ("arrays", "kind", "told"),
    [
        ({"input": np.zeros((2, 5), np.float32)}, "BadData", "takes shape [1, 4], got [1, 5]"),
        ({"other": np.zeros((2, 4), np.float32)}, "BadData", "no input 'other'"),
        ({"input": np.zeros((0, 4), np.float32)}, "BadData", "examples cannot be run together"),
        ({}, "BadData", "examples cannot be run together"),
        ({"input": np.zeros((2, 4), np.int32)}, "BadData", "takes float32, got int32"),
    ],
)
def test_what_cannot_be_run_is_answered_and_the_worker_goes_on(fake, arrays, kind, told):
    _, bad, good = answers(Frame(fake()), Frame({"op": "predict"}, arrays), Frame({"op": "time", "calls": 1}))
    assert bad.message["error"] == kind
    assert told in bad.message["message"]
    assert len(good.arrays["seconds"]) == 1


def test_requests_out_of_order_or_unknown_are_answered():
    no_model, unknown, no_file = answers(
        Frame({"op": "time", "calls": 1}),
        Frame({"op": "dance"}),
        Frame({"op": "load", "path": "none.tflite", "format": "fake", "threads": 1, "delegate": "cpu"}),
    )
    assert no_model.message == {
        "error": "BadRecipe",
        "message": "no model is loaded",
        "hint": "send a load request first",
    }
    assert "'dance'" in unknown.message["message"]
    assert no_file.message["error"] == "BadModel"


def test_a_bug_comes_back_with_its_traceback():
    (reply,) = answers(Frame({"op": "load"}))
    assert reply.message["error"] == "Exception"
    assert "KeyError: 'format'" in reply.message["message"]


def test_durations_hold_the_latency_and_a_planted_slowdown(fake):
    handler = Worker()
    handler.answer(Frame(fake(latency_ms=2.0)))

    def quickest(**how) -> float:
        return float(np.min(handler.answer(Frame({"op": "time", "calls": 30, **how})).arrays["seconds"])) * 1e3

    # busy-waits never end early; other processes only ever add to a run, hence the quickest
    assert 2.0 <= quickest() < 2.5
    assert 3.0 <= quickest(slowdown=0.5) < 3.75


def test_seconds_are_filled_and_min_calls_kept(fake):
    handler = Worker()
    handler.answer(Frame(fake(latency_ms=1.0)))
    for seconds, low, high in ((0.2, 5, 201), (0.0, 4, 4)):
        reply = handler.answer(Frame({"op": "time", "calls": None, "seconds": seconds, "min_calls": 4, "lead_in": 2}))
        assert low <= len(reply.arrays["seconds"]) <= high


def test_the_first_run_is_told_apart(fake):
    handler = Worker()
    handler.answer(Frame(fake(latency_ms=3.0)))
    handler.answer(Frame({"op": "time", "calls": 1}))
    status = handler.answer(Frame({"op": "status"})).message
    assert status["first_ms"] >= 3.0
    assert status["cpu_s"] > 0
    handler.answer(Frame(fake()))
    assert handler.answer(Frame({"op": "status"})).message["first_ms"] is None


def test_peak_memory_grows_with_what_was_touched():
    """In a process of its own: a peak counts from the highest that was ever reached."""
    code = (
        "import numpy as np\n"
        "from edge.worker import peak_rss_bytes\n"
        "before = peak_rss_bytes()\n"
        "block = np.ones(64 << 20, np.uint8)\n"
        "print('unknown' if before is None else peak_rss_bytes() - before)"
    )
    grown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    if grown == "unknown":
        pytest.skip("/proc/self/status does not tell VmHWM here")
    assert int(grown) > 32 << 20


def test_timing_uses_the_native_dtype(fake):
    specs = (TensorSpec("x", (1, 2), "int8", Quantization(0.5, 0)),)
    handler = Worker()
    handler.answer(Frame(fake(inputs=specs)))
    assert len(handler.answer(Frame({"op": "time", "calls": 2})).arrays["seconds"]) == 2
    assert fixed(specs)["x"].dtype == np.int8


def test_a_worker_dies_with_its_parent_even_while_it_runs(tmp_path):
    model = tmp_path / "hangs.fake"
    model.write_bytes(FakeModel(hang_at=1).to_bytes())
    parent = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from edge.runtime_process import RuntimeProcess\n"
        "from edge.frames import Frame, write\n"
        "p = RuntimeProcess(); p.start(); p.load(Path(sys.argv[1]), 'fake')\n"
        "write(p._process.stdin, Frame({'op': 'time', 'calls': 1}))\n"
        "print(p._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", parent, str(model)], cwd=ROOT, stdout=subprocess.PIPE)
    pid = int(process.stdout.readline())
    time.sleep(0.1)
    assert alive(pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    end = time.monotonic() + 10
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not alive(pid)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # nobody may be there to reap it


def test_a_worker_ends_when_its_input_does_and_refuses_what_is_no_frame():
    command = [sys.executable, "-m", "edge.worker"]
    ended = subprocess.run(command, cwd=ROOT, input=b"", capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, b"")
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        process.stdin.write(b"GET / HTTP/1.1\r\n\r\n")
        process.stdin.flush()
        assert b"no frame: it begins with b'GET" in process.stderr.read()
        assert process.wait() == 1
