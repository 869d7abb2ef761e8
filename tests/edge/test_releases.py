"""Releases survive a cut before any of the file system's operations: exactly the old one runs then, or the new one."""

import hashlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge import durable, releases
from edge.errors import CheckFailed, EnvironmentFailed
from edge.releases import CURRENT, LAST_GOOD, PREVIOUS, Release, pointed


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a place: each update waits for the disk a dozen times."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as made:
        yield Path(made)


EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.truncate", "shutil.rmtree"}


def update(base: Path) -> None:
    with releases.locked(base):
        releases.sweep(base)
        name = install(base, b"new")
        releases.begin_trial(base, name)
        releases.confirm(base)
        releases.sweep(base)


def install(base: Path, content: bytes) -> str:
    """A release whose bundle is `content`, with one package, placed and not yet tried."""
    staged = base / "staging" / "release"
    staged.mkdir(parents=True)
    digest = hashlib.sha256(content).hexdigest()
    package = base / "packages" / digest
    package.mkdir(parents=True)
    (package / "module.py").write_bytes(content)
    durable.write(staged / releases.BUNDLE, content)
    start = hashlib.sha256(releases.START_PY.encode()).hexdigest()
    return releases.place(base, staged, Release(digest, start, (digest,), (), "name", "3.11.2"))


def confirmed(base: Path, content: bytes) -> str:
    with releases.locked(base):
        name = install(base, content)
        releases.begin_trial(base, name)
        releases.confirm(base)
        releases.sweep(base)
    return name


def cut(work: Callable[[Path], object], base: Path, at: int) -> bool:
    """Do `work` in a process that is killed before its `at`-th operation; False where it has fewer.

    Python tells of each operation on the file system before it happens (sys.audit).
    """
    child = os.fork()
    if child == 0:
        left = at

        def look(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in EVENTS and any(str(base) in str(one) for one in arguments):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(look)
        try:
            work(base)
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, -signal.SIGKILL}
    return code != 0


def require_whole(base: Path, old: str) -> str:
    """The base is as after a finished deploy; the content of what is current."""
    name = pointed(base, CURRENT)
    assert name is not None
    assert pointed(base, LAST_GOOD) == name
    release = releases.check(base, name)
    kept = {one for one in (name, pointed(base, PREVIOUS)) if one}
    assert {path.name for path in (base / "releases").iterdir()} == kept
    assert not (base / "staging").exists()
    assert releases.read_trial(base) is None
    assert len(list((base / "packages").iterdir())) == len(kept)
    assert (name == old) == (pointed(base, PREVIOUS) != old)
    return (base / "packages" / release.packages[0] / "module.py").read_text()


def test_a_cut_before_every_operation_of_an_update(folder: Path) -> None:
    outcomes = []
    for at in range(1, 400):
        base = folder / str(at)
        base.mkdir()
        old = confirmed(base, b"old")
        was_cut = cut(update, base, at)
        releases.recover(base)
        outcomes.append(require_whole(base, old))
        shutil.rmtree(base)
        if not was_cut:
            break
    assert len(outcomes) > 25
    first_new = outcomes.index("new")
    assert outcomes == ["old"] * first_new + ["new"] * (len(outcomes) - first_new)
    assert first_new > 15


def test_a_cut_before_every_operation_of_the_recovery(folder: Path) -> None:
    for at in range(1, 100):
        base = folder / str(at)
        base.mkdir()
        old = confirmed(base, b"old")
        with releases.locked(base):
            releases.begin_trial(base, install(base, b"new"))
        was_cut = cut(releases.recover, base, at)
        assert "old" in (releases.recover(base), require_whole(base, old))
        shutil.rmtree(base)
        if not was_cut:
            break
    assert at > 8


def test_a_second_deploy_is_refused_and_recovery_waits(folder: Path) -> None:
    confirmed(folder, b"old")
    with releases.locked(folder):
        name = install(folder, b"new")
        releases.begin_trial(folder, name)
        assert not releases.interrupted(folder)
        assert releases.recover(folder) == "a deploy is at work"
        assert pointed(folder, CURRENT) == name
        with pytest.raises(EnvironmentFailed, match="another deploy"), releases.locked(folder):
            pass
    assert releases.interrupted(folder)
    assert "never confirmed" in releases.recover(folder)
    assert not releases.interrupted(folder)


def test_what_was_changed_by_hand_is_seen(folder: Path) -> None:
    name = confirmed(folder, b"old")
    (folder / "releases" / name / releases.BUNDLE).write_bytes(b"other")
    with pytest.raises(CheckFailed, match=r"bundle\.edge was changed by hand"):
        releases.check(folder, name)
    (folder / "releases" / name / releases.ABOUT).write_bytes(b"{}")
    with pytest.raises(CheckFailed, match="is damaged"):
        releases.check(folder, name)
    releases.sweep(folder)  # what a damaged release needs cannot be known, and stays
    assert len(list((folder / "packages").iterdir())) == 1


def test_back_and_forth(folder: Path) -> None:
    one, two = confirmed(folder, b"1"), confirmed(folder, b"2")
    assert (one[:4], two[:4]) == ("0001", "0002")
    with releases.locked(folder):
        releases.begin_trial(folder, one)
        releases.confirm(folder)
    assert (pointed(folder, CURRENT), pointed(folder, PREVIOUS), pointed(folder, LAST_GOOD)) == (one, two, one)
