import importlib.util
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edge.engines import open_engine, predict
from edge.engines.fake import FakeModel
from edge.engines.feeds import fixed
from edge.errors import BadData, BadModel, EnvironmentFailed, ProcessCrashed, UnknownName
from edge.frames import Frame
from edge.report import Placement
from edge.runtime_process import STOP_S, RuntimeProcess

DATA = Path(__file__).parent / "data"
MODELS = [
    pytest.param(
        file,
        marks=pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"{module} is not installed"),
    )
    for file, module in (
        ("tiny.tflite", "ai_edge_litert"),
        ("tiny_int8.tflite", "ai_edge_litert"),
        ("tiny.onnx", "onnxruntime"),
    )
]


@pytest.fixture
def fake(tmp_path):
    def make(**settings) -> Path:
        path = tmp_path / "model.fake"
        path.write_bytes(FakeModel(**settings).to_bytes())
        return path

    return make


@pytest.mark.parametrize("file", MODELS)
def test_a_worker_gives_what_the_engine_gives_here(file):
    engine = open_engine(DATA / file, file.split(".")[1])
    images = np.random.default_rng(5).random((4, *engine.inputs[0].example_shape), np.float32)
    with RuntimeProcess() as process:
        loaded = process.load(DATA / file, file.split(".")[1])
        assert (loaded.engine, loaded.inputs, loaded.outputs) == (engine.name, engine.inputs, engine.outputs)
        assert loaded.placement == engine.placement()
        assert loaded.load_ms > 0
        scores = process.predict({"image": images})["scores"]
        assert process.status().first_ms > 0
        seconds = process.time(calls=20, lead_in=2)
        assert seconds.shape == (20,)
        assert (seconds > 0).all()
    for i in range(4):
        np.testing.assert_array_equal(scores[i : i + 1], predict(engine, {"image": images[i : i + 1]})["scores"])


def test_one_worker_loads_one_model_after_another(fake):
    with RuntimeProcess() as process:
        for width in (2, 3):
            spec = FakeModel().inputs[0]
            loaded = process.load(fake(inputs=(type(spec)("x", (1, width), "float32"),)), "fake")
            assert loaded.inputs[0].shape == (1, width)
            assert loaded.placement == Placement("cpu", "cpu", 1, 1, partitions=1)
            assert process.predict({"x": np.zeros((2, width), np.float32)})["output"].shape == (2, 3)


def test_expected_errors_keep_their_class_and_hint_and_the_worker_lives(fake, tmp_path):
    with RuntimeProcess() as process:
        with pytest.raises(BadModel, match="no model file"):
            process.load(tmp_path / "none.fake", "fake")
        with pytest.raises(UnknownName, match="unknown model format: 'onn'") as caught:
            process.load(fake(), "onn")
        assert caught.value.hint == "did you mean onnx?"
        process.load(fake(), "fake")
        with pytest.raises(BadData, match="no input 'nothing'"):
            process.predict({"nothing": np.zeros((1, 4), np.float32)})
        with pytest.raises(BadData, match="which no frame carries"):
            process.predict({"input": np.array([["text"]])})
        assert process.predict({"input": np.zeros((1, 4), np.float32)})["output"].shape == (1, 3)


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL"])
def test_a_crash_names_the_signal_and_what_was_going_on(fake, name):
    with RuntimeProcess() as process:
        process.load(fake(crash_at=3, crash_signal=name), "fake")
        with pytest.raises(ProcessCrashed, match=f"was killed by {name} while timing model.fake"):
            process.time(calls=5)
        with pytest.raises(ProcessCrashed):
            process.time(calls=5)


def test_a_crash_at_load_says_so(fake):
    with RuntimeProcess() as process, pytest.raises(ProcessCrashed, match=r"SIGSEGV while loading model\.fake"):
        process.load(fake(crash_at=0), "fake")


def test_a_worker_killed_from_outside_while_idle_is_noticed(fake):
    with RuntimeProcess() as process:
        process.load(fake(), "fake")
        os.kill(process._process.pid, signal.SIGKILL)
        with pytest.raises(ProcessCrashed, match="SIGKILL") as caught:
            process.predict({"input": np.zeros((1, 4), np.float32)})
        assert "memory" in caught.value.hint


def test_a_hang_ends_at_its_time_limit(fake):
    start = time.monotonic()
    with RuntimeProcess() as process:
        process.load(fake(hang_at=1), "fake")
        with pytest.raises(EnvironmentFailed, match=r"no answer within 0\.3 s while timing model\.fake") as caught:
            process.time(calls=1, limit_s=0.3)
        assert not isinstance(caught.value, ProcessCrashed)
    assert time.monotonic() - start < 10


def test_a_request_larger_than_a_pipe_meets_a_hung_worker(fake):
    """The write itself blocks here: the limit holds for it too."""
    program = "import time; time.sleep(60)"
    with RuntimeProcess([sys.executable, "-c", program]) as process:
        big = Frame({"op": "predict"}, {"input": np.zeros((1 << 20, 4), np.float32)})
        with pytest.raises(EnvironmentFailed, match="no answer within"):
            process.request(big, "writing", 0.3)


def test_closing_in_the_middle_of_a_request_does_not_wait(fake):
    with RuntimeProcess() as process:
        process.load(fake(hang_at=1), "fake")
        pid = process._process.pid
        failed = []

        def run() -> None:
            try:
                process.time(calls=1)
            except EnvironmentFailed as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(0.2)
        os.kill(pid, signal.SIGKILL)
        thread.join(10)
        assert len(failed) == 1


def test_what_a_program_prints_does_not_pass_for_a_frame():
    for program, told in (
        ("print('hello there, this is no frame')", "no frame: it begins with b'hello"),
        ("import sys; sys.exit('I cannot\\nfor this reason')", "ended with exit code 1 while asking: for this reason"),
    ):
        with RuntimeProcess([sys.executable, "-c", program]) as process, pytest.raises(EnvironmentFailed, match=told):
            process.request(Frame({"op": "status"}), "asking", 10)


def test_output_of_a_runtime_on_standard_output_stays_out_of_the_protocol(fake):
    noisy = (
        "import os, sys\n"
        "import edge.engines.fake as fake\n"
        "run = fake.FakeEngine.run\n"
        "def loud(self, feeds):\n"
        "    os.write(1, b'native output\\n'); print('python output', flush=True)\n"
        "    return run(self, feeds)\n"
        "fake.FakeEngine.run = loud\n"
        "from edge.worker import main\n"
        "main()\n"
    )
    with RuntimeProcess([sys.executable, "-c", noisy]) as process:
        process.load(fake(crash_at=4), "fake")
        assert len(process.time(calls=2)) == 2
        with pytest.raises(ProcessCrashed, match=r"SIGSEGV while timing model\.fake: python output"):
            process.time(calls=5)


def test_a_bug_in_the_worker_is_not_taken_for_an_expected_error():
    with RuntimeProcess() as process, pytest.raises(RuntimeError, match="KeyError"):
        process.request(Frame({"op": "load"}), "loading", 30)


def test_a_command_that_does_not_exist_and_a_worker_not_started():
    with pytest.raises(EnvironmentFailed, match="cannot start /no/such/program"):
        RuntimeProcess(["/no/such/program"]).start()
    with pytest.raises(EnvironmentFailed, match="no worker process is running"):
        RuntimeProcess().status()


def test_a_module_in_the_working_folder_is_not_run(fake, tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit('the user folder was imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    path = fake()
    with RuntimeProcess() as process:
        # a relative path is the client's, wherever the worker runs
        assert process.load(Path(path.name), "fake").engine == "fake"


def test_close_is_quick_and_leaves_no_process(fake):
    process = RuntimeProcess()
    process.start()
    process.load(fake(), "fake")
    pid = process._process.pid
    start = time.monotonic()
    process.close()
    process.close()
    assert time.monotonic() - start < STOP_S  # it ended by itself: after that it would have been killed
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert fixed(FakeModel().inputs)["input"].shape == (1, 4)
