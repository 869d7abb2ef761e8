"""The wheels that a release needs on a device, resolved for the device's Python on this machine and kept here.

pip resolves and downloads. It evaluates the markers of dependencies for the Python it runs on, not for the device's
(`--python-version` changes tags alone), so what the wheels themselves say is evaluated again, and what is missing is
downloaded too.
"""

import contextlib
import functools
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import edge
from edge.errors import BadInput, EnvironmentFailed
from edgetool.deploy.facts import Facts

if TYPE_CHECKING:
    from packaging.requirements import Requirement

OLDEST_MANYLINUX = 17  # manylinux2014: glibc 2.17
RUNTIMES = {"tflite": "ai-edge-litert>=2.3", "onnx": "onnxruntime>=1.20"}
PIP_LIMIT_S = 1800.0


@dataclass(frozen=True)
class Wheel:
    """A wheel on this machine: its hash, its size, and the bytes it takes unpacked."""

    path: Path
    sha256: str
    size: int
    unpacked: int


@dataclass(frozen=True)
class Platform:
    """What wheels are chosen for: a CPython, an architecture as `uname -m` has it, the minor version of glibc 2."""

    python: tuple[int, int]
    machine: str
    glibc: int

    @property
    def tags(self) -> tuple[str, ...]:
        """Every manylinux tag that runs there, the newest first: pip does not derive the older ones from a newer."""
        numbers = range(self.glibc, OLDEST_MANYLINUX - 1, -1)
        return (*(f"manylinux_2_{number}_{self.machine}" for number in numbers), f"manylinux2014_{self.machine}")

    @property
    def environment(self) -> dict[str, str]:
        """The markers' values there (PEP 508)."""
        version = ".".join(map(str, self.python))
        return {
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{version}.0",
            "python_version": version,
            "sys_platform": "linux",
            "extra": "",
        }


def platform_of(facts: Facts) -> Platform:
    """The device's platform. Raises BadInput where it has no glibc 2."""
    if facts.glibc is None or facts.glibc[0] != 2:
        raise BadInput(f"the device's C library is {' '.join(facts.libc)}", "wheels need glibc 2")
    return Platform((facts.python[0], facts.python[1]), facts.machine, facts.glibc[1])


def requirements(given: Sequence[str], model_format: str) -> tuple[str, ...]:
    """What to install for a bundle: what it says it needs, else numpy and the runtime of its format."""
    if given:
        return tuple(sorted(given))
    return tuple(sorted({"numpy>=1.24", RUNTIMES.get(model_format, "numpy>=1.24")}))


def cache_folder() -> Path:
    """Where wheels are kept on this machine."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "edgetool" / "wheels"


def resolve(needs: Sequence[str], platform: Platform, *, extra: Path | None, offline: bool = False) -> list[Wheel]:
    """The wheels for `needs` and what they need themselves, in the order of their names.

    Args:
        needs: requirements as PEP 508 words them.
        platform: the device's.
        extra: a folder of wheels to take from too (NVIDIA's for a Jetson, one that was built here).
        offline: take only what is kept here, or in `extra`.

    Raises:
        EnvironmentFailed: there is no such wheel, or no network and nothing kept.

    """
    told = json.dumps([sorted(needs), platform.tags, platform.python, _listing(extra)])
    folder = cache_folder() / hashlib.sha256(told.encode()).hexdigest()[:16]
    if not (folder / "complete").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new-"))
        try:
            _download(needs, platform, scratch, extra, offline=offline)
            while missing := _missing(scratch, needs, platform):
                _download([*needs, *missing], platform, scratch, extra, offline=offline)
            (scratch / "complete").touch()
            with contextlib.suppress(OSError):  # another run was first, with the same wheels
                scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return [_wheel(path) for path in sorted(folder.glob("*.whl"))]


@functools.cache
def edge_package() -> Wheel:
    """The toolkit's device side as a wheel without metadata: the same sources make the same bytes. One for all devices
    of this process.
    """
    root = Path(edge.__file__).parent
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                entry = zipfile.ZipInfo(f"edge/{path.relative_to(root).as_posix()}")
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, path.read_bytes())
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    kept = cache_folder() / f"edge-{digest[:16]}.whl"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as file:
            file.write(content)
        Path(file.name).rename(kept)
    return _wheel(kept)


def _wheel(path: Path) -> Wheel:
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    return Wheel(path, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size, unpacked)


def _listing(folder: Path | None) -> list[list[str]]:
    if folder is None:
        return []
    return [[path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in sorted(folder.glob("*.whl"))]


def _download(needs: Iterable[str], platform: Platform, folder: Path, extra: Path | None, *, offline: bool) -> None:
    python = f"{platform.python[0]}{platform.python[1]}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder), "--only-binary=:all:"]
    command += ["--python-version", ".".join(map(str, platform.python)), "--implementation", "cp"]
    command += [word for abi in (f"cp{python}", "abi3", "none") for word in ("--abi", abi)]
    command += [word for tag in platform.tags for word in ("--platform", tag)]
    command += ["--no-index", "--find-links", str(folder)] if offline else []
    command += ["--find-links", str(extra)] if extra is not None else []
    try:
        done = subprocess.run(
            [*command, *needs],
            capture_output=True,
            text=True,
            check=False,
            timeout=PIP_LIMIT_S,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFailed(
            f"pip took more than {PIP_LIMIT_S:g} s to download wheels", "look at the network"
        ) from error
    if done.returncode:
        said = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        version = ".".join(map(str, platform.python))
        what = said[0] if said else "pip failed"
        raise EnvironmentFailed(
            f"no wheels for {platform.machine}, Python {version}: {what}",
            "without a network, give a folder that has them: --wheels DIR",
        )


def _missing(folder: Path, needs: Sequence[str], platform: Platform) -> list[str]:
    """What the wheels in `folder` need on the device and is not there."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found = {str(canonicalize_name(path.name.split("-")[0])) for path in folder.glob("*.whl")}
    wanted = [Requirement(line) for line in needs]
    wanted += [one for path in folder.glob("*.whl") for one in _dependencies(path)]
    return sorted(
        {
            str(one)
            for one in wanted
            if canonicalize_name(one.name) not in found
            and (not one.marker or one.marker.evaluate(platform.environment))
        }
    )


def _dependencies(path: Path) -> "list[Requirement]":
    from email.parser import BytesParser

    from packaging.requirements import Requirement

    with zipfile.ZipFile(path) as archive:
        name = next((n for n in archive.namelist() if n.endswith(".dist-info/METADATA")), None)
        about = BytesParser().parsebytes(archive.read(name) if name else b"")
    return [Requirement(line) for line in about.get_all("Requires-Dist") or ()]
