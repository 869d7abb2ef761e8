"""Results that travel between machines: whole, once, and patiently."""

import contextlib
import os
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgetool.patience
from edge.artifact import Artifact, sha256_of
from edge.errors import BadRecipe, EnvironmentFailed, from_system
from edgetool.results import Results
from edgetool.shared_store import SharedStore
from tests.edgetool.test_workspace import make_file


def made_twice(_: Path) -> None:
    pytest.fail("made twice")


def test_what_one_machine_made_another_has(tmp_path: Path) -> None:
    store = tmp_path / "store"
    one = Results(tmp_path / "one", SharedStore(str(store)))
    first = one.cached_pass("k", make_file)
    one.cached_file("outputs", lambda: b"1")
    one.cached_file("times", lambda: b"2", of_this_machine=True)
    other = Results(tmp_path / "other", SharedStore(str(store)))
    second = other.cached_pass("k", made_twice)  # type: ignore[arg-type]  # it never returns
    assert second.artifact.sha256 == first.artifact.sha256
    assert second.artifact.path == tmp_path / "other" / "k" / "model.tflite"
    assert second.skipped == first.skipped
    assert other.cached_file("outputs", lambda: pytest.fail("made twice")) == b"1"
    assert other.cached_file("times", lambda: b"3", of_this_machine=True) == b"3"
    assert sorted(path.name for path in store.iterdir()) == ["k.tar", "outputs"]


def test_a_result_from_before_the_store_is_shared(tmp_path: Path) -> None:
    Results(tmp_path / "one").cached_pass("k", make_file)
    Results(tmp_path / "one", SharedStore(str(tmp_path / "store"))).cached_pass("k", made_twice)  # type: ignore[arg-type]  # it never returns
    other = Results(tmp_path / "other", SharedStore(str(tmp_path / "store")))
    assert other.cached_pass("k", made_twice).artifact.path.read_bytes() == b"weights"  # type: ignore[arg-type]  # as above


def test_models_are_sent_and_results_are_brought(tmp_path: Path) -> None:
    here = Results(tmp_path / "here", SharedStore(str(tmp_path / "store")))
    there = Results(tmp_path / "there", SharedStore(str(tmp_path / "store")))
    folder = tmp_path / "saved"
    (folder / "variables").mkdir(parents=True)
    (folder / "variables" / "a").write_bytes(b"1")
    model = Artifact(folder, "savedmodel", (), (), sha256_of(folder))
    with pytest.raises(EnvironmentFailed, match="any more"):
        there.received(model)
    here.send(model)
    got = there.received(model)
    assert sha256_of(got.path) == model.sha256
    assert got.path.is_relative_to(tmp_path / "there")
    result = there.cached_pass("k", make_file).artifact
    relative = Artifact(result.path.relative_to(there.work), "tflite", (), (), result.sha256)
    assert here.brought(relative).path.read_bytes() == b"weights"
    (got.path / "variables" / "a").write_bytes(b"2")
    with pytest.raises(EnvironmentFailed, match="not the model that was sent"):
        there.received(model)


def test_a_folder_that_goes_away_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edgetool.patience, "WAIT_S", 0.05)
    said: list[str] = []
    folder = tmp_path / "mounted"
    store = SharedStore(str(folder / "store"), said.append)
    store.put("a", b"1")
    folder.rename(tmp_path / "unplugged")
    folder.write_text("")  # what was a folder is none: every access fails, as on a share whose server is gone

    def back() -> None:
        while not said:
            time.sleep(0.01)
        folder.unlink()
        (tmp_path / "unplugged").rename(folder)

    returning = threading.Thread(target=back)
    returning.start()
    store.put("b", b"2")
    returning.join()
    assert (store.fetch("a"), store.fetch("b"), store.fetch("c")) == (b"1", b"2", None)
    assert said[0].startswith(f"waiting for the store {folder / 'store'}: ")


def test_a_folder_that_stays_away_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edgetool.patience, "PATIENCE_S", 0.0)
    monkeypatch.setattr(edgetool.patience, "WAIT_S", 0.01)
    store = SharedStore(str(tmp_path / "gone" / "store"))
    (tmp_path / "gone").write_text("")
    with pytest.raises(EnvironmentFailed, match="was away for 0 s"):
        store.fetch("a")


@pytest.mark.parametrize("address", ["nothing://x", "README.md"])
def test_an_address_that_is_no_store_is_bad_input(address: str) -> None:
    with pytest.raises(BadRecipe, match="the store"):
        SharedStore(address)


def test_a_full_disk_under_the_store_is_said_and_leaves_nothing_half(tmp_path: Path) -> None:
    """A file system of 64 kB that this test mounts."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        store = SharedStore(str(small))
        store.put("fits", b"1")
        with pytest.raises(OSError, match="No space left") as full:
            store.put("large", os.urandom(1 << 20))
        assert "disk is full" in str(from_system(full.value))
        assert [path.name for path in small.iterdir()] == ["fits"]
    finally:
        subprocess.run(["umount", small], check=True)


def test_an_archive_that_is_damaged_is_said(tmp_path: Path) -> None:
    store = SharedStore(str(tmp_path / "store"))
    store.put("k.tar", b"half")
    with pytest.raises(EnvironmentFailed, match=r"k\.tar in the shared store is damaged"):
        Results(tmp_path / "work", store).cached_pass("k", make_file)


def test_an_archive_writes_nowhere_else(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("")
    (tmp_path / "store").mkdir()
    with tarfile.open(tmp_path / "store" / "k.tar", "w") as archive:
        archive.add(outside, arcname="../escaped")
    with pytest.raises(EnvironmentFailed, match="damaged"):
        Results(tmp_path / "work", SharedStore(str(tmp_path / "store"))).cached_pass("k", make_file)
    assert not (tmp_path / "escaped").exists()


S3 = (sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p")


class S3Server:
    """A program that speaks S3 on the loopback; what it keeps is gone when it stops."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen((*S3, str(self.port)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        import boto3

        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                break
            time.sleep(0.05)
        boto3.client("s3", endpoint_url=f"http://127.0.0.1:{self.port}").create_bucket(Bucket="results")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    pytest.importorskip("s3fs", reason="s3fs is not installed: the extra `cluster`")
    pytest.importorskip("moto", reason="moto, which speaks S3, is not installed: the extra `dev`")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = S3Server()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.port}")
    yield server
    server.stop()


def test_results_travel_by_s3_and_a_server_that_goes_away_is_waited_for(s3: S3Server, tmp_path: Path) -> None:
    said: list[str] = []
    store = SharedStore("s3://results/search", said.append)
    first = Results(tmp_path / "one", store).cached_pass("k", make_file)
    second = Results(tmp_path / "other", store).cached_pass("k", made_twice)  # type: ignore[arg-type]  # it never returns
    assert second.artifact.sha256 == first.artifact.sha256
    assert (store.has("k.tar"), store.has("l.tar"), store.fetch("l.tar")) == (True, False, None)

    s3.stop()

    def back() -> None:
        while not said:
            time.sleep(0.01)
        s3.start()

    returning = threading.Thread(target=back)
    returning.start()
    store.put("outputs", b"1")
    returning.join()
    assert said[0].startswith("waiting for the store s3://results/search: ")
    assert store.fetch("outputs") == b"1"
    with pytest.raises(BadRecipe, match="there is no store at s3://elsewhere"):
        SharedStore("s3://elsewhere").put("a", b"1")
