"""Fashion-MNIST: 70,000 grey pictures [28, 28] of ten kinds of clothes.

Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
2017 (arXiv:1708.07747), MIT licence. Read from a local copy, else fetched and cached; checked by hash.
"""

import contextlib
import fcntl
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.errors import BadData, DiskFull, EnvironmentFailed, is_disk_full

LABELS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
FOLDER = "fashion-mnist"
DEBIAN_FOLDER = Path("/usr/share/datasets") / FOLDER  # where Debian's dataset-fashion-mnist puts the files
FETCH_TIMEOUT_S = 600


@dataclass(frozen=True)
class IdxFile:
    """One gzipped idx file: a big-endian header of 4 + 4 * axes bytes, then uint8 values in C order.

    `sha256` is of the unpacked bytes, since the same content is packed differently by different publishers.
    """

    name: str
    shape: tuple[int, ...]
    sha256: str


FILES = (
    IdxFile(
        "train-images-idx3-ubyte.gz",
        (60000, 28, 28),
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    IdxFile(
        "train-labels-idx1-ubyte.gz",
        (60000,),
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    IdxFile(
        "t10k-images-idx3-ubyte.gz",
        (10000, 28, 28),
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    IdxFile(
        "t10k-labels-idx1-ubyte.gz",
        (10000,),
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)

Arrays = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


def load_arrays() -> Arrays:
    """(x_train [60000, 28, 28], y_train [60000], x_test [10000, 28, 28], y_test [10000]), all uint8.

    Looks in `EDGETOOL_DATA`, the cache folder and where Debian's package puts it, then fetches.

    Raises:
        BadData: a local copy outside the cache is damaged (a damaged cache is fetched again).
        EnvironmentFailed: there is no local copy and it could not be fetched.
        DiskFull: no space to cache it.

    """
    cache = cache_folder() / FOLDER
    data = os.environ.get("EDGETOOL_DATA")
    for folder in (Path(data) / FOLDER if data else None, cache, DEBIAN_FOLDER):
        if folder is None or not all((folder / file.name).is_file() for file in FILES):
            continue
        try:
            return _read(folder)
        except BadData:
            if folder != cache:
                raise
    return _fetch(cache)


def cache_folder() -> Path:
    """Where fetched data is kept: `$XDG_CACHE_HOME/edgetool`, else `~/.cache/edgetool`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgetool"


def _read(folder: Path) -> Arrays:
    train_x, train_y, test_x, test_y = (_read_idx(folder, file) for file in FILES)
    return train_x, train_y, test_x, test_y


def _read_idx(folder: Path, file: IdxFile) -> npt.NDArray[np.uint8]:
    path = folder / file.name
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise BadData(f"{path} is damaged: {error}", "delete it, or install it again") from error
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise BadData(
            f"{path} is damaged: its unpacked sha256 is {found[:12]}, not {file.sha256[:12]}",
            "delete it, or install it again",
        )
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(file.shape)).reshape(file.shape)


def _fetch(cache: Path) -> Arrays:
    """Fetch into `cache` under a lock, so that runs side by side fetch once; each file arrives whole or not at all."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with contextlib.suppress(BadData):
                if all((cache / file.name).is_file() for file in FILES):
                    return _read(cache)
            return _fetch_locked(cache)
    except OSError as error:
        kind = DiskFull if is_disk_full(error) else EnvironmentFailed
        raise kind(f"cannot cache Fashion-MNIST in {cache}: {error.strerror or error}", "set XDG_CACHE_HOME") from error


def _fetch_locked(cache: Path) -> Arrays:
    failures = []
    for name, source in SOURCES.items():
        with tempfile.TemporaryDirectory(dir=cache, prefix=".fetch-") as scratch:
            try:
                folder = source(Path(scratch))
                arrays = _read(folder)
            except (BadData, EnvironmentFailed) as error:
                failures.append(f"{name}: {error}")
                continue
            for file in FILES:
                shutil.copyfile(folder / file.name, Path(scratch) / "copy")
                (Path(scratch) / "copy").replace(cache / file.name)
            return arrays
    raise EnvironmentFailed(
        f"Fashion-MNIST is not on this machine and could not be fetched: {'; '.join(failures)}",
        f"put its four .gz files into $EDGETOOL_DATA/{FOLDER} or install Debian's package dataset-fashion-mnist",
    )


def _from_debian(scratch: Path) -> Path:
    """Debian's package, unpacked without installing it. Package lists of our own serve where the system has none."""
    for part in ("lists/partial", "archives/partial"):
        (scratch / part).mkdir(parents=True)
    patience = ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20"]
    private = ["-o", f"Dir::State::lists={scratch / 'lists'}", "-o", f"Dir::Cache={scratch}"]
    # apt drops from root to a user of its own, who may not write in our folder
    private += ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []
    download = ["download", "dataset-fashion-mnist"]
    try:
        _call(["apt-get", "-qq", *patience, *download], scratch)
    except EnvironmentFailed:
        _call(["apt-get", "-qq", *patience, *private, "update"], scratch)
        _call(["apt-get", "-qq", *patience, *private, *download], scratch)
    packages = sorted(scratch.glob("dataset-fashion-mnist_*.deb"))
    if not packages:
        raise EnvironmentFailed("apt-get download left no package")
    _call(["dpkg-deb", "-x", str(packages[0]), str(scratch / "root")], scratch)
    return scratch / "root" / DEBIAN_FOLDER.relative_to("/")


def _from_keras(scratch: Path) -> Path:
    """Keras's own loader, in a process of its own: it prints to stdout and has no timeout."""
    load = "import keras; keras.datasets.fashion_mnist.load_data()"
    _call([sys.executable, "-c", load], scratch, KERAS_HOME=str(scratch), TF_CPP_MIN_LOG_LEVEL="3")
    return scratch / "datasets" / FOLDER


SOURCES: dict[str, Callable[[Path], Path]] = {"Debian's package": _from_debian, "Keras's loader": _from_keras}


def _call(command: list[str], folder: Path, **environment: str) -> None:
    options: dict[str, Any] = {"cwd": folder, "env": os.environ | environment, "timeout": FETCH_TIMEOUT_S}
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentFailed(f"{command[0]} failed: {error}") from error
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise EnvironmentFailed(f"{Path(command[0]).name} failed: {lines[-1] if lines else done.returncode}")
