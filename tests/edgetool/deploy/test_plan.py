"""What does not fit is refused from facts alone; and the units, segments and addresses that a deploy is made of."""

import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from edge.errors import BadInput, BadRecipe, DiskFull, EnvironmentFailed
from edge.target import TARGETS
from edge.wheel import unpack_wheel
from edgetool.deploy.examine import examine
from edgetool.deploy.facts import SCRIPT, Facts, parse
from edgetool.deploy.plan import make, notes, problems
from edgetool.deploy.segments import lacking, segments
from edgetool.deploy.transport import Address, parse_address
from edgetool.deploy.unit import unit
from edgetool.deploy.wheels import Platform, Wheel, edge_package, platform_of, requirements
from tests.edgetool.deploy.ssh_device import fake_bundle

PI = Facts(
    python=(3, 11, 2),
    implementation="cpython",
    machine="aarch64",
    bits=64,
    libc=("glibc", "2.36"),
    os='PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    board="Raspberry Pi 4 Model B Rev 1.4",
    features=("fp", "asimd"),
    instructions={"SDOT": False, "FP16": True},
    memory_bytes=4 << 30,
    free_bytes=8 << 30,
    cores=4,
    governor="ondemand",
    temperature_c=48.3,
    throttled=0,
    l4t=None,
    power_mode=None,
    time=1e9,
    uid=1000,
    root=True,
    systemd=True,
    emulated=False,
    base="/opt/edgetool",
    held={"current": None, "previous": None, "packages": ["aa"], "trial": False},
)


def test_a_pi_fits() -> None:
    assert problems(PI, "raspberrypi4", 10 << 20, now=1e9) == []
    assert PI.description.startswith("Raspberry Pi 4 Model B Rev 1.4, Debian GNU/Linux 12 (bookworm), aarch64")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"bits": 32}, "32-bit userland"),
        ({"machine": "armv7l"}, "32-bit userland"),
        ({"machine": "x86_64"}, r"raspberrypi4 \(aarch64\), the device is x86_64"),
        ({"python": (3, 9, 2)}, r"3\.9\.2; CPython 3\.10 is the oldest"),
        ({"python": (3, 15, 0)}, r"3\.14 is the newest"),
        ({"implementation": "pypy"}, "pypy"),
        ({"libc": ("", "")}, "C library"),
        ({"root": False}, "sudo"),
        ({"memory_bytes": 64 << 20}, "of memory, the model needs"),
        ({"time": 0.0}, "11574 days behind"),
        ({"time": 2e9}, "days ahead"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, object], reason: str) -> None:
    found = problems(replace(PI, **changed), "raspberrypi4", 10 << 20, now=1e9)  # type: ignore[arg-type]  # fields by name
    assert found
    with pytest.raises(BadInput, match=reason):
        raise found[0]


def test_no_systemd_needs_no_sudo() -> None:
    facts = replace(PI, root=False, systemd=False)
    assert problems(facts, None, 0, now=1e9) == []
    assert any("edge.supervisor" in note for note in notes(facts, now=1e9))


def test_only_what_lacks_moves_and_a_full_disk_is_refused() -> None:
    wheels = [Wheel(Path("a.whl"), "aa", 5 << 20, 20 << 20), Wheel(Path("b.whl"), "bb", 1 << 20, 3 << 20)]
    planned = make(PI, wheels, 1000, 900, now=1e9)
    assert [wheel.sha256 for wheel in planned.wheels] == ["bb"]
    assert planned.wheel_bytes == 1 << 20
    with pytest.raises(DiskFull, match="free at /opt/edgetool"):
        make(replace(PI, free_bytes=planned.disk_bytes - 1), wheels, 1000, 900, now=1e9)


def test_what_is_odd_is_noted() -> None:
    odd = replace(PI, time=1e9 - 3 * 86400, throttled=0x50005, emulated=True)
    said = " / ".join(notes(odd, now=1e9))
    for word in ("emulated", "3 days behind", "0x50005"):
        assert word in said


def test_the_doctor_names_a_missing_instruction() -> None:
    found = examine("ssh://pi@pi", PI, now=1e9)
    assert found.fit
    assert "SDOT does not run (SIGILL)" in found.as_text()
    assert "FP16 runs" in found.as_text()
    assert not examine("ssh://pi@pi", replace(PI, bits=32), now=1e9).fit
    assert json.loads(found.as_json())["schema"] == "edgetool.device/1"


def test_the_probe_runs_here_and_changes_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", str(SCRIPT), str(tmp_path / "base")], capture_output=True, text=True, check=True
    )
    facts = parse(done.stdout)
    assert facts.python == sys.version_info[:3]
    assert facts.base == str(tmp_path / "base")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(EnvironmentFailed, match="answered something else"):
        parse("Welcome!\n")


def test_addresses() -> None:
    assert parse_address("ssh://pi@host:2222/srv/edge/") == Address("host", "pi", 2222, "/srv/edge")
    assert str(parse_address("ssh://host")) == "ssh://host"
    for wrong in (
        "pi@host",
        "http://host",
        "ssh://",
        "ssh://pi:secret@host",
        "ssh://h/a b",
        "ssh://h/../x",
        "ssh://h:x",
    ):
        with pytest.raises(BadRecipe):
            parse_address(wrong)


def test_a_changed_model_shares_the_other_segments(tmp_path: Path) -> None:
    one = fake_bundle(tmp_path / "one.edge", padding=50_000).read_bytes()
    two = fake_bundle(tmp_path / "two.edge", padding=60_000).read_bytes()
    parts = segments(one)
    assert b"".join(one[offset : offset + size] for offset, size, _ in parts) == one
    held = {digest for _, _, digest in parts}
    missing = lacking(two, segments(two), held)
    assert len(missing) < len(two)
    assert lacking(one, parts, held) == b""
    assert lacking(b"no archive", segments(b"no archive"), held) == b"no archive"


def test_platforms_list_every_tag() -> None:
    platform = platform_of(PI)
    assert platform == Platform((3, 11), "aarch64", 36)
    assert platform.tags[0] == "manylinux_2_36_aarch64"
    assert {"manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"} < set(platform.tags)
    assert platform.environment["platform_machine"] == "aarch64"
    with pytest.raises(BadInput, match="C library"):
        platform_of(replace(PI, libc=("", "")))


def test_requirements_are_the_bundles_own_else_the_runtime() -> None:
    assert requirements(("numpy>=2", "ai-edge-litert"), "tflite") == ("ai-edge-litert", "numpy>=2")
    assert requirements((), "onnx") == ("numpy>=1.24", "onnxruntime>=1.20")


def test_the_toolkits_own_wheel_is_the_same_each_time() -> None:
    wheel = edge_package()
    edge_package.cache_clear()
    assert wheel == edge_package()
    with zipfile.ZipFile(wheel.path) as archive:
        assert {"edge/__init__.py", "edge/service.py", "edge/releases.py"} <= set(archive.namelist())


def test_a_wheel_that_climbs_out_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as archive:
        archive.writestr("../out.py", "")
    with pytest.raises(BadInput, match=r"out\.py"):
        unpack_wheel(tmp_path / "w.whl", tmp_path / "folder")
    assert not (tmp_path / "out.py").exists()


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.arch == "aarch64"])
def test_the_unit_is_hardened(name: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here")
    file = tmp_path / "edgetool.service"
    file.write_text(unit("/opt/edgetool", TARGETS[name], memory_bytes=1 << 30))
    # verify complains by its output alone
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(file)], capture_output=True, text=True, check=True
    )
    assert verified.stdout + verified.stderr == ""
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(file)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
