"""TUF metadata of a channel: reading it only as far as the root in the publisher's own hands reaches, signing, writing.

CHANNEL/metadata/N.root.json  N.targets.json  N.snapshot.json  timestamp.json
CHANNEL/targets/CLASS/SHA256.NAME.edge
"""

import contextlib
import datetime as dt
import fcntl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.archive import write_whole
from edge.errors import BadInput, CheckFailed
from edgetool.channel.keyring import Keyring

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

METADATA = "metadata"
ROLES = ("root", "targets", "snapshot", "timestamp")
# How long each role's word counts, in days: a device that is cut off from news notices after the timestamp's
PERIODS = {"root": 365, "targets": 90, "snapshot": 30, "timestamp": 7}
FIRST_ROOT = "root.json"


@dataclass(frozen=True)
class Signed:
    """The newest metadata of each role."""

    root: "Metadata[Root]"
    targets: "Metadata[Targets]"
    snapshot: "Metadata[Snapshot]"
    timestamp: "Metadata[Timestamp]"


def expiry(role: str) -> dt.datetime:
    """When metadata of a role that is signed now expires."""
    return dt.datetime.now(dt.timezone.utc).replace(microsecond=0) + dt.timedelta(days=PERIODS[role])


def read_channel(folder: Path, first_root: Path) -> Signed:
    """The newest metadata, every signature checked from the first root on: a server may have been broken into, and
    whoever publishes must not sign what stands there.

    Raises:
        BadInput: there is no channel, or no first root.
        CheckFailed: some metadata was not signed by whom the root names.

    """
    from tuf.api.metadata import Metadata

    if not first_root.is_file():
        raise BadInput(
            f"there is no {first_root}", "it was written beside the keys: give that folder first with --keys"
        )
    with _refused(folder):
        root: Metadata[Root] = Metadata.from_file(str(first_root))
        root.verify_delegate("root", root)
        while (path := folder / METADATA / f"{root.signed.version + 1}.root.json").is_file():
            following: Metadata[Root] = Metadata.from_file(str(path))
            root.verify_delegate("root", following)
            following.verify_delegate("root", following)
            if following.signed.version != root.signed.version + 1:
                raise CheckFailed(f"{path} says that it is version {following.signed.version}")
            root = following
        timestamp: Metadata[Timestamp] = _read(root, folder, "timestamp", "timestamp.json")
        version = timestamp.signed.snapshot_meta.version
        snapshot: Metadata[Snapshot] = _read(root, folder, "snapshot", f"{version}.snapshot.json")
        version = snapshot.signed.meta["targets.json"].version
        targets: Metadata[Targets] = _read(root, folder, "targets", f"{version}.targets.json")
    return Signed(root, targets, snapshot, timestamp)


def _read(root: "Metadata[Root]", folder: Path, role: str, name: str) -> Any:
    from tuf.api.metadata import Metadata

    metadata: Metadata[Any] = Metadata.from_file(str(folder / METADATA / name))
    root.verify_delegate(role, metadata)
    return metadata


@contextlib.contextmanager
def _refused(folder: Path) -> Iterator[None]:
    from securesystemslib.exceptions import StorageError
    from tuf.api.exceptions import RepositoryError

    try:
        yield
    except StorageError as error:
        raise BadInput(f"{folder} is no channel, or part of it is missing: {error}", "edgetool channel init") from error
    except (RepositoryError, KeyError, ValueError) as error:
        hint = "somebody else has written there; nothing was signed"
        raise CheckFailed(f"{folder} holds metadata that is not to be believed: {error}", hint) from error


def sign(metadata: "Metadata[Any]", role: str, roots: tuple["Metadata[Root]", ...], keyring: Keyring) -> None:
    """Sign with every key of the role that is at hand; each of `roots` has to find enough of its own.

    Raises:
        BadInput: too few keys are at hand.

    """
    metadata.signatures.clear()
    wanted = dict.fromkeys(keyid for root in roots for keyid in root.signed.roles[role].keyids)
    for keyid in wanted:
        if keyid in keyring:
            metadata.sign(keyring[keyid], append=True)
    for root in roots:
        known = root.signed.roles[role]
        here = sum(keyid in keyring for keyid in known.keyids)
        if here < known.threshold:
            raise BadInput(
                f"{role} needs {known.threshold} of its {len(known.keyids)} keys, and {here} are here",
                "give every folder that has some with --keys",
            )


def write(folder: Path, metadata: "Metadata[Any]", role: str) -> None:
    """Write metadata under its name; the timestamp, by which devices begin, last."""
    from tuf.api.serialization.json import JSONSerializer

    version = "" if role == "timestamp" else f"{metadata.signed.version}."
    write_whole(folder / METADATA / f"{version}{role}.json", metadata.to_bytes(JSONSerializer(compact=False)))


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else on this machine publishes into the folder meanwhile."""
    if not folder.is_dir():
        raise BadInput(f"there is no channel {folder}", "edgetool channel init makes one")
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
