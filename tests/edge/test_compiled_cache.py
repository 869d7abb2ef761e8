import contextlib
import hashlib
import importlib.util
import json
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge.engines.compiled_cache import MANIFEST, cache_folder, compiled, make_room
from edge.runtime_process import RuntimeProcess

DATA = Path(__file__).parent / "data"
ROOT = Path(__file__).resolve().parents[2]
PARTS = {"model": "m", "delegate": "qnn"}
needs_qnn = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnxruntime", "onnxruntime_qnn")),
    reason="onnxruntime-qnn is not installed",
)


def build(folder, parts=PARTS, content=b"engine", limit_bytes=1 << 20):
    """What a delegate does: use what is there, else compile and seal. Returns the entry's story."""
    with compiled(parts, folder, limit_bytes) as entry:
        if not entry.complete and entry.folder is not None:
            (entry.folder / "a.engine").write_bytes(content)
        entry.seal({"nodes": 3})
        return entry.story


def only(folder):
    (entry,) = (path for path in folder.iterdir() if path.is_dir())
    return entry


def test_the_second_use_is_from_the_cache(tmp_path):
    assert build(tmp_path) == "built and kept"
    with compiled(PARTS, tmp_path) as entry:
        assert entry.complete
        assert entry.notes == {"nodes": 3}
        assert (entry.folder / "a.engine").read_bytes() == b"engine"
    assert build(tmp_path) == "from the cache"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda e: (e / "a.engine").write_bytes(b"engina"), "a.engine is damaged"),
        (lambda e: (e / "a.engine").write_bytes(b"eng"), "a.engine is damaged"),
        (lambda e: (e / "a.engine").unlink(), "a.engine is missing"),
        (lambda e: (e / "other").write_bytes(b"x"), "other is foreign"),
        (lambda e: (e / MANIFEST).write_text("{"), "the manifest is damaged"),
        (lambda e: (e / MANIFEST).write_text("[]"), "the manifest is damaged"),
        (lambda e: (e / MANIFEST).unlink(), "an earlier build was interrupted"),
    ],
)
def test_what_does_not_hold_is_rebuilt_and_that_is_told(tmp_path, damage, told):
    build(tmp_path)
    damage(only(tmp_path))
    assert build(tmp_path) == f"rebuilt: {told}"
    assert build(tmp_path) == "from the cache"


def test_an_entry_that_was_moved_here_is_foreign(tmp_path):
    build(tmp_path)
    there = only(tmp_path)
    with compiled({**PARTS, "gpu": "other"}, tmp_path) as entry:
        wanted = entry.folder
    there.rename(wanted)
    assert build(tmp_path, {**PARTS, "gpu": "other"}).startswith("rebuilt: the entry belongs to another")


def test_every_part_makes_another_entry(tmp_path):
    for key in ("model", "delegate"):
        build(tmp_path, {**PARTS, key: "other"})
    assert build(tmp_path) == "built and kept"
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 3


def test_files_that_the_runtime_adds_later_are_kept_and_told(tmp_path):
    build(tmp_path)
    with compiled(PARTS, tmp_path) as entry:
        (entry.folder / "b.engine").write_bytes(b"of a newer driver")
        entry.seal({})
        assert entry.story == "rebuilt: the runtime did not take what was kept"
    assert build(tmp_path) == "from the cache"


def test_the_least_recently_used_goes_first(tmp_path):
    for number in range(3):
        build(tmp_path, {"model": str(number)}, bytes(1000))
    names = sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    for age, path in zip((30, 20, 10), names, strict=True):
        os.utime(path, (1e9 - age, 1e9 - age))
    with compiled({"model": "0"}, tmp_path) as entry:  # used: now the newest
        assert entry.complete
        used = entry.folder
        make_room(tmp_path, 2500)
    left = set(tmp_path.iterdir())
    assert used in left
    assert len(left) == 2 or names[1] not in left


def test_an_entry_in_use_is_not_removed(tmp_path):
    build(tmp_path, content=bytes(1000))
    with compiled(PARTS, tmp_path) as entry:
        script = (
            "from pathlib import Path\n"
            "from edge.engines.compiled_cache import make_room\n"
            f"make_room(Path({str(tmp_path)!r}), 0)\n"
        )
        subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
        assert (entry.folder / "a.engine").exists()
    make_room(tmp_path, 0)
    assert list(tmp_path.iterdir()) == []


def test_several_at_once_build_once(tmp_path):
    def use(_):
        return build(tmp_path, content=bytes(100_000))

    with ThreadPoolExecutor(8) as pool:
        stories = sorted(pool.map(use, range(24)))
    assert stories == ["built and kept"] + ["from the cache"] * 23


def test_a_folder_that_cannot_be_made_costs_the_cache_only(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with compiled(PARTS, tmp_path / "file" / "below") as entry:
        assert entry.folder is None
        assert not entry.complete
        entry.seal({})
        assert entry.story.startswith("not kept: ")


def test_a_disk_that_takes_no_more_costs_the_cache_only(tmp_path):
    with compiled(PARTS, tmp_path) as entry:
        (entry.folder / "a.engine").write_bytes(b"engine")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # as a full disk: writes fail from now on
        try:
            entry.seal({})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert entry.story == "not kept: File too large"
    assert build(tmp_path) == "built and kept"


def test_a_runtime_that_wrote_nothing_is_told(tmp_path):
    with compiled(PARTS, tmp_path) as entry:
        entry.seal({})
        assert entry.story == "not kept: the runtime wrote no file"


def test_a_build_that_fails_leaves_no_entry(tmp_path):
    with pytest.raises(ZeroDivisionError), compiled(PARTS, tmp_path):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_where_the_user_keeps_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "edgetool" / "compiled"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "edgetool" / "compiled"


def qnn(folder):
    settings = {"cache": "true", "cache_folder": str(folder)}
    with RuntimeProcess() as process:
        return process.load(DATA / "tiny.onnx", "onnx", delegate="qnn", settings=settings).placement


@needs_qnn
def test_a_context_binary_is_kept_checked_and_rebuilt(tmp_path):
    built = qnn(tmp_path)
    assert built.compiled == "built and kept"
    cached = qnn(tmp_path)
    assert cached.compiled == "from the cache"
    assert (cached.ops_offloaded, cached.ops_total) == (built.ops_offloaded, built.ops_total)
    (binary,) = tmp_path.rglob("*.bin")
    content = bytearray(binary.read_bytes())
    content[len(content) // 2] ^= 0xFF  # the runtime itself takes this without a word
    binary.write_bytes(content)
    assert qnn(tmp_path).compiled == f"rebuilt: {binary.name} is damaged"
    assert qnn(tmp_path).compiled == "from the cache"


@needs_qnn
def test_an_entry_that_the_runtime_refuses_is_rebuilt(tmp_path):
    qnn(tmp_path)
    (model,) = tmp_path.rglob("model.onnx")
    manifest = json.loads((model.parent / MANIFEST).read_text())
    model.write_bytes(b"not a model")
    manifest["files"]["model.onnx"] = hashlib.sha256(b"not a model").hexdigest()
    (model.parent / MANIFEST).write_text(json.dumps(manifest))
    assert qnn(tmp_path).compiled.startswith("rebuilt: the runtime refuses it")


@needs_qnn
def test_a_place_that_cannot_be_written_costs_the_cache_only(tmp_path):
    (tmp_path / "file").write_text("")
    placement = qnn(tmp_path / "file")
    assert placement.compiled.startswith("not kept: ")
    assert placement.ops_offloaded == placement.ops_total
    with contextlib.suppress(FileNotFoundError):
        assert (tmp_path / "file").read_text() == ""
