"""A bundle as a RAUC artifact: what `edgetool deploy` would put on a device, as the image of a slot, signed by RAUC.

The image is a tar of the folder that deploys go to (packages, one release that is current and good, its start script)
and of the hardened unit. It is for a slot of its own, type ext4 or another that RAUC unpacks a tar into, mounted at
/opt/edgetool. RAUC's own A/B slots, its keyring and its `compatible` take the place of what a deploy does over SSH.
"""

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edge import releases
from edge.bundle import parse_bundle, read_bundle
from edge.durable import write
from edge.errors import BadInput, BadRecipe, CheckFailed, EnvironmentFailed, RuntimeMissing
from edge.releases import BUNDLE, CURRENT, LAST_GOOD, MODE, Release
from edge.target import TARGETS
from edge.wheel import unpack_wheel
from edgetool.deploy.segments import segments
from edgetool.deploy.unit import unit
from edgetool.deploy.wheels import Platform, edge_package, requirements, resolve
from edgetool.progress import Progress

BASE = "/opt/edgetool"
STAGES = ("finding wheels", "unpacking", "packing the image", "signing")
FORMATS = ("verity", "plain")
LIMIT_S = 1800.0


@dataclass(frozen=True)
class Signing:
    """What RAUC signs with: a certificate and its key (PEM), certificates between it and the root, and the root's file
    by which the signed bundle is checked at once (None: it is not).
    """

    certificate: Path
    key: Path
    intermediate: Path | None = None
    keyring: Path | None = None


@dataclass(frozen=True)
class Artifact:
    """What was written. `description` is what `rauc info` says of it, None where no keyring was given."""

    path: Path
    release: str
    size_bytes: int
    compatible: str
    version: str
    description: str | None


def export(
    bundle: Path,
    out: Path,
    signing: Signing,
    progress: Progress,
    *,
    compatible: str,
    version: str,
    python: tuple[int, int],
    glibc: int,
    slot: str = "appfs",
    layout: str = "verity",
    wheels: Path | None = None,
    offline: bool = False,
) -> Artifact:
    """Write `out` (*.raucb).

    Args:
        bundle: the bundle, *.edge.
        out: the artifact; nothing is there afterwards where this fails.
        signing: what RAUC signs with.
        progress: is told the stages.
        compatible: the device's own `compatible`, as its /etc/rauc/system.conf has it.
        version: what `rauc status` shows of it.
        python: the device's Python, whose wheels go in.
        glibc: the minor version of its glibc 2.
        slot: the class of the slot that the image is for.
        layout: RAUC's format: `verity` (from 1.5 on) or `plain`.
        wheels: a folder of wheels to take from too.
        offline: take wheels only from there and the cache.

    Raises:
        BadInput: the bundle is none, or for no target that runs Linux.
        CheckFailed: RAUC does not accept what it has just signed.
        RuntimeMissing: rauc or mksquashfs is not installed.

    """
    for program, package in (("rauc", "rauc"), ("mksquashfs", "squashfs-tools")):
        if shutil.which(program) is None:
            raise RuntimeMissing(f"{program} is not installed", f"apt-get install {package}")
    for word in (compatible, version, slot):
        if not word.isprintable() or not word or "=" in word or "[" in word:
            raise BadRecipe(f"{word!r} cannot stand in a RAUC manifest")
    if layout not in FORMATS:
        raise BadRecipe(f"there is no layout {layout!r}", f"one of {', '.join(FORMATS)}")
    with tempfile.TemporaryDirectory(prefix="edgetool-rauc-") as name:
        folder = Path(name)
        content = folder / "content"
        content.mkdir()
        release = _image(bundle, content / "release.tar", folder / "base", progress, (python, glibc), wheels, offline)
        (content / "manifest.raucm").write_text(
            f"[update]\ncompatible={compatible}\nversion={version}\ndescription={bundle.stem}, release {release}\n\n"
            f"[bundle]\nformat={layout}\n\n[image.{slot}]\nfilename=release.tar\n",
            encoding="utf-8",
        )
        progress.stage("signing")
        description = _sign(content, folder / "signed.raucb", signing)
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder / "signed.raucb", out)
    return Artifact(out, release, out.stat().st_size, compatible, version, description)


def _image(
    bundle: Path,
    tar: Path,
    base: Path,
    progress: Progress,
    system: tuple[tuple[int, int], int],
    wheels: Path | None,
    offline: bool,
) -> str:
    """The tar of a base folder with one release; the release's name."""
    content = read_bundle(bundle)
    parsed = parse_bundle(content, bundle)
    target = TARGETS.get(parsed.manifest.target)
    if target is None or target.arch not in {"aarch64", "x86_64"}:
        raise BadInput(f"the bundle's target {parsed.manifest.target} runs no RAUC", "edgetool targets")
    progress.begin(STAGES)
    progress.stage("finding wheels")
    needs = requirements(parsed.manifest.requires, parsed.manifest.format)
    found = [
        edge_package(),
        *resolve(needs, Platform(system[0], target.arch, system[1]), extra=wheels, offline=offline),
    ]
    progress.stage("unpacking")
    for number, wheel in enumerate(found):
        progress.at(number / len(found), wheel.path.name.split("-")[0])
        unpack_wheel(wheel.path, base / "packages" / wheel.sha256)
    staged = base / "staging"
    staged.mkdir(parents=True)
    write(staged / BUNDLE, content, MODE)
    release = Release(
        bundle=parsed.sha256,
        start=hashlib.sha256(releases.START_PY.encode()).hexdigest(),
        packages=tuple(wheel.sha256 for wheel in found),
        segments=tuple(segments(content)),
        name=parsed.manifest.name,
        python=".".join(map(str, system[0])),
    )
    name = releases.place(base, staged, release)
    for link in (CURRENT, LAST_GOOD):
        releases.point(base, link, name)
    write(base / "start", releases.START_SH.encode(), 0o755)
    write(base / "edgetool.service", unit(BASE, target, memory_bytes=None).encode(), MODE)
    progress.stage("packing the image")
    with tarfile.open(tar, "w") as archive:
        archive.add(base, ".", filter=_plain)
    return name


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """The same content makes the same image: nobody's, of no time."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mtime = 0
    if entry.isdir():
        entry.mode = 0o755
    return entry


def _sign(content: Path, out: Path, signing: Signing) -> str | None:
    words = ["rauc", "bundle", f"--cert={signing.certificate}", f"--key={signing.key}"]
    words += [f"--intermediate={signing.intermediate}"] if signing.intermediate is not None else []
    words += [f"--signing-keyring={signing.keyring}"] if signing.keyring is not None else []
    _run([*words, str(content), str(out)], EnvironmentFailed, "does not make the bundle")
    if signing.keyring is None:
        return None
    check = ["rauc", "info", f"--keyring={signing.keyring}", str(out)]
    return _run(check, CheckFailed, "does not accept the bundle")


def _run(words: list[str], kind: type[EnvironmentFailed | CheckFailed], what: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise kind(f"rauc {what}: {(lines or ['it says nothing'])[-1].strip()}", "is the key the certificate's?")
    return done.stdout
