"""What can be known of NVIDIA's providers without an NVIDIA GPU: options, missing libraries, a Jetson's files."""

from pathlib import Path

import pytest

from edge.engines.providers.nvidia import missing_libraries, needed, tensorrt_options, tensorrt_version
from edge.jetson import gpu_name, power_mode
from edge.onnxruntime_settings import TensorRTSettings

CONFIGURATION = """
< POWER_MODEL ID=0 NAME=MAXN >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=2 NAME=MODE_15W >
CPU_ONLINE CORE_0 1
< PM_CONFIG DEFAULT=2 >
"""


def jetson(root: Path) -> Path:
    """A board's files: its name, and the power modes that nvpmodel knows."""
    for name, content in {
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        "etc/nvpmodel.conf": CONFIGURATION,
        "var/lib/nvpmodel/status": "pmode:0000 fmode:fanNull",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def test_a_jetson_tells_its_name_and_power_mode(tmp_path):
    root = jetson(tmp_path)
    assert gpu_name(root) == "NVIDIA Jetson Orin Nano Developer Kit"
    assert power_mode(root) == "MAXN"
    (root / "var/lib/nvpmodel/status").write_text("pmode:0002 fmode:quiet")
    assert power_mode(root) == "15W"
    (root / "var/lib/nvpmodel/status").write_text("pmode:0007 fmode:quiet")
    assert power_mode(root) == "7"
    (root / "var/lib/nvpmodel/status").unlink()
    assert power_mode(root) == "15W"  # the default


def test_a_card_tells_its_name(tmp_path):
    told = tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0/information"
    told.parent.mkdir(parents=True)
    told.write_text("Model: \t\t NVIDIA RTX A2000\nIRQ:   \t\t 130\n")
    assert gpu_name(tmp_path) == "NVIDIA RTX A2000"
    assert power_mode(tmp_path) is None


def test_another_board_tells_nothing(tmp_path):
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_text("Raspberry Pi 5 Model B Rev 1.0\0")
    assert gpu_name(tmp_path) is None
    assert power_mode(tmp_path) is None


def test_every_option_reaches_tensorrt(tmp_path):
    settings = TensorRTSettings(
        device_id=1,
        fp16=True,
        int8=True,
        calibration_table="ranges.table",
        dla_core=1,
        max_workspace_bytes=1 << 28,
        min_subgraph_size=3,
        max_partition_iterations=20,
        builder_optimization_level=5,
        sequential_build=True,
    )
    assert tensorrt_options(settings, tmp_path) == {
        "device_id": "1",
        "trt_fp16_enable": "1",
        "trt_int8_enable": "1",
        "trt_int8_calibration_table_name": "ranges.table",
        "trt_int8_use_native_calibration_table": "1",
        "trt_dla_enable": "1",
        "trt_dla_core": "1",
        "trt_max_workspace_size": "268435456",
        "trt_min_subgraph_size": "3",
        "trt_max_partition_iterations": "20",
        "trt_builder_optimization_level": "5",
        "trt_force_sequential_engine_build": "1",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(tmp_path),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(tmp_path),
    }


def test_without_a_folder_nothing_is_kept():
    options = tensorrt_options(TensorRTSettings(), None)
    assert (options["trt_engine_cache_enable"], options["trt_timing_cache_enable"]) == ("0", "0")
    assert not any("path" in name for name in options)


def test_missing_libraries_are_found_by_the_loader():
    assert missing_libraries(["libc.so.6", "libnone-such.so.3"]) == ["libnone-such.so.3"]


def test_what_a_library_needs_is_read_from_its_file(tmp_path):
    import _ctypes

    if not _ctypes.__file__.endswith(".so"):
        pytest.skip("this interpreter has its extensions built in")
    assert any(name.startswith("libc.so") for name in needed(Path(_ctypes.__file__)))
    (tmp_path / "text.so").write_bytes(b"no library")
    assert needed(tmp_path / "text.so") == []


def test_tensorrt_tells_its_version_or_is_not_here():
    version = tensorrt_version()
    assert version is None or version.count(".") == 2
