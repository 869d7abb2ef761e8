"""Weights by pinned hash: from a file, the shared data, a web server on the loopback, a package's archive."""

import hashlib
import http.server
import io
import os
import stat
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge.errors import BadModel, CheckFailed, EnvironmentFailed, RuntimeMissing, UnknownName
from edgetool.cli.main import app
from edgetool.recipe import read_recipe
from edgetool.weights import KNOWN, Package, Weights, get, kept, known, weights_folder

CONTENT = bytes(range(256)) * 300


def pinned(source: str | Package, content: bytes = CONTENT) -> Weights:
    return replace(
        KNOWN["yunet"], size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest(), source=source, data="no"
    )


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("EDGETOOL_DATA", raising=False)


class _Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/model")
            self.end_headers()
            return
        bodies = {"/model": CONTENT, "/changed": CONTENT[:-1] + b"!", "/endless": CONTENT * 50, "/cut": CONTENT}
        if self.path not in bodies:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(bodies[self.path])))
        self.end_headers()
        self.wfile.write(bodies[self.path][: 1000 if self.path == "/cut" else None])

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_weights_come_from_their_address_and_stay(web: str, tmp_path: Path) -> None:
    said: list[float] = []
    path = get(pinned(f"{web}/moved"), tmp_path / "models", said=said.append)
    assert path.read_bytes() == CONTENT
    assert said[-1] == 1.0
    assert len(said) > 1
    # what is there with the right hash is not fetched again: nothing listens on port 1
    assert get(pinned("http://127.0.0.1:1/"), tmp_path / "models") == path


@pytest.mark.parametrize("answer", ["changed", "endless", "cut"])
def test_another_answer_is_refused_and_nothing_is_left(web: str, tmp_path: Path, answer: str) -> None:
    with pytest.raises((CheckFailed, EnvironmentFailed)) as caught:
        get(pinned(f"{web}/{answer}"), tmp_path / "models")
    assert "--from FILE" in str(caught.value.hint)
    assert not list(tmp_path.glob("models/*"))


def test_a_damaged_copy_is_brought_again(web: str, tmp_path: Path) -> None:
    (tmp_path / "yunet.onnx").write_bytes(b"damaged")
    assert get(pinned(f"{web}/model"), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("address", ["/none", ":1/"])
def test_what_cannot_be_fetched_says_what_to_do(web: str, tmp_path: Path, address: str) -> None:
    source = f"{web}{address}" if address == "/none" else "http://127.0.0.1:1/"
    with pytest.raises(EnvironmentFailed, match="could not be fetched") as caught:
        get(pinned(source), tmp_path)
    assert "--from FILE" in str(caught.value.hint)


def test_a_file_at_hand_is_taken_where_it_is_the_one(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(CONTENT)
    assert get(pinned("http://127.0.0.1:1/"), tmp_path / "out", tmp_path / "mine").read_bytes() == CONTENT
    (tmp_path / "other").write_bytes(b"another model")
    with pytest.raises(CheckFailed, match="is not the yunet that is pinned: 13 bytes"):
        get(pinned("http://127.0.0.1:1/"), tmp_path / "new", tmp_path / "other")
    with pytest.raises(BadModel, match="cannot read"):
        get(pinned("http://127.0.0.1:1/"), tmp_path / "new", tmp_path / "missing")
    assert not (tmp_path / "new").exists()


def package(path: Path, member: str, content: bytes) -> None:
    with tarfile.open(path, "w:gz") as archive:
        entry = tarfile.TarInfo(f"package/{member}")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))


def npm_in(folder: Path, script: str) -> str:
    """A PATH whose npm is a shell script: what it hands over is a real archive."""
    folder.mkdir()
    program = folder / "npm"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_a_package_gives_the_one_file_that_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path / "one.tgz", "assets/model.onnx", CONTENT)
    monkeypatch.setenv("PATH", npm_in(tmp_path / "bin", f'for last; do :; done; cp {tmp_path}/one.tgz "$last/"'))
    assert get(pinned(Package("some", "1.0.0", "assets/model.onnx")), tmp_path / "out").read_bytes() == CONTENT
    with pytest.raises(CheckFailed, match="no readable package/assets/other"):
        get(pinned(Package("some", "1.0.0", "assets/other")), tmp_path / "new")
    (tmp_path / "one.tgz").write_bytes(b"no archive")
    with pytest.raises(CheckFailed, match="no readable"):
        get(pinned(Package("some", "1.0.0", "assets/model.onnx")), tmp_path / "new")


def test_a_package_manager_that_fails_or_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = pinned(Package("some", "1.0.0", "model.onnx"))
    monkeypatch.setenv("PATH", npm_in(tmp_path / "bin", "echo 'npm error code ENETUNREACH' >&2; exit 1"))
    with pytest.raises(EnvironmentFailed, match="ENETUNREACH"):
        get(one, tmp_path / "out")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeMissing, match="not installed"):
        get(one, tmp_path / "out")


def test_the_list_shows_licence_and_origin_and_a_typo_its_neighbour() -> None:
    shown = CliRunner().invoke(app, ["models", "list"]).output
    for one in KNOWN.values():
        assert one.licence in shown
        assert one.origin in shown
    assert "origin: unstated" in shown
    with pytest.raises(UnknownName) as caught:
        known("mobilefacenets")
    assert caught.value.hint == "did you mean mobilefacenet?"


@pytest.mark.shared_data
def test_the_pinned_hashes_are_those_of_the_shared_data(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('model = "yunet.onnx"\ntask = "diabetes"\n')
    with pytest.raises(BadModel) as caught:
        read_recipe(recipe)
    assert caught.value.hint == "edgetool models get yunet"
    monkeypatch.setenv("EDGETOOL_DATA", str(shared_data))
    done = CliRunner().invoke(app, ["models", "get", *KNOWN])
    assert done.exit_code == 0, done.output
    monkeypatch.delenv("EDGETOOL_DATA")
    for one in KNOWN.values():
        assert kept(one.file) == weights_folder() / one.file
    assert read_recipe(recipe).model == weights_folder() / "yunet.onnx"
