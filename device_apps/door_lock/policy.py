"""The lock's one file of settings, door-lock.toml: what it may do, with which models.

```toml
[models]
detector = { file = "yunet.onnx", sha256 = "…" }
liveness = { file = "minifas.onnx", sha256 = "…" }
embedder = { file = "mobilefacenet.onnx", sha256 = "…" }
[access]
face_alone = false
[actuator]
kind = "gpio"
pin = 17
```
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from device_apps.door_lock.access import AccessRules
from device_apps.door_lock.decision import Rules
from device_apps.door_lock.home_assistant import HomeAssistantRules
from device_apps.door_lock.lockout import LockoutRules
from device_apps.door_lock.quality import QualityLimits
from device_apps.model_file import ModelFile
from device_apps.mqtt import Broker
from device_apps.toml_settings import read_settings
from device_apps.webhook import WebhookRules

MAX_PULSE_S = 5.0


@dataclass(frozen=True)
class Models:
    """The three models, the delegate that runs them, and the threads of each."""

    detector: ModelFile
    liveness: ModelFile
    embedder: ModelFile
    delegate: str = "cpu"
    threads: int = 1


@dataclass(frozen=True)
class Matching:
    """`margin` is by how much the nearest person must be nearer than the second; `min_score` is the detector's."""

    margin: float = 0.05
    min_score: float = 0.7

    def __post_init__(self) -> None:
        if not 0 <= self.margin <= 1 or not 0 < self.min_score < 1:
            raise ValueError("margin is 0 to 1, min_score between 0 and 1")


@dataclass(frozen=True)
class Actuation:
    """What moves the bolt. `pin` is the GPIO's number (Broadcom's numbering), `pulse_s` how long it is open."""

    kind: Literal["print", "gpio"] = "print"
    pin: int = 17
    active_high: bool = True
    pulse_s: float = 3.0
    egress_pin: int | None = None

    def __post_init__(self) -> None:
        if not 0.1 <= self.pulse_s <= MAX_PULSE_S or self.pin < 0 or self.egress_pin == self.pin:
            raise ValueError(f"pulse_s is 0.1 to {MAX_PULSE_S}, and the relay and the button have pins of their own")


@dataclass(frozen=True)
class CameraLimits:
    """A camera without a new frame for `lost_ms` is lost; files are played at `fps`."""

    lost_ms: float = 900.0
    fps: float = 15.0

    def __post_init__(self) -> None:
        if not 500 <= self.lost_ms <= 1400 or not 1 <= self.fps <= 120:
            raise ValueError("lost_ms is 500 to 1400, fps 1 to 120")


@dataclass(frozen=True)
class PageRules:
    """Where the page is: on this machine alone, where `host` says nothing else."""

    host: str = "127.0.0.1"
    port: int = 8680

    def __post_init__(self) -> None:
        if not self.host or not 0 <= self.port <= 65535:
            raise ValueError("host is not empty, port is 0 (any) to 65535")


@dataclass(frozen=True)
class AuditRules:
    """`anchor` is a file, best on another disk, that keeps the record's head too; `init --anchor` writes it here."""

    anchor: str = ""

    @property
    def second(self) -> Path | None:
        """The file, where there is one."""
        return Path(self.anchor) if self.anchor else None


@dataclass(frozen=True)
class Policy:
    """All settings of a lock."""

    models: Models
    access: AccessRules = field(default_factory=AccessRules)
    decision: Rules = field(default_factory=Rules)
    quality: QualityLimits = field(default_factory=QualityLimits)
    matching: Matching = field(default_factory=Matching)
    lockout: LockoutRules = field(default_factory=LockoutRules)
    actuator: Actuation = field(default_factory=Actuation)
    camera: CameraLimits = field(default_factory=CameraLimits)
    mqtt: Broker | None = None
    home_assistant: HomeAssistantRules = field(default_factory=HomeAssistantRules)
    page: PageRules | None = None
    webhook: WebhookRules | None = None
    audit: AuditRules = field(default_factory=AuditRules)


def read_policy(path: Path) -> Policy:
    """The settings in a file.

    Raises:
        BadRecipe: the file is missing or no TOML, a key is missing, or a value is refused.
        UnknownName: a key that there is not; the hint names the nearest.

    """
    return read_settings(Policy, path)
