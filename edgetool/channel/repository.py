"""What can be done with a channel: begin it, publish a bundle, sign it anew before it expires, change keys, look at it.

Roles and thresholds are TUF's. The root (2 of 3 keys) names everybody's keys and is kept off line; targets vouches for
bundles and can need several people; snapshot and timestamp are signed by whatever keeps the channel fresh.
"""

import datetime as dt
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.archive import PLAIN_NAME, write_whole
from edge.bundle import parse_bundle, read_bundle
from edge.errors import BadInput, BadRecipe, UnknownName
from edgetool.channel import metadata as tuf_metadata
from edgetool.channel.keyring import Keyring, add_key, read_keyring, read_signer
from edgetool.channel.metadata import FIRST_ROOT, METADATA, ROLES, Signed, alone, expiry, read_channel, write
from edgetool.keys import PUBLIC


@dataclass(frozen=True)
class Quorum:
    """How many of how many keys have to sign."""

    needed: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.needed <= self.of:
            raise BadRecipe(f"{self.needed} of {self.of} keys cannot sign", "write 2/3 for two of three")


@dataclass(frozen=True)
class Published:
    """What a channel now offers: its path, its number, its sha256."""

    path: str
    release: int
    sha256: str


@dataclass(frozen=True)
class Refreshed:
    """The roles that were signed anew, and those whose turn it is but whose keys were not here, with their expiry."""

    signed: tuple[str, ...]
    waiting: tuple[tuple[str, dt.datetime], ...]


DEFAULT = {"root": Quorum(2, 3), "targets": Quorum(1, 1), "snapshot": Quorum(1, 1), "timestamp": Quorum(1, 1)}


def quorum(text: str) -> Quorum:
    """`2/3` is two of three keys."""
    needed, slash, of = text.partition("/")
    if not slash or not needed.isdigit() or not of.isdigit():
        raise BadRecipe(f"{text!r} says not how many of how many keys", "write 2/3 for two of three")
    return Quorum(int(needed), int(of))


def begin(folder: Path, keys: Path, root: Quorum, targets: Quorum) -> None:
    """Make a channel without a bundle, and the keys of all its roles in `keys`, with the root that devices begin with.

    Raises:
        BadInput: there is something in either folder; nothing is written then.

    """
    from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

    for path in (folder, keys):
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise BadInput(f"{path} is there and not empty", "choose another folder")
    keys.mkdir(parents=True, exist_ok=True)
    try:
        first = Metadata(Root(expires=expiry("root"), consistent_snapshot=True))
        for role, quorum_ in {**DEFAULT, "root": root, "targets": targets}.items():
            for _ in range(quorum_.of):
                first.signed.add_key(read_signer(add_key(keys, role)).public_key, role)
            first.signed.roles[role].threshold = quorum_.needed
        signed = Signed(
            first,
            Metadata(Targets(expires=expiry("targets"))),
            Metadata(Snapshot(expires=expiry("snapshot"), meta={"targets.json": MetaFile(1)})),
            Metadata(Timestamp(expires=expiry("timestamp"), snapshot_meta=MetaFile(1))),
        )
        keyring = read_keyring([keys])
        folder.mkdir(parents=True, exist_ok=True)
        for role in ROLES:
            tuf_metadata.sign(getattr(signed, role), role, (first,), keyring)
            write(folder, getattr(signed, role), role)
        write_whole(keys / FIRST_ROOT, (folder / METADATA / "1.root.json").read_bytes())
    except BaseException:
        shutil.rmtree(keys, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        raise


def publish(
    folder: Path,
    bundle: Path,
    keys: Sequence[Path],
    *,
    name: str | None = None,
    device_class: str | None = None,
) -> Published:
    """Offer a bundle as the newest release of its name for a kind of device (from its manifest where none is given).

    Raises:
        BadInput: the bundle is damaged, or too few keys are here.
        CheckFailed: what stands in the channel is not to be believed.

    """
    from tuf.api.metadata import TargetFile

    content = read_bundle(bundle)
    manifest = parse_bundle(content, bundle).manifest
    name, device_class = name or manifest.name, device_class or manifest.target
    for text in (name, device_class):
        if not PLAIN_NAME.fullmatch(text):
            raise BadInput(f"{text!r} cannot stand in an address", "give another with --name or --device-class")
    with alone(folder):
        signed, keyring = _read(folder, keys)
        path = f"{device_class}/{name}.edge"
        target = TargetFile.from_data(path, content, ["sha256"])
        release = 1 + max((_release(one) for one in signed.targets.signed.targets.values()), default=0)
        target.unrecognized_fields["custom"] = {"device_class": device_class, "release": release, "name": name}
        signed.targets.signed.targets[path] = target
        write_to = folder / "targets" / device_class / f"{target.hashes['sha256']}.{name}.edge"
        due = _renewed(signed, ("targets", "snapshot", "timestamp"), keyring)
        write_whole(write_to, content)
        _write(folder, signed, due)
    return Published(path, release, target.hashes["sha256"])


def refresh(folder: Path, keys: Sequence[Path]) -> Refreshed:
    """Sign anew what would expire: the timestamp always, the others in the second half of their time if their keys are
    here: what runs every day needs the keys of timestamp and snapshot only.

    Raises:
        BadInput: the keys of the timestamp are not here.

    """
    with alone(folder):
        signed, keyring = _read(folder, keys)
        here = {role for role in ROLES if _enough(signed.root, role, keyring)}
        due = [role for role in ROLES[:3] if _half_over(getattr(signed, role).signed.expires, role)]
        below: tuple[str, ...] = ("timestamp",)
        if "targets" in due and {"targets", "snapshot"} <= here:  # the snapshot names the version of targets
            below = ("targets", "snapshot", "timestamp")
        elif "snapshot" in due and "snapshot" in here:
            below = ("snapshot", "timestamp")
        done = _renewed(signed, below, keyring)
        if "root" in due and "root" in here:
            _sign_root(signed.root, signed.root, keyring)
            write(folder, signed.root, "root")
            done = ("root", *done)
        _write(folder, signed, below)
        waiting = tuple((role, getattr(signed, role).signed.expires) for role in due if role not in done)
    return Refreshed(done, waiting)


def rotate(folder: Path, role: str, keys: Sequence[Path], revoked: str | None = None) -> tuple[str, ...]:
    """Give a role new keys in the place of old ones, which count no more; the new ones go into the first of `keys`.

    `revoked` is the beginning of the id of the one key to replace; all of them where it is None. Returns the ids of the
    keys that count no more.

    Raises:
        UnknownName: no such role, or no such key in it.
        BadInput: too few keys of the root, or of what has to be signed anew, are here.

    """
    from tuf.api.metadata import Metadata

    if role not in ROLES:
        raise UnknownName("role", role, ROLES)
    with alone(folder):
        signed, keyring = _read(folder, keys)
        old = signed.root
        gone = [keyid for keyid in old.signed.roles[role].keyids if revoked is None or keyid.startswith(revoked)]
        if not gone or (revoked is not None and len(gone) > 1):
            raise UnknownName(f"one key of {role}", str(revoked), old.signed.roles[role].keyids)
        root: Metadata[Any] = Metadata.from_bytes(old.to_bytes())
        made = [add_key(keys[0], role) for _ in gone]
        try:
            for keyid, path in zip(gone, made, strict=True):
                signer = read_signer(path)
                root.signed.revoke_key(keyid, role)
                root.signed.add_key(signer.public_key, role)
                keyring[signer.public_key.keyid] = signer
            _sign_root(old, root, keyring)
            after = Signed(root, signed.targets, signed.snapshot, signed.timestamp)
            due = _renewed(after, ROLES[ROLES.index(role) :] if role != "root" else (), keyring)
        except BaseException:
            for path in made:
                path.unlink()
                path.with_suffix(PUBLIC).unlink()
            raise
        write(folder, root, "root")
        _write(folder, after, due)
    return tuple(gone)


def describe(folder: Path, keys: Sequence[Path]) -> list[tuple[str, ...]]:
    """Rows of text on each role (keys, threshold, version, expiry), then on each offer."""
    signed, _ = _read(folder, keys)
    rows: list[tuple[str, ...]] = [("role", "needs", "version", "expires", "keys")]
    for role in ROLES:
        known, content = signed.root.signed.roles[role], getattr(signed, role).signed
        ids = " ".join(keyid[:16] for keyid in known.keyids)
        until = f"{content.expires:%Y-%m-%d}"
        rows.append((role, f"{known.threshold}/{len(known.keyids)}", str(content.version), until, ids))
    rows.append(("offer", "release", "bytes", "device", "sha256"))
    for path, target in sorted(signed.targets.signed.targets.items()):
        device_class = path.partition("/")[0]
        rows.append((path, str(_release(target)), str(target.length), device_class, target.hashes["sha256"][:16]))
    return rows


def _read(folder: Path, keys: Sequence[Path]) -> tuple[Signed, Keyring]:
    if not keys:
        raise BadInput("there are no keys", "give the folder that edgetool channel init wrote with --keys")
    return read_channel(folder, keys[0] / FIRST_ROOT), read_keyring(keys)


def _renewed(signed: Signed, roles: tuple[str, ...], keyring: Keyring) -> tuple[str, ...]:
    """The next version of each role (in TUF's order, each naming the one before), signed but not written."""
    from tuf.api.metadata import MetaFile

    for role in roles:
        content = getattr(signed, role).signed
        content.version += 1
        content.expires = expiry(role)
        if role == "snapshot":
            content.meta["targets.json"] = MetaFile(signed.targets.signed.version)
        if role == "timestamp":
            content.snapshot_meta = MetaFile(signed.snapshot.signed.version)
        tuf_metadata.sign(getattr(signed, role), role, (signed.root,), keyring)
    return roles


def _write(folder: Path, signed: Signed, roles: tuple[str, ...]) -> tuple[str, ...]:
    for role in roles:
        write(folder, getattr(signed, role), role)
    return roles


def _enough(root: Any, role: str, keyring: Keyring) -> bool:
    known = root.signed.roles[role]
    return sum(keyid in keyring for keyid in known.keyids) >= int(known.threshold)


def _sign_root(old: Any, root: Any, keyring: Keyring) -> None:
    root.signed.version += 1
    root.signed.expires = expiry("root")
    tuf_metadata.sign(root, "root", (old, root), keyring)


def _half_over(expires: dt.datetime, role: str) -> bool:
    return expires - dt.datetime.now(dt.timezone.utc) < dt.timedelta(days=tuf_metadata.PERIODS[role]) / 2


def _release(target: Any) -> int:
    return int(target.unrecognized_fields["custom"]["release"])
