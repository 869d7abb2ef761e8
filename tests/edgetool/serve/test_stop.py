import contextlib
import json
import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import pytest

from tests.edgetool.serve import bundles
from tests.edgetool.serve.server import Server

INPUT = {"input": [0.25, 0.25, 0.25, 0.25]}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_taken_is_answered_and_nothing_else_is_taken(tmp_path, number):
    with Server(bundles.fake(tmp_path, latency_ms=500)) as server:
        workers = server.children()
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(server.predict("fake", INPUT)[0])) for _ in range(3)]
        idle = server.connect()
        for thread in threads:
            thread.start()
        while (server.metric('edgetool_pending_requests{model="fake"}') or 0) < 3:
            time.sleep(0.01)
        server.process.send_signal(number)
        with contextlib.closing(idle):
            assert idle.recv(1) == b""  # a connection that asks for nothing is closed
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        for thread in threads:
            thread.join()
        code, err = server.wait()
    assert (code, answers) == (0, [200, 200, 200])
    assert "Traceback" not in err
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


def test_a_second_signal_waits_for_nothing(tmp_path):
    with Server(bundles.fake(tmp_path, hang_at=3), options=("--timeout", "60s")) as server:
        workers = server.children()
        with server.connect() as connection:
            body = json.dumps({"inputs": INPUT}).encode()
            head = f"POST /v1/models/fake/predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            while not server.metric('edgetool_pending_requests{model="fake"}'):
                time.sleep(0.01)
            server.process.send_signal(signal.SIGINT)
            time.sleep(0.3)
            server.process.send_signal(signal.SIGINT)
            assert server.wait()[0] == 130
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


def test_a_bundle_that_changes_on_disk_changes_nothing(tmp_path):
    bundle = bundles.fake(tmp_path)
    with Server(bundle) as server:
        before = server.predict("fake", INPUT)[1]["outputs"]
        sha256 = server.ask("/v1/models")[2]["models"][0]["sha256"]
        bundle.write_bytes(b"something else")
        os.kill(server.children()[0], signal.SIGKILL)  # even the next process gets the bytes that were checked
        assert server.predict("fake", INPUT)[0] == 503
        status, content = server.predict("fake", INPUT)
        assert (status, content["outputs"]) == (200, before)
        assert server.ask("/v1/models")[2]["models"][0]["sha256"] == sha256


def test_no_file_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "scratch").mkdir()
    with Server(bundles.fake(tmp_path)) as server:
        (folder,) = Path(tmp_path / "scratch").glob("edgetool-serve-*")
        assert folder.stat().st_mode & 0o777 == 0o700
        assert server.stop()[0] == 0
    assert not list((tmp_path / "scratch").iterdir())
