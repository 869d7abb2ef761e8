import secrets
import shutil
from pathlib import Path

import pytest

from device_apps.durable import TEMPORARY, write_whole
from device_apps.sealed_store import SealedStore
from edge.errors import BadData, BadInput, DiskFull

KEY = b"k" * 32


def test_what_was_written_is_read_and_nothing_of_it_is_in_the_file(tmp_path: Path) -> None:
    store = SealedStore(tmp_path / "store", KEY, "person")
    content = b"a template that nobody may see" * 10
    store.write("ann", content)
    assert store.read("ann") == content
    assert store.names() == ("ann",)
    raw = (tmp_path / "store" / "ann.sealed").read_bytes()
    assert b"template" not in raw
    assert (tmp_path / "store").stat().st_mode & 0o077 == 0
    assert (tmp_path / "store" / "ann.sealed").stat().st_mode & 0o077 == 0


def test_a_record_over_another_ones_file_does_not_open(tmp_path: Path) -> None:
    store = SealedStore(tmp_path, KEY, "person")
    store.write("ann", b"of ann")
    store.write("ben", b"of ben")
    shutil.copy(tmp_path / "ann.sealed", tmp_path / "ben.sealed")
    with pytest.raises(BadInput, match="another record's"):
        store.read("ben")
    assert store.read("ann") == b"of ann"


def test_a_record_of_another_kind_does_not_open(tmp_path: Path) -> None:
    SealedStore(tmp_path, KEY, "person").write("ann", b"x")
    with pytest.raises(BadInput, match="another record's"):
        SealedStore(tmp_path, KEY, "pins").read("ann")


def test_a_record_of_another_device_is_named_as_that(tmp_path: Path) -> None:
    SealedStore(tmp_path, KEY, "person").write("ann", b"x")
    with pytest.raises(BadInput, match="sealed on another device"):
        SealedStore(tmp_path, b"o" * 32, "person").read("ann")


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    store = SealedStore(tmp_path, KEY, "person")
    store.write("ann", b"0123456789")
    path = tmp_path / "ann.sealed"
    good = path.read_bytes()
    for position in range(len(good)):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(BadInput):
            store.read("ann")
    for length in range(len(good)):
        path.write_bytes(good[:length])
        with pytest.raises(BadInput):
            store.read("ann")


def test_two_writes_of_one_content_differ(tmp_path: Path) -> None:
    store = SealedStore(tmp_path, KEY, "person")
    store.write("ann", b"same")
    first = (tmp_path / "ann.sealed").read_bytes()
    store.write("ann", b"same")
    assert (tmp_path / "ann.sealed").read_bytes() != first


def test_deleting_overwrites_and_removes_leftovers_too(tmp_path: Path) -> None:
    store = SealedStore(tmp_path, KEY, "person")
    store.write("ann", b"x" * 100)
    path = tmp_path / "ann.sealed"
    (tmp_path / "link").hardlink_to(path)  # the same blocks under another name
    path.with_name(path.name + TEMPORARY).write_bytes(b"of a write that was killed")
    store.delete("ann")
    assert not any(byte for byte in (tmp_path / "link").read_bytes())
    assert [one.name for one in tmp_path.iterdir()] == ["link"]
    with pytest.raises(BadInput, match="no record"):
        store.delete("ann")


def test_a_deletion_that_was_killed_leaves_no_damaged_record_and_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SealedStore(tmp_path, KEY, "person")
    store.write("ann", b"of ann")

    def killed(_path: Path, missing_ok: bool = False) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            store.delete("ann")
    assert store.names() == ()
    (left,) = tmp_path.iterdir()
    assert not left.read_bytes().strip(b"\0"), "it was overwritten before"
    assert SealedStore(tmp_path, KEY, "person").names() == ()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", "../ann", "a/b", "Ann", "a" * 65, ".hidden", "a\n"])
def test_names_that_are_no_plain_ones(tmp_path: Path, name: str) -> None:
    store = SealedStore(tmp_path, KEY, "person")
    with pytest.raises(BadData):
        store.write(name, b"x")


def test_a_full_disk_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full refuses every write as a full disk does."""
    path = tmp_path / "state"
    write_whole(path, b"before")
    path.with_name("state" + TEMPORARY).symlink_to("/dev/full")
    monkeypatch.setattr("device_apps.durable.os.O_NOFOLLOW", 0)  # which would refuse the link
    with pytest.raises(DiskFull):
        write_whole(path, secrets.token_bytes(100))
    assert path.read_bytes() == b"before"
    assert not path.with_name("state" + TEMPORARY).exists()


def test_a_key_of_another_length(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="31 bytes"):
        SealedStore(tmp_path, b"k" * 31, "person")
