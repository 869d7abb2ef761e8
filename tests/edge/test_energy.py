"""Every meter read from the files of another machine: counters that start again, sensors by name, tegrastats' lines."""

import time

import pytest

from edge.energy import Power, Rapl, measure, meter, sensor, tegrastats, tegrastats_watts


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")
    return path


def rapl_zone(root, zone, name, energy):
    folder = root / "sys/class/powercap" / zone
    write(folder / "name", name)
    write(folder / "max_energy_range_uj", 1_000_000)
    return write(folder / "energy_uj", energy)


def test_rapl_adds_packages_once_and_starts_again_at_its_range(tmp_path):
    package = rapl_zone(tmp_path, "intel-rapl:0", "package-0", 900_000)
    rapl_zone(tmp_path, "intel-rapl:0:0", "core", 500_000)
    rapl_zone(tmp_path, "intel-rapl:1", "psys", 500_000)
    counter = Rapl(tmp_path)
    assert counter.present
    assert counter.sample(0) == 0
    write(package, 950_000)
    assert counter.sample(1) == pytest.approx(0.05)
    write(package, 50_000)
    assert counter.sample(2) == pytest.approx(0.15)


def test_a_sensor_of_the_whole_board_comes_before_single_rails(tmp_path):
    chip = tmp_path / "sys/class/hwmon/hwmon3"
    write(chip / "name", "ina3221")
    for number, label, volts, amperes in ((1, "VDD_IN", 5000, 900), (2, "VDD_CPU", 5000, 400)):
        write(chip / f"in{number}_label", label)
        write(chip / f"in{number}_input", volts)
        write(chip / f"curr{number}_input", amperes)
    found = sensor(tmp_path)
    assert found.method == "INA3221 (hwmon): VDD_IN"
    assert found.sample(0) == 0
    assert found.sample(2) == pytest.approx(9.0)
    rapl_zone(tmp_path, "intel-rapl:0", "package-0", 1)
    assert meter(tmp_path).method == found.method


def test_other_chips_are_no_meters(tmp_path):
    write(tmp_path / "sys/class/hwmon/hwmon0/name", "coretemp")
    assert sensor(tmp_path) is None
    assert meter(tmp_path) is None


def test_the_trapezoid_of_power():
    readings = iter((2.0, 4.0, 4.0))
    one = Power("a meter", lambda: next(readings))
    assert [one.sample(now) for now in (0.0, 1.0, 3.0)] == [0, 3.0, 11.0]


def test_lines_of_tegrastats():
    orin = "RAM 3/7 CPU [1%@729] VDD_IN 4940mW/4940mW VDD_CPU_GPU_CV 483mW/483mW VDD_SOC 1449mW/1449mW"
    nano = "RAM 1/3 POM_5V_IN 2532/2532 POM_5V_GPU 0/0"
    assert (tegrastats_watts(orin), tegrastats_watts(nano), tegrastats_watts("RAM 1/3")) == (4.94, 2.532, None)


def test_a_program_that_prints_lines_for_ever_is_read_and_ended(tmp_path):
    program = write(
        tmp_path / "usr/bin/tegrastats", "#!/bin/sh\nwhile true; do echo VDD_IN 5000mW/5000mW; sleep 0.01; done"
    )
    program.chmod(0o755)
    found = tegrastats(tmp_path)
    assert found.sample(0.0) == 0
    assert found.sample(2.0) == pytest.approx(10.0)


def test_the_idle_power_is_not_the_model_s():
    """A machine of 3 W that takes 5 W while it works: 100 inferences share the 2 W of the time that they took."""
    busy = []
    one = Power("a meter", lambda: 5.0 if busy else 3.0)

    def work(seconds):
        busy.append(True)
        time.sleep(seconds)
        return 100

    found = measure(one, work, seconds=0.2, idle_seconds=0.1)
    assert found.idle_watts == pytest.approx(3.0, rel=0.01)
    assert found.joules_per_inference == pytest.approx(2.0 * found.seconds / 100, rel=0.25)
    assert "subtracted" in found.method
