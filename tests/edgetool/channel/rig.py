"""A channel with two releases, the keys of all its roles, a web server before it and devices that look into it."""

import dataclasses
import datetime as dt
import shutil
from pathlib import Path

import numpy as np
from tuf.api.metadata import Metadata, MetaFile
from tuf.api.serialization.json import JSONSerializer

from edge.artifact import Artifact
from edge.bundle import Golden, write_bundle
from edge.engines.fake import FakeModel
from edge.preprocess import ArrayInput
from edge.trust.fetcher import Pace
from edge.trust.update import Channel, Updates
from edgetool.channel.keyring import Keyring, read_keyring
from edgetool.channel.repository import publish
from tests.edgetool.channel.web import Web

MODEL = FakeModel()
INPUTS = {"input": np.arange(12, dtype=np.float32).reshape(3, 4)}
OUTPUTS = {"output": np.cos(INPUTS["input"].sum(axis=1, keepdims=True) + np.arange(3)).astype(np.float32)}
HASTY = Pace(patience_s=0.4, least_bytes_per_s=1e5)
PATH = "pi5/door.edge"


def make_bundle(path: Path, version: str, labels: tuple[str, ...] = ()) -> bytes:
    """A bundle of the fake engine's model that says its version."""
    source = path.with_suffix(".fake")
    source.write_bytes(MODEL.to_bytes())
    write_bundle(
        path,
        Artifact(source, "fake", MODEL.inputs, MODEL.outputs, ""),
        Golden(INPUTS, OUTPUTS),
        name="door",
        target="pi5",
        task="numbers",
        preprocess={"input": ArrayInput()},
        labels=labels,
        versions={"door": version},
    )
    return path.read_bytes()


@dataclasses.dataclass
class Rig:
    """What an attacker works on: the folder that is served, copies of what it was, and stolen keys if any."""

    home: Path
    web: Web
    folder: Path
    keys: Path

    @property
    def keyring(self) -> Keyring:
        return read_keyring([self.keys])

    def signer(self, role: str, number: int = 1):
        from edgetool.channel.keyring import read_signer

        return read_signer(self.keys / f"{role}-{number}.key")

    def publish(self, version: str) -> bytes:
        content = make_bundle(self.home / "door.edge", version)
        publish(self.folder, self.home / "door.edge", [self.keys])
        return content

    def device(self, name: str = "device", device_class: str = "pi5", **settings) -> Updates:
        channel = Channel(self.web.url, self.keys / "root.json", self.home / name, device_class)
        return Updates(channel, pace=settings.pop("pace", Pace()), **settings)

    def get(self, name: str = "device", **settings) -> bytes:
        """What a device gets that looks and downloads."""
        client = self.device(name, **settings)
        offer = client.latest("door")
        assert offer is not None
        to = self.home / name / "got.edge"
        client.download(offer, to)
        return to.read_bytes()

    def copy(self) -> Path:
        """The served folder as it is now."""
        kept = self.home / f"kept-{len(list(self.home.glob('kept-*')))}"
        shutil.copytree(self.folder, kept)
        return kept

    def load(self, role: str) -> Metadata:
        files = sorted((self.folder / "metadata").glob(f"*{role}.json"), key=_version)
        return Metadata.from_file(str(files[-1]))

    def forge(self, metadata: Metadata, role: str, *signers) -> None:
        """Write metadata signed by whichever keys an attacker has."""
        metadata.signatures.clear()
        for signer in signers:
            metadata.sign(signer, append=True)
        version = "" if role == "timestamp" else f"{metadata.signed.version}."
        metadata.to_file(str(self.folder / "metadata" / f"{version}{role}.json"), JSONSerializer(compact=False))

    def point_at(self, *, targets: int, signers: tuple = (), days: float = 5) -> None:
        """A new snapshot and timestamp that name a version of targets, by the real keys or stolen ones."""
        snapshot, timestamp = self.load("snapshot"), self.load("timestamp")
        snapshot_signer, timestamp_signer = signers or (self.signer("snapshot"), self.signer("timestamp"))
        snapshot.signed.version += 1
        snapshot.signed.meta["targets.json"] = MetaFile(targets)
        snapshot.signed.expires = timestamp.signed.expires = later(days)
        self.forge(snapshot, "snapshot", snapshot_signer)
        timestamp.signed.version += 1
        timestamp.signed.snapshot_meta = MetaFile(snapshot.signed.version)
        self.forge(timestamp, "timestamp", timestamp_signer)


def later(days: float) -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc).replace(microsecond=0) + dt.timedelta(days=days)


def _version(path: Path) -> int:
    first = path.name.partition(".")[0]
    return int(first) if first.isdigit() else 0
