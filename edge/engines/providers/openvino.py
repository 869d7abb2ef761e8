"""OpenVINO by its plugin for ONNX Runtime."""

import json
from typing import Any

from edge.engines.compiled_cache import Entry
from edge.engines.providers import Attached
from edge.engines.providers.plugin import Plugin, add, devices, kind
from edge.errors import DelegateFailed
from edge.onnxruntime_settings import OpenVINOSettings
from edge.probe import cpu_model

PLUGIN = Plugin(
    "OpenVINOExecutionProvider", "the OpenVINO plugin", "onnxruntime_ep_openvino", "onnxruntime-ep-openvino"
)


def attach(ort: Any, options: Any, settings: OpenVINOSettings, threads: int, entry: Entry | None) -> Attached:
    """Give OpenVINO's device to session options.

    Everything is told by `load_config`: the plugin ignores other options, known ones of its forerunner too.

    Raises:
        RuntimeMissing: the plugin is not installed.
        DelegateFailed: it cannot be loaded, or offers no such device.

    """
    offered = devices(ort, PLUGIN)
    chosen = next((device for device in offered if kind(device) == settings.device), None)
    if chosen is None:
        raise DelegateFailed(_absent(settings.device, offered), "--delegate cpu runs on every processor")
    told: dict[str, str] = {}
    if settings.precision != "dynamic":
        told["INFERENCE_PRECISION_HINT"] = settings.precision
    if settings.device == "CPU":
        told["INFERENCE_NUM_THREADS"] = str(threads)
    if entry is not None and entry.folder is not None:
        told["CACHE_DIR"] = str(entry.folder)
    add(options, chosen, {"load_config": json.dumps({settings.device: told})}, PLUGIN.title)
    return Attached(PLUGIN.name, device=dict(chosen.ep_metadata).get("FULL_DEVICE_NAME") or chosen.device.vendor)


def identity(ort: Any) -> dict[str, str]:
    """The plugin's version and the processor: a blob holds code for its instruction set."""
    return {"plugin": PLUGIN.version, "device": cpu_model()}


def _absent(wanted: str, offered: list[Any]) -> str:
    if offered:
        return f"{PLUGIN.title} offers {', '.join(sorted({kind(one) for one in offered}))} here, and no {wanted}"
    if wanted == "CPU":
        # its list of devices starts with a comparison of the vendor (microsoft/onnxruntime pull request 31981)
        return f"{PLUGIN.title} {PLUGIN.version} offers devices on Intel processors only; this is {cpu_model()}"
    return f"{PLUGIN.title} {PLUGIN.version} finds no Intel {wanted} with a driver here"
