import pytest

from edge.delegates import DELEGATES
from edge.npu import LOOK, WHERE, coral, ethos_u, hailo, rockchip, seen
from edge.proof import prove


def write(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_an_edge_tpu_on_pcie_and_on_usb(tmp_path):
    assert coral(tmp_path).hardware is None
    usb = tmp_path / "sys/bus/usb/devices"
    write(usb / "1-1/idVendor", "046d\n")
    write(usb / "1-1/idProduct", "c077\n")
    write(usb / "usb1/idVendor", "1d6b\n")  # has no idProduct here: a file that vanished while it was unplugged
    assert coral(tmp_path).hardware is None
    write(usb / "2-1/idVendor", "1a6e\n")
    write(usb / "2-1/idProduct", "089a\n")
    assert coral(tmp_path).hardware == "an Edge TPU on USB (2-1), before its first use"
    write(usb / "2-1/idVendor", "18d1\n")
    write(usb / "2-1/idProduct", "9302\n")
    assert coral(tmp_path).hardware == "an Edge TPU on USB (2-1), with its firmware"
    write(tmp_path / "dev/apex_0")
    assert seen("coral", tmp_path) == "there is an Edge TPU at /dev/apex_0"


def test_a_hailo(tmp_path):
    assert seen("hailo", tmp_path) == "not found: a Hailo NPU (/dev/hailo0)"
    write(tmp_path / "dev/hailo0")
    assert hailo(tmp_path).hardware == "a Hailo NPU at /dev/hailo0"


def test_a_rockchip(tmp_path):
    assert rockchip(tmp_path).hardware is None
    write(tmp_path / "proc/device-tree/compatible", "radxa,rock-5b\0rockchip,rk3588\0")
    write(tmp_path / "usr/lib/librknnrt.so")
    assert seen("rockchip", tmp_path) == "there is a Rockchip rk3588, and librknnrt.so"
    write(tmp_path / "proc/device-tree/compatible", "raspberrypi,5-model-b\0brcm,bcm2712\0")
    assert rockchip(tmp_path).hardware is None


def test_an_ethos_u_behind_linux(tmp_path):
    write(tmp_path / "dev/ethosu0")
    assert ethos_u(tmp_path).hardware == "an Ethos-U at /dev/ethosu0"


def test_every_npu_that_is_only_looked_for_is_in_the_table():
    assert LOOK.keys() == WHERE.keys()
    assert LOOK.keys() <= DELEGATES.keys()
    assert {one.name for one in DELEGATES.values() if not one.runs} <= LOOK.keys()


@pytest.mark.parametrize("name", ["hailo", "rockchip"])
def test_what_cannot_run_is_unavailable_with_what_was_seen(name):
    proof = prove(DELEGATES[name])
    assert proof.status == "unavailable"
    assert proof.reason.startswith(("not found: ", "there is "))
    assert DELEGATES[name].install in proof.reason


def test_an_ethos_u_is_estimated_where_its_compiler_is():
    pytest.importorskip("ethosu.vela")
    proof = prove(DELEGATES["ethos-u"])
    assert (proof.status, proof.unit) == ("estimated", "npu")
    assert "Vela" in proof.proof
