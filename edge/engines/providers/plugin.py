"""Execution providers that come as a package of their own and are registered with ONNX Runtime, once a process."""

import importlib
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from edge.engines.native_log import native_log
from edge.engines.reason import one_line
from edge.errors import DelegateFailed, RuntimeMissing

_registered: set[str] = set()


@dataclass(frozen=True)
class Plugin:
    """A provider's package. `name` is what ONNX Runtime shall call the provider: a plugin is free to take on any."""

    name: str
    title: str
    module: str
    package: str

    @property
    def version(self) -> str:
        """The version of the installed package."""
        return metadata.version(self.package)


def devices(ort: Any, plugin: Plugin) -> list[Any]:
    """The devices that a plugin offers, after registering it. A listed device may still fail: only a session proves it.

    Raises:
        RuntimeMissing: the package is not installed.
        DelegateFailed: its library cannot be loaded, or ONNX Runtime is too old to load plugins.

    """
    try:
        library = importlib.import_module(plugin.module).get_library_path()
    except ImportError:
        raise RuntimeMissing(f"{plugin.title} is not installed", f"pip install {plugin.package}") from None
    except (OSError, RuntimeError) as error:
        raise DelegateFailed(
            f"{plugin.title} is damaged: {one_line(error)}", f"pip install --force-reinstall {plugin.package}"
        ) from None
    if not hasattr(ort, "register_execution_provider_library"):
        raise DelegateFailed(
            f"ONNX Runtime {ort.__version__} loads no plugins, and {plugin.title} is one", "use 1.24 or newer"
        )
    if plugin.name not in _registered:
        with native_log():
            try:
                ort.register_execution_provider_library(plugin.name, library)
            except Exception as error:  # noqa: BLE001  # the runtime's errors share no class but this
                raise DelegateFailed(
                    f"{plugin.title} {plugin.version} cannot be loaded by ONNX Runtime {ort.__version__}: "
                    f"{one_line(error)}",
                    f"pip install --force-reinstall {plugin.package}",
                ) from None
        _registered.add(plugin.name)
    return [device for device in ort.get_ep_devices() if device.ep_name == plugin.name]


def kind(device: Any) -> str:
    """What a plugin says its device is: "CPU", "GPU" or "NPU"."""
    return str(device.device.type).rpartition(".")[2]


def add(options: Any, device: Any, told: dict[str, str], title: str) -> None:
    """Give a device to session options.

    Raises:
        DelegateFailed: the provider refuses the options.

    """
    try:
        options.add_provider_for_devices([device], told)
    except Exception as error:  # noqa: BLE001  # the runtime's errors share no class but this
        raise DelegateFailed(f"{title} cannot be set up: {one_line(error)}") from None
