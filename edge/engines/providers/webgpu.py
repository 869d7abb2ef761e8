"""The GPU by ONNX Runtime's WebGPU plugin (Dawn), on Linux over Vulkan."""

import os
from typing import Any

from edge.engines.compiled_cache import Entry
from edge.engines.providers import Attached
from edge.engines.providers.plugin import Plugin, add, devices
from edge.errors import DelegateFailed
from edge.onnxruntime_settings import WebGPUSettings
from edge.vulkan import emulated_by, vulkan_devices

PLUGIN = Plugin("WebGpuExecutionProvider", "the WebGPU plugin", "onnxruntime_ep_webgpu", "onnxruntime-ep-webgpu")
# read by the plugin when it is registered
SOFTWARE = "ORT_WEBGPU_EP_ALLOW_SOFTWARE_ADAPTER"


def attach(ort: Any, options: Any, settings: WebGPUSettings, threads: int, entry: Entry | None) -> Attached:
    """Give the GPU to session options; a software adapter may stand for it, since the result is then labelled so.

    Raises:
        RuntimeMissing: the plugin is not installed.
        DelegateFailed: it cannot be loaded, or there is no Vulkan device.

    """
    found = vulkan_devices()
    software = emulated_by()
    if software and settings.require_gpu:
        raise DelegateFailed(f"require_gpu is true, but this is {software}")
    os.environ[SOFTWARE] = "1"
    offered = devices(ort, PLUGIN)
    if not offered:
        raise DelegateFailed(f"{PLUGIN.title} {PLUGIN.version} offers no device here")
    # a listed device of type CPU stands for the software adapter, and is there beside a GPU too
    chosen = next((one for one in offered if str(one.device.type).endswith("GPU")), offered[0])
    add(options, chosen, {}, PLUGIN.title)
    real = next((one for one in found if one.kind != "cpu"), found[0])
    return Attached(PLUGIN.name, device=real.name, emulated_by=software)
