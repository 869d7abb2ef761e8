"""Updates from a release channel, taken only as The Update Framework (TUF 1.0) allows.

A channel is a folder on any web server, written by `edgetool channel`. A device knows its first root metadata (given by
hand, over SSH or in the image) and keeps what it has seen in a folder of its own, outside the releases: with that it
refuses what is older, expired, mixed, of unknown keys, of too few signatures, too long or too slow. What it takes is
checked against a length and a sha256 before the caller sees it.
"""

import contextlib
import datetime as dt
import fcntl
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge.durable import sync
from edge.errors import BadInput, CheckFailed, DiskFull, EnvironmentFailed, RuntimeMissing, is_disk_full

try:
    from tuf.api.exceptions import (
        DownloadError,
        DownloadLengthMismatchError,
        ExpiredMetadataError,
        LengthOrHashMismatchError,
        RepositoryError,
    )
    from tuf.ngclient import Updater, UpdaterConfig

    from edge.trust.fetcher import Fetcher, Pace
except ImportError as error:
    raise RuntimeMissing("updates need tuf, which is not installed", "pip install 'edgetool[trust]'") from error

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile

METADATA, TARGETS = "metadata", "targets"
MAX_UPDATE_BYTES = 2 << 30
# A root, a timestamp and a snapshot are below 10 kB; a thousand releases make targets metadata of half a megabyte
CONFIG = UpdaterConfig(
    max_root_rotations=64,
    max_delegations=1,
    root_max_length=1 << 16,
    timestamp_max_length=1 << 14,
    snapshot_max_length=1 << 16,
    targets_max_length=4 << 20,
    app_user_agent="edgetool",
)
# A clock that is set at start-up from a file or a battery may be off by so much
CLOCK_SLACK = dt.timedelta(hours=1)


@dataclass(frozen=True)
class Channel:
    """Where a device gets its updates: the address of the channel's folder, the root metadata it was given, the folder
    it keeps, and what kind of device it is.
    """

    url: str
    root: Path
    state: Path
    device_class: str


@dataclass(frozen=True)
class Offer:
    """The newest release of a bundle: its number rises with each, whatever the bundle's own version says."""

    path: str
    release: int
    length: int
    sha256: str


def target_path(device_class: str, name: str) -> str:
    """Where a channel has the newest release of a bundle for a kind of device."""
    return f"{device_class}/{name}.edge"


class Updates:
    """One look into a channel: `latest`, then perhaps `download`. Two at a time on one folder take turns.

    Raises:
        BadInput: the root metadata that the device was given is none.
        EnvironmentFailed: the folder cannot be written.

    """

    def __init__(self, channel: Channel, *, pace: Pace = Pace(), max_bytes: int = MAX_UPDATE_BYTES) -> None:  # noqa: B008 - frozen
        self.channel, self.max_bytes = channel, max_bytes
        base = channel.url.rstrip("/")
        with _explained(channel):
            try:
                root = channel.root.read_bytes()
            except OSError as error:
                raise BadInput(f"cannot read {channel.root}: {error.strerror}") from error
            self._metadata = channel.state / METADATA
            self._metadata.mkdir(parents=True, exist_ok=True)
            try:
                with self._alone():
                    self._client = Updater(
                        metadata_dir=str(self._metadata),
                        metadata_base_url=f"{base}/{METADATA}/",
                        target_base_url=f"{base}/{TARGETS}/",
                        fetcher=Fetcher(channel.state, pace),
                        config=CONFIG,
                        bootstrap=root,
                    )
            except RepositoryError as error:
                raise BadInput(
                    f"{channel.root} is no root metadata: {error}", "take the channel's 1.root.json"
                ) from error

    def latest(self, name: str) -> Offer | None:
        """The newest release of a bundle for this kind of device; None where the channel has none.

        Raises:
            CheckFailed: what the channel says must not be believed.
            EnvironmentFailed: the channel cannot be reached, is too slow, or this clock is wrong.

        """
        with _explained(self.channel), self._alone():
            self._check_clock()
            self._client.refresh()
            self._remember_clock()
            found = self._client.get_targetinfo(target_path(self.channel.device_class, name))
            self._sync()
        return None if found is None else self._offer(found)

    def download(self, offer: Offer, to: Path) -> None:
        """Write an offered release to `to`, whole or not at all.

        Raises:
            CheckFailed: what comes is not what was signed.
            EnvironmentFailed: it cannot be had or written (DiskFull where there is no room; looked for before).

        """
        if offer.length > self.max_bytes:
            raise CheckFailed(f"{offer.path} has {offer.length} bytes; this device takes {self.max_bytes}")
        with _explained(self.channel), self._alone():
            to.parent.mkdir(parents=True, exist_ok=True)
            for folder in {self.channel.state, to.parent}:
                free = shutil.disk_usage(folder).free
                if free < 2 * offer.length:  # it stands there once before and once after it was checked
                    raise DiskFull(
                        f"{folder} has {free} bytes left, and {2 * offer.length} are needed", "free some space"
                    )
            target = self._client.get_targetinfo(offer.path)
            if target is None or self._offer(target) != offer:
                raise CheckFailed(f"{offer.path} is not what was offered", "look again with latest()")
            beside = to.with_name(f".{to.name}.part")
            try:
                self._client.download_target(target, str(beside))
                sync(beside)
                beside.replace(to)
                sync(to.parent)
            finally:
                beside.unlink(missing_ok=True)

    def _offer(self, target: "TargetFile") -> Offer:
        custom = target.unrecognized_fields.get("custom")
        known = custom if isinstance(custom, dict) else {}
        device_class, release = known.get("device_class"), known.get("release")
        digest = target.hashes.get("sha256")
        if device_class != self.channel.device_class:
            raise CheckFailed(f"{target.path} is for {device_class!r}, and this is a {self.channel.device_class}")
        if not isinstance(release, int) or release < 1 or digest is None:
            raise CheckFailed(f"{target.path} has no release number or no sha256")
        return Offer(target.path, release, target.length, digest)

    def _check_clock(self) -> None:
        """A clock that runs behind would believe what has expired; metadata was good at the time of the last look."""
        with contextlib.suppress(OSError, ValueError):
            seen = dt.datetime.fromisoformat(self._clock.read_text())
            now = dt.datetime.now(dt.timezone.utc)
            if now < seen - CLOCK_SLACK:
                raise EnvironmentFailed(
                    f"the clock says {now:%Y-%m-%d %H:%M}, and the last look was at {seen:%Y-%m-%d %H:%M}",
                    "set the clock (timedatectl, an NTP server); updates wait for that",
                )

    def _remember_clock(self) -> None:
        beside = self._clock.with_name(".clock.part")
        beside.write_text(dt.datetime.now(dt.timezone.utc).isoformat())
        beside.replace(self._clock)

    @property
    def _clock(self) -> Path:
        return self.channel.state / "clock"

    def _sync(self) -> None:
        """What was seen survives a power cut: with the metadata lost, older metadata would be taken again."""
        for path in (*self._metadata.rglob("*.json"), self._metadata, self._clock, self.channel.state):
            sync(path)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.channel.state / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@contextlib.contextmanager
def _explained(channel: Channel) -> Iterator[None]:
    """The errors of python-tuf in one line with what to do."""
    try:
        yield
    except ExpiredMetadataError as error:
        now = dt.datetime.now(dt.timezone.utc)
        hint = f"this clock says {now:%Y-%m-%d}; if that is right: edgetool channel refresh, where the channel is made"
        raise CheckFailed(f"{channel.url} offers what has expired: {error}", hint) from error
    except LengthOrHashMismatchError as error:
        raise CheckFailed(
            f"{channel.url} sent something else than was signed: {error}", "try another mirror"
        ) from error
    except RepositoryError as error:
        raise CheckFailed(f"{channel.url} is refused: {error}", "do not use it until its owner has looked") from error
    except DownloadLengthMismatchError as error:
        raise CheckFailed(f"{channel.url} sends too much: {error}", "try another mirror") from error
    except DownloadError as error:
        raise EnvironmentFailed(f"the channel cannot be read: {error}", "try again, or another mirror") from error
    except OSError as error:
        kind = DiskFull if is_disk_full(error) else EnvironmentFailed
        raise kind(
            f"{error.filename or channel.state}: {error.strerror}", "the state folder has to be writable"
        ) from error
