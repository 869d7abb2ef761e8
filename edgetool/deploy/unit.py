"""The systemd unit of a deployed bundle, hardened: `systemd-analyze security` gives it 2.0 or better.

It runs under a user that exists while it runs, may read its release and nothing of anybody's home, has the devices
that a camera, a microphone, a GPIO line or an accelerator need, and talks to this machine alone.
"""

from pathlib import PurePosixPath

from edge.target import Target

# By the target's delegates: what their drivers make under /dev (classes as /proc/devices has them)
_DEVICES = {
    "tensorrt": ("char-nvidia*", "/dev/nvmap", "/dev/nvhost-*"),
    "cuda": ("char-nvidia*", "/dev/nvmap", "/dev/nvhost-*"),
    "hailo": ("/dev/hailo0",),
    "coral": ("/dev/apex_0",),
    "qnn": ("/dev/fastrpc-cdsp",),
    "rknn": ("char-drm",),
    "ethos-u": ("/dev/ethosu0",),
}
_ALWAYS = ("char-video4linux", "char-media", "char-alsa", "/dev/gpiochip0")


def unit(base: str, target: Target | None, *, memory_bytes: int | None) -> str:
    """The text of edgetool.service for releases in `base`; the service may use three quarters of the memory."""
    folder = PurePosixPath(base)
    delegates = target.delegates if target is not None else ()
    devices = dict.fromkeys((*_ALWAYS, *(device for name in delegates for device in _DEVICES.get(name, ()))))
    allowed = "\n".join(f"DeviceAllow={device} rw" for device in devices)
    limit = "" if memory_bytes is None else f"MemoryMax={memory_bytes * 3 // 4}\n"
    return f"""\
# Made by edgetool deploy
[Unit]
Description=edgetool release
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
Type=notify
NotifyAccess=main
WatchdogSec=60
TimeoutStartSec=300
# With full rights, and from the release that was good last: puts right what a cut deploy left
ExecStartPre=+/bin/sh {folder / "start"}
ExecStart=/usr/bin/python3 -I {folder / "current/start.py"} edge.service {folder}
Restart=on-failure
RestartSec=2
DynamicUser=yes
SupplementaryGroups=video audio
RuntimeDirectory=edgetool
StateDirectory=edgetool
CacheDirectory=edgetool
UMask=0077
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateMounts=yes
DevicePolicy=closed
{allowed}
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
IPAddressDeny=any
IPAddressAllow=localhost
ProtectHostname=yes
ProtectClock=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectProc=invisible
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
{limit}TasksMax=64
OOMPolicy=stop

[Install]
WantedBy=multi-user.target
"""
