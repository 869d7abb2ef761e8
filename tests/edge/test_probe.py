import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from edge import probe
from edge.probe import Clocks

CPU = "sys/devices/system/cpu"


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_this_machine():
    environment = probe.environment()
    assert environment.cores >= 1
    assert environment.load >= 0
    assert environment.cpu
    assert environment.python == platform.python_version()
    assert environment.versions["numpy"] == np.__version__
    assert platform.release() in environment.os


def test_versions_are_of_installed_packages_and_nothing_is_imported():
    code = (
        "import sys; from edge.probe import environment; environment();"
        "print(sorted({'tensorflow', 'onnxruntime', 'ai_edge_litert', 'keras'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert probe.versions(["numpy", "no-such-package"]) == {"numpy": metadata.version("numpy")}


def test_an_x86_machine(tmp_path):
    root = machine(
        tmp_path,
        {
            "proc/cpuinfo": "".join(f"processor\t: {i}\nmodel name\t: Fast CPU @ 3 GHz\n\n" for i in range(2)),
            f"{CPU}/cpu0/cpufreq/scaling_governor": "powersave\n",
            f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "1800000\n",
            f"{CPU}/cpu0/cpufreq/cpuinfo_min_freq": "800000\n",
            f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq": "3400000\n",
            f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "2\n",
            f"{CPU}/cpu1/thermal_throttle/core_throttle_count": "3\n",
            "sys/class/thermal/thermal_zone0/temp": "45000\n",
            "sys/class/thermal/thermal_zone1/temp": "61500\n",
        },
    )
    assert probe.cpu_model(root) == "Fast CPU @ 3 GHz"
    assert probe.environment(root).governor == "powersave"
    assert probe.clocks(root) == Clocks(1800.0, 800.0, 3400.0, 61.5, 5, None)


def test_a_raspberry_pi(tmp_path):
    root = machine(
        tmp_path,
        {
            "proc/cpuinfo": "processor\t: 0\n\nHardware\t: BCM2835\nModel\t\t: Raspberry Pi 4 Model B\n",
            "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
        },
    )
    assert probe.cpu_model(root) == "Raspberry Pi 4 Model B"
    assert probe.clocks(root).limited_now is True
    machine(root, {"sys/devices/platform/soc/soc:firmware/get_throttled": "50000\n"})
    assert probe.clocks(root).limited_now is False


def test_a_machine_that_tells_nothing(tmp_path):
    assert probe.cpu_model(tmp_path) == platform.machine()
    assert probe.clocks(tmp_path) == Clocks(None, None, None, None, None, None)
    assert probe.busy_seconds(tmp_path) is None
    assert probe.environment(tmp_path).governor is None
    machine(
        tmp_path, {"proc/device-tree/model": "NVIDIA Jetson Orin Nano\0", "sys/class/thermal/thermal_zone0/temp": "x"}
    )
    assert probe.cpu_model(tmp_path) == "NVIDIA Jetson Orin Nano"
    assert probe.clocks(tmp_path).temperature_c is None


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((None, None), (None, None), None),
        ((5, None), (5, None), False),
        ((5, None), (6, None), True),
        ((None, False), (None, False), False),
        ((None, False), (None, True), True),
        ((5, False), (5, True), True),
    ],
)
def test_throttled_between_two_readings(before, after, expected):
    readings = [Clocks(None, None, None, None, events, limited) for events, limited in (before, after)]
    assert probe.throttled(*readings) is expected


def test_busy_seconds_count_what_this_process_burns(tmp_path):
    root = machine(tmp_path, {"proc/stat": "cpu  100 200 300 4000 500 10 20 30 0 0\ncpu0 1 1 1 1 1 1 1 1\n"})
    assert probe.busy_seconds(root) == pytest.approx(6.6)  # 660 ticks of 1/100 s; idle and waiting do not count
    before = probe.busy_seconds()
    if before is None:
        pytest.skip("/proc/stat is not readable here")
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    assert probe.busy_seconds() - before >= 0.15


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ("flags\t\t: fpu avx2 avx512_vnni", "VNNI"),
        ("flags\t\t: fpu avx2", "no int8 dot product"),
        ("Features\t: fp asimd asimddp i8mm", "SDOT and I8MM"),
        ("model name\t: x", None),
    ],
)
def test_what_int8_kernels_are_fast_by(tmp_path, listed, said):
    root = machine(tmp_path, {"proc/cpuinfo": f"processor\t: 0\n{listed}\n"})
    assert probe.int8_instructions(root) == said


@pytest.mark.parametrize(
    ("before", "after", "expected"), [("50000", "50000", False), ("0", "50000", True), ("50000", "50005", True)]
)
def test_what_the_firmware_says_has_occurred_meanwhile_counts(tmp_path, before, after, expected):
    readings = []
    for bits in (before, after):
        root = machine(tmp_path, {"sys/devices/platform/soc/soc:firmware/get_throttled": bits})
        readings.append(probe.clocks(root))
    assert probe.throttled(*readings) is expected
