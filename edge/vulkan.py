"""Which Vulkan devices there are, by the loader's C interface alone: name, and whether it is a GPU or the CPU.

Vulkan 1.x specification, chapters "Instances" and "Devices and Queues": VkPhysicalDeviceProperties starts with five
32-bit words (apiVersion, driverVersion, vendorID, deviceID, deviceType) and the name, 256 bytes.
"""

import ctypes
import struct
from dataclasses import dataclass

from edge.errors import DelegateFailed

TYPES = ("other", "integrated", "discrete", "virtual", "cpu")
PROPERTIES_BYTES = 4096  # the whole structure has 824 bytes in Vulkan 1.3
INSTALL = "on Debian 12: apt-get install -t bookworm-backports mesa-vulkan-drivers libvulkan1 (enable backports first)"


class _InstanceInfo(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("application", ctypes.c_void_p),
        ("layer_count", ctypes.c_uint32),
        ("layers", ctypes.c_void_p),
        ("extension_count", ctypes.c_uint32),
        ("extensions", ctypes.c_void_p),
    )


@dataclass(frozen=True)
class VulkanDevice:
    """One device of the Vulkan loader. `kind` "cpu" is a driver that computes on the processor: an emulation."""

    name: str
    kind: str


def vulkan_devices() -> tuple[VulkanDevice, ...]:
    """All devices, in the loader's order.

    Raises:
        DelegateFailed: no loader, no driver, or no device.

    """
    try:
        loader = ctypes.CDLL("libvulkan.so.1")
    except OSError:
        raise DelegateFailed("there is no Vulkan loader (libvulkan.so.1)", INSTALL) from None
    instance, info = ctypes.c_void_p(), _InstanceInfo(type=1)
    code = loader.vkCreateInstance(ctypes.byref(info), None, ctypes.byref(instance))
    if code != 0:
        raise DelegateFailed(f"Vulkan has no driver here (vkCreateInstance says {code})", INSTALL)
    try:
        count = ctypes.c_uint32()
        loader.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None)
        handles = (ctypes.c_void_p * count.value)()
        loader.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), handles)
        found = tuple(_device(loader, handle) for handle in handles if handle is not None)
    finally:
        loader.vkDestroyInstance(instance, None)
    if not found:
        raise DelegateFailed("Vulkan lists no device", INSTALL)
    return found


def emulated_by() -> str | None:
    """What stands for the GPU that a runtime takes by default (the first real one, else the first), None for a GPU.

    Raises DelegateFailed: there is no Vulkan device at all.
    """
    devices = vulkan_devices()
    return None if any(one.kind != "cpu" for one in devices) else f"software Vulkan: {devices[0].name}"


def _device(loader: ctypes.CDLL, handle: int) -> VulkanDevice:
    properties = ctypes.create_string_buffer(PROPERTIES_BYTES)
    loader.vkGetPhysicalDeviceProperties(ctypes.c_void_p(handle), properties)
    kind = struct.unpack_from("<I", properties.raw, 16)[0]
    name = properties.raw[20:276].split(b"\0")[0].decode("utf-8", "replace")
    return VulkanDevice(name, TYPES[kind] if kind < len(TYPES) else "other")
