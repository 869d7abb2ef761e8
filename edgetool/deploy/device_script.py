"""Run on a device by its own Python, however old, and prints what the device is as JSON; it changes nothing."""
# ruff: noqa: D103, PTH110, PTH111, PTH112, PTH115, PTH118, PTH119, PTH120, PTH123, PTH208, UP031
# Python 3.5 and later: a device whose Python is too old has to be told so, not to fail with a syntax error.

import ctypes
import json
import mmap
import os
import platform
import resource
import struct
import subprocess
import sys
import time

RETURN = 0xD65F03C0
# One instruction of each extension that int8 and float16 kernels are built for (Arm ARM, C7.2)
INSTRUCTIONS = {"SDOT": 0x4E809400, "FP16": 0x4E401400, "I8MM": 0x4E80A400}


def text(path: str) -> "str | None":
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20).decode("utf-8", "replace").strip("\0 \n")
    except OSError:
        return None


def quiet(*command: str) -> "str | None":
    try:
        with open(os.devnull, "rb+") as null:
            done = subprocess.Popen(command, stdin=null, stdout=subprocess.PIPE, stderr=null)
            return done.communicate()[0].decode("utf-8", "replace").strip() if done.wait() == 0 else None
    except OSError:
        return None


def runs(code: int) -> bool:
    """Whether the processor executes an instruction: a child runs it, and dies of SIGILL where it does not."""
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(struct.pack("<II", code, RETURN))
        ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def instructions() -> "dict[str, bool]":
    if platform.machine() != "aarch64" or struct.calcsize("P") != 8:
        return {}
    return {name: runs(code) for name, code in INSTRUCTIONS.items()}


def memory_bytes() -> "int | None":
    for line in (text("/proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None


def throttled() -> "int | None":
    told = text("/sys/devices/platform/soc/soc:firmware/get_throttled")
    if told is None:
        told = (quiet("vcgencmd", "get_throttled") or "").partition("=")[2] or None
    return int(told, 16) if told else None


def emulated() -> bool:
    if "QEMU_CPU" in os.environ:
        return True
    return "qemu-" in (text("/proc/%d/cmdline" % os.getppid()) or "")


def temperature_c() -> "float | None":
    for zone in range(16):
        told = text("/sys/class/thermal/thermal_zone%d/temp" % zone)
        if told and told.lstrip("-").isdigit():
            return int(told) / 1000.0
    return None


def features() -> "list[str]":
    for line in (text("/proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("Features", "flags"):
            return value.split()
    return []


def free_bytes(folder: str) -> int:
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize


def release(base: str) -> "dict[str, object]":
    """What runs there, and what was before it."""
    found = dict.fromkeys(("current", "previous"), None)  # type: dict[str, object]
    for link in ("current", "previous"):
        try:
            name = os.path.basename(os.readlink(os.path.join(base, link)))
        except OSError:
            continue
        about = text(os.path.join(base, "releases", name, "release.json"))
        found[link] = dict(json.loads(about), release=name, segments=None) if about else {"release": name}
    packages = os.path.join(base, "packages")
    found["packages"] = sorted(os.listdir(packages)) if os.path.isdir(packages) else []
    found["trial"] = os.path.exists(os.path.join(base, "trial.json"))
    return found


def main() -> None:
    systemd = os.path.isdir("/run/systemd/system")
    root = os.getuid() == 0 or (systemd and quiet("sudo", "-n", "true") is not None)
    given = sys.argv[1] if len(sys.argv) > 1 else ""
    base = given or ("/opt/edgetool" if systemd else os.path.expanduser("~/.local/share/edgetool"))
    facts = {
        "python": list(sys.version_info[:3]),
        "implementation": sys.implementation.name,
        "machine": platform.machine(),
        "bits": struct.calcsize("P") * 8,
        "libc": list(platform.libc_ver()),
        "os": text("/etc/os-release"),
        "board": text("/sys/firmware/devicetree/base/model"),
        "features": features(),
        "instructions": instructions(),
        "memory_bytes": memory_bytes(),
        "free_bytes": free_bytes(base),
        "cores": os.cpu_count(),
        "governor": text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "temperature_c": temperature_c(),
        "throttled": throttled(),
        "l4t": text("/etc/nv_tegra_release"),
        "power_mode": text("/var/lib/nvpmodel/status"),
        "time": time.time(),
        "uid": os.getuid(),
        "root": root,
        "systemd": systemd,
        "emulated": emulated(),
        "base": base,
        "held": release(base),
    }
    sys.stdout.write(json.dumps(facts) + "\n")


main()
