"""The output folder: ours or refused, whole results or none."""

import json
import os
from pathlib import Path

import pytest

from edge.artifact import Artifact, sha256_of
from edge.durable import write_whole
from edge.errors import BadInput, EnvironmentFailed
from edge.report import Skipped
from edge.tensors import TensorSpec
from edgetool.passes.step import PassResult
from edgetool.results import key_of
from edgetool.workspace import Workspace


def make_file(folder: Path) -> PassResult:
    path = folder / "model.tflite"
    path.write_bytes(b"weights")
    spec = TensorSpec("x", (1, 4), "float32")
    artifact = Artifact(path, "tflite", (spec,), (spec,), sha256_of(path), ("quantize.int8",))
    return PassResult(artifact, (Skipped("softmax", "stays float"),))


def test_a_folder_with_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("important")
    with pytest.raises(BadInput, match="holds something else"):
        Workspace(tmp_path, resume=False)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(BadInput, match="is a file"):
        Workspace(tmp_path / "f", resume=False)


def test_discard_leaves_nothing_behind(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "a" / "b", resume=False)
    workspace.cached_file("x", lambda: b"1")
    workspace.discard()
    assert list(tmp_path.iterdir()) == []


def test_finished_passes_are_kept_and_taken_up(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "out", resume=False)
    first = workspace.cached_pass("k", make_file)
    workspace.close()
    again = Workspace(tmp_path / "out", resume=True)
    second = again.cached_pass("k", lambda _: pytest.fail("made twice"))
    assert second == first
    assert second.artifact.path.read_bytes() == b"weights"
    again.close()
    fresh = Workspace(tmp_path / "out", resume=False)
    assert not list(fresh.work.iterdir())
    fresh.close()


def test_an_interrupted_pass_leaves_no_result(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "out", resume=False)

    def interrupted(folder: Path) -> PassResult:
        (folder / "model.tflite").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        workspace.cached_pass("k", interrupted)
    assert list(workspace.work.iterdir()) == []
    assert workspace.cached_pass("k", make_file).skipped[0].what == "softmax"


def test_a_changed_result_is_not_used(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "out", resume=False)
    workspace.cached_pass("k", make_file).artifact.path.write_bytes(b"tampered")
    with pytest.raises(EnvironmentFailed, match="was changed"):
        workspace.cached_pass("k", make_file)


def test_two_runs_in_one_folder(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "out", resume=False)
    with pytest.raises(EnvironmentFailed, match="another run"):
        Workspace(tmp_path / "out", resume=True)
    workspace.close()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path / "out", resume=False)
    path = workspace.out / "report.json"
    write_whole(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert not list(workspace.out.glob(".*.part"))


def test_keys_tell_settings_apart() -> None:
    assert key_of("a", {"x": 1, "y": 2}) == key_of("a", {"y": 2, "x": 1})
    assert key_of("a", {"x": 1}) != key_of("a", {"x": 2})


def test_starting_again_removes_what_was_shipped_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    Workspace(out, resume=False).close()
    for name in ("m.tflite", "m.edge", "mine.tflite"):
        (out / name).write_text("")
    rows = {"baseline": {"file": "work/k/model.tflite"}, "candidates": [{"file": "m.tflite"}]}
    (out / "report.json").write_text(json.dumps(rows))
    Workspace(out, resume=False).close()
    assert {path.name for path in out.iterdir()} == {".edgetool", "work", "mine.tflite"}
