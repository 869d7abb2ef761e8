"""Where an assistant keeps what it has to remember: settings, models, whether it is muted, counts; never sound."""

from dataclasses import dataclass
from pathlib import Path

from device_apps.durable import failed, remove_leftovers, write_whole
from device_apps.sealed_store import SealedStore
from device_apps.store_key import StoreKey, store_key
from device_apps.voice_assistant.cases import Cases
from device_apps.voice_assistant.meter import Meter
from device_apps.web.login import Password

SETTINGS = "voice-assistant.toml"


@dataclass(frozen=True)
class State:
    """The folder of one assistant (mode 0700) and the key of what is sealed in it."""

    folder: Path
    key: StoreKey

    @property
    def policy(self) -> Path:
        """The settings."""
        return self.folder / SETTINGS

    @property
    def models(self) -> Path:
        """The models, labels, grammars and sentences."""
        return self.folder / "models"

    @property
    def muted(self) -> bool:
        """Whether the microphone is to stay closed, also after a restart."""
        return (self.folder / "muted").exists()

    def mute(self) -> None:
        """Keep the microphone closed. Raises EnvironmentFailed: it cannot be written down."""
        write_whole(self.folder / "muted", b"muted\n")

    def unmute(self) -> None:
        """Let the microphone be opened. Raises EnvironmentFailed: it cannot be written down."""
        try:
            (self.folder / "muted").unlink(missing_ok=True)
        except OSError as error:
            raise failed(self.folder / "muted", error) from error

    def meter(self) -> Meter:
        """The counts of wake words."""
        return Meter(self.folder / "meter.json")

    def cases(self, days: int) -> Cases:
        """What was kept for feedback. Raises EnvironmentFailed: the folder cannot be made."""
        return Cases(SealedStore(self.folder / "feedback", self.key.key, "voice feedback"), days)

    def password(self) -> Password:
        """The page's password. Raises EnvironmentFailed: the folder cannot be made."""
        return Password(SealedStore(self.folder / "page", self.key.key, "page"))

    def calibration(self, word: str) -> Path:
        """A wake word's own operating point."""
        return self.folder / f"calibration-{word}.json"

    def verifier(self, word: str) -> Path:
        """The second stage of a wake word."""
        return self.folder / f"verifier-{word}.json"


def open_state(folder: Path) -> State:
    """The state in a folder, which is made where it does not exist.

    Raises:
        BadInput: the key is damaged or others can read it.
        EnvironmentFailed: the folder or the key cannot be made or read.

    """
    folder = folder.expanduser()
    key = store_key(folder)
    remove_leftovers(folder)
    return State(folder, key)
