"""Qualcomm's HTP by ONNX Runtime's QNN plugin; on x86 the plugin brings Qualcomm's own simulator of it."""

from pathlib import Path
from typing import Any

from edge.engines.compiled_cache import Entry
from edge.engines.providers import Attached
from edge.engines.providers.plugin import Plugin, add, devices, kind
from edge.errors import DelegateFailed
from edge.onnxruntime_settings import SOCS, QNNSettings

PLUGIN = Plugin("QNNExecutionProvider", "the QNN plugin", "onnxruntime_qnn", "onnxruntime-qnn")
SIMULATOR = "Qualcomm's HTP simulator on the CPU"
CONTEXT = "model.onnx"


def attach(ort: Any, options: Any, settings: QNNSettings, threads: int, entry: Entry | None) -> Attached:
    """Give the HTP to session options; with an `entry`, load its context binary, or have one written there.

    Raises:
        RuntimeMissing: the plugin is not installed.
        DelegateFailed: it cannot be loaded, or offers no device.

    """
    offered = devices(ort, PLUGIN)
    if not offered:
        raise DelegateFailed(f"{PLUGIN.title} {PLUGIN.version} offers no device here")
    # on a Snapdragon under Linux the NPU may be listed as such; a CPU stands for the simulator
    chosen = next((one for one in offered if kind(one) == "NPU"), offered[0])
    source = None
    if entry is not None and entry.folder is not None:
        if entry.complete:
            source = entry.folder / CONTEXT
        else:
            write_context(options, entry.folder / CONTEXT)
    add(options, chosen, told(settings), PLUGIN.title)
    simulated = kind(chosen) == "CPU" and chosen.device.vendor.lower() != "qualcomm"
    return Attached(
        PLUGIN.name,
        source=source,
        device=f"HTP of {soc_name(settings.soc_id)}" if settings.soc_id else "HTP",
        emulated_by=SIMULATOR if simulated else None,
    )


def soc_name(number: int) -> str:
    """The name of a SoC by Qualcomm's number."""
    return next((name for name, known in SOCS.items() if known == number), str(number))


def told(settings: QNNSettings) -> dict[str, str]:
    """The settings as the plugin reads them."""
    options = {"backend_type": "htp", "htp_performance_mode": settings.performance_mode}
    if settings.soc_id:
        options["soc_model"] = str(settings.soc_id)
    if settings.htp_arch:
        options["htp_arch"] = str(settings.htp_arch)
    if settings.vtcm_mb:
        options["vtcm_mb"] = str(settings.vtcm_mb)
    return options


def write_context(options: Any, file: Path) -> None:
    """Have the next session write what it compiled: `file`, and the context binary beside it."""
    options.add_session_config_entry("ep.context_enable", "1")
    options.add_session_config_entry("ep.context_file_path", str(file))
    options.add_session_config_entry("ep.context_embed_mode", "0")


def identity(ort: Any) -> dict[str, str]:
    """The plugin's version, which brings the compiler."""
    return {"plugin": PLUGIN.version}
