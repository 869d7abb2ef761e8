import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from edge.errors import BadData, EnvironmentFailed
from edgetool.data import fashion_mnist
from edgetool.data.fashion_mnist import FILES, FOLDER, IdxFile, cache_folder, load_arrays

SHAPES = ((6, 28, 28), (6,), (4, 28, 28), (4,))


def small_files(folder):
    """Four small idx files, in the order of FILES, and what describes them."""
    folder.mkdir(parents=True)
    described = []
    for seed, (file, shape) in enumerate(zip(FILES, SHAPES, strict=True)):
        values = np.random.default_rng(seed).integers(0, 10, shape, np.uint8)
        header = bytes([0, 0, 8, len(shape)]) + b"".join(length.to_bytes(4, "big") for length in shape)
        content = header + values.tobytes()
        (folder / file.name).write_bytes(gzip.compress(content))
        described.append(IdxFile(file.name, shape, hashlib.sha256(content).hexdigest()))
    return tuple(described)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """An empty cache, no other local copy, and small files to be found: the folder that holds them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGETOOL_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", Path("/nowhere"))
    monkeypatch.setattr(fashion_mnist, "FILES", small_files(tmp_path / "source"))
    return tmp_path


def test_a_local_copy_is_read_and_not_cached(places):
    (places / "source").rename(places / "data-before")
    (places / "data").mkdir()
    (places / "data-before").rename(places / "data" / FOLDER)
    arrays = load_arrays()
    assert [a.shape for a in arrays] == list(SHAPES)
    assert all(a.dtype == np.uint8 for a in arrays)
    np.testing.assert_array_equal(arrays[3], np.random.default_rng(3).integers(0, 10, 4, np.uint8))
    assert not (places / "cache").exists()


def test_a_damaged_local_copy_is_an_error(places):
    (places / "data").mkdir()
    (places / "source").rename(places / "data" / FOLDER)
    file = places / "data" / FOLDER / FILES[3].name
    file.write_bytes(gzip.compress(b"something else"))
    with pytest.raises(BadData, match="damaged: its unpacked sha256"):
        load_arrays()
    file.write_bytes(file.read_bytes()[:10])
    with pytest.raises(BadData, match="damaged"):
        load_arrays()


def test_what_is_fetched_is_cached_and_a_damaged_cache_is_fetched_again(places, monkeypatch):
    fetched = []

    def source(scratch):
        fetched.append(scratch)
        return places / "source"

    monkeypatch.setattr(fashion_mnist, "SOURCES", {"a mirror": source})
    first = load_arrays()
    load_arrays()
    assert len(fetched) == 1
    assert sorted(p.name for p in (cache_folder() / FOLDER).glob("*.gz")) == sorted(file.name for file in FILES)
    assert not list((cache_folder() / FOLDER).glob(".fetch-*"))
    (cache_folder() / FOLDER / FILES[0].name).write_bytes(b"\x1f\x8b cut")
    np.testing.assert_array_equal(load_arrays()[0], first[0])
    assert len(fetched) == 2


def test_where_nothing_works_every_reason_is_given(places, monkeypatch):
    def broken(scratch):
        raise EnvironmentFailed("no network")

    def wrong(scratch):
        (places / "source" / FILES[1].name).write_bytes(gzip.compress(b"another file"))
        return places / "source"

    monkeypatch.setattr(fashion_mnist, "SOURCES", {"first": broken, "second": wrong})
    with pytest.raises(EnvironmentFailed, match=r"first: no network; second: .*damaged") as caught:
        load_arrays()
    assert "EDGETOOL_DATA" in caught.value.hint


def test_a_cache_that_cannot_be_written_is_an_environment_error(places, monkeypatch):
    (places / "cache").write_text("a file where the folder should be")
    with pytest.raises(EnvironmentFailed, match="cannot cache"):
        load_arrays()


def test_a_tool_that_fails_is_named():
    with pytest.raises(EnvironmentFailed, match="no-such-tool"):
        fashion_mnist._call(["no-such-tool"], Path())
    with pytest.raises(EnvironmentFailed, match=r"apt-get failed|No such file"):
        fashion_mnist._call(["apt-get", "download", "no-such-package-at-all"], Path())
