"""The attacks of TUF's specification (section 1.5.2) on a device, over HTTP: each is refused, and what the device had
stays. (Extraneous dependencies do not apply: a bundle has none. Wrong software is that of another device.)
"""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from tuf.api.metadata import MetaFile, TargetFile

from edge.errors import BadInput, CheckFailed, DiskFull, EnvironmentFailed
from edgetool.channel.keyring import read_signer
from edgetool.channel.repository import publish, refresh, rotate
from edgetool.keys import new_keys
from tests.edgetool.channel.rig import HASTY, PATH, Rig, later, make_bundle


@pytest.fixture
def updated(rig: Rig) -> Rig:
    """A device that took releases 1 and 2."""
    first = rig.publish("1")
    assert rig.get() == first
    second = rig.publish("2")
    assert rig.get() == second
    return rig


def test_a_bundle_that_was_changed_is_refused(updated: Rig) -> None:
    content = updated.publish("3")
    (target,) = (p for p in (updated.folder / "targets/pi5").iterdir() if p.read_bytes() == content)
    target.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    before = (updated.home / "device/got.edge").read_bytes()
    with pytest.raises(CheckFailed, match="something else than was signed"):
        updated.get()
    assert (updated.home / "device/got.edge").read_bytes() == before
    target.write_bytes(content[:-10])
    with pytest.raises(CheckFailed, match="something else than was signed"):
        updated.get()
    assert not list((updated.home / "device").glob("*.part"))


def test_arbitrary_software_without_keys_is_refused(updated: Rig) -> None:
    """The server is the attacker's: all metadata signed, but by keys that no root names."""
    private, _ = new_keys(updated.home / "evil", "ed25519")
    evil = read_signer(private)
    targets = updated.load("targets")
    targets.signed.version += 1
    targets.signed.targets[PATH] = TargetFile.from_data(PATH, b"evil", ["sha256"])
    updated.forge(targets, "targets", evil)
    updated.point_at(targets=targets.signed.version, signers=(evil, evil))
    with pytest.raises(CheckFailed, match="is refused: timestamp was signed by 0/1 keys"):
        updated.get()


def test_replay_of_an_old_timestamp_is_refused(updated: Rig) -> None:
    old = (updated.folder / "metadata/timestamp.json").read_bytes()
    updated.publish("3")
    updated.get()
    (updated.folder / "metadata/timestamp.json").write_bytes(old)
    with pytest.raises(CheckFailed, match="timestamp version"):
        updated.get()


def test_replay_of_a_whole_old_channel_is_refused(updated: Rig) -> None:
    old = updated.copy()
    updated.publish("3")
    updated.get()
    shutil.rmtree(updated.folder)
    shutil.copytree(old, updated.folder)
    with pytest.raises(CheckFailed, match="timestamp version"):
        updated.get()


def test_rollback_of_the_snapshot_with_a_stolen_timestamp_key_is_refused(updated: Rig) -> None:
    timestamp = updated.load("timestamp")
    timestamp.signed.version += 1
    timestamp.signed.snapshot_meta = MetaFile(timestamp.signed.snapshot_meta.version - 1)
    updated.forge(timestamp, "timestamp", updated.signer("timestamp"))
    with pytest.raises(CheckFailed, match="snapshot version"):
        updated.get()


def test_rollback_of_targets_with_stolen_snapshot_and_timestamp_keys_is_refused(updated: Rig) -> None:
    updated.point_at(targets=updated.load("targets").signed.version - 1)
    with pytest.raises(CheckFailed, match="refused"):
        updated.get()


def test_rollback_of_the_root_is_refused(updated: Rig) -> None:
    rotate(updated.folder, "timestamp", [updated.keys])
    updated.get()
    shutil.copy(updated.folder / "metadata/1.root.json", updated.folder / "metadata/3.root.json")
    with pytest.raises(CheckFailed, match="refused"):
        updated.get()


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "root"])
def test_freeze_on_metadata_that_has_expired_is_refused(updated: Rig, role: str) -> None:
    metadata = updated.load(role)
    metadata.signed.expires = later(-0.01)
    metadata.signed.version += 1
    if role == "root":
        updated.forge(metadata, role, updated.signer("root", 1), updated.signer("root", 2))
    elif role == "targets":
        updated.forge(metadata, role, updated.signer("targets", 1), updated.signer("targets", 2))
        updated.point_at(targets=metadata.signed.version)
    elif role == "snapshot":
        updated.point_at(targets=updated.load("targets").signed.version, days=-0.01)
        timestamp = updated.load("timestamp")
        timestamp.signed.expires = later(3)
        updated.forge(timestamp, "timestamp", updated.signer("timestamp"))
    else:
        updated.forge(metadata, role, updated.signer("timestamp"))
    with pytest.raises(CheckFailed, match="expired") as caught:
        updated.get()
    assert "clock" in caught.value.hint


def test_mix_and_match_is_refused(updated: Rig) -> None:
    """The targets of one time under the name that the snapshot of another time has for them."""
    updated.publish("3")
    version = updated.load("targets").signed.version
    folder = updated.folder / "metadata"
    shutil.copy(folder / f"{version - 1}.targets.json", folder / f"{version}.targets.json")
    with pytest.raises(CheckFailed, match="refused"):
        updated.get()
    snapshot = updated.load("snapshot").signed.version
    shutil.copy(folder / f"{snapshot - 1}.snapshot.json", folder / f"{snapshot}.snapshot.json")
    with pytest.raises(CheckFailed, match="refused"):
        updated.get()


def test_one_of_two_signatures_is_refused(updated: Rig) -> None:
    """One stolen key of targets, with the keys that stand on the server, publishes nothing."""
    targets = updated.load("targets")
    targets.signed.version += 1
    targets.signed.targets[PATH] = TargetFile.from_data(PATH, b"evil", ["sha256"])
    updated.forge(targets, "targets", updated.signer("targets", 1))
    updated.point_at(targets=targets.signed.version)
    with pytest.raises(CheckFailed, match="targets was signed by 1/2 keys"):
        updated.get()
    content = targets.to_dict()
    content["signatures"] *= 2  # the same one twice is still one
    (updated.folder / f"metadata/{targets.signed.version}.targets.json").write_text(json.dumps(content))
    with pytest.raises(CheckFailed, match="refused"):
        updated.get()


def test_one_of_three_root_keys_changes_no_keys(updated: Rig) -> None:
    private, _ = new_keys(updated.home / "evil", "ed25519")
    root = updated.load("root")
    root.signed.version += 1
    root.signed.add_key(read_signer(private).public_key, "targets")
    root.signed.roles["targets"].threshold = 1
    updated.forge(root, "root", updated.signer("root", 1))
    with pytest.raises(CheckFailed, match="root was signed by 1/2 keys"):
        updated.get()


def test_a_root_that_only_its_new_keys_sign_is_refused(updated: Rig) -> None:
    signers = []
    root = updated.load("root")
    for keyid in list(root.signed.roles["root"].keyids):
        root.signed.revoke_key(keyid, "root")
    for number in range(3):
        private, _ = new_keys(updated.home / f"evil{number}", "ed25519")
        signers.append(read_signer(private))
        root.signed.add_key(signers[-1].public_key, "root")
    root.signed.version += 1
    updated.forge(root, "root", *signers)
    with pytest.raises(CheckFailed, match="root was signed by 0/2 keys"):
        updated.get()


@pytest.mark.parametrize("what", ["timestamp.json", "snapshot.json", "targets.json", "root.json"])
def test_endless_metadata_is_refused(updated: Rig, what: str) -> None:
    updated.publish("3")
    if what == "root.json":
        rotate(updated.folder, "timestamp", [updated.keys])
    updated.web.misbehave[what] = "endless"
    with pytest.raises(CheckFailed, match="sends too much"):
        updated.get()


def test_an_endless_bundle_is_refused(updated: Rig) -> None:
    content = updated.publish("3")
    updated.web.misbehave["/targets/"] = "endless"
    with pytest.raises(CheckFailed, match="sends too much"):
        updated.get()
    assert content != (updated.home / "device/got.edge").read_bytes()


@pytest.mark.parametrize("where", ["timestamp.json", "/targets/"])
def test_slow_retrieval_is_refused(updated: Rig, where: str) -> None:
    updated.publish("3")
    for kind, says in (("trickling", r"bytes in \d+ s"), ("silent", "nothing came for"), ("slow_head", "no answer in")):
        updated.web.misbehave[where] = kind
        with pytest.raises(EnvironmentFailed, match=says):
            updated.get(pace=HASTY)


def test_the_bundle_of_another_device_is_refused(rig: Rig) -> None:
    """An insider with the keys of targets gives this device what was made for another kind."""
    rig.publish("1")
    targets = rig.load("targets")
    targets.signed.version += 1
    targets.signed.targets["pi4/door.edge"] = targets.signed.targets[PATH]
    rig.forge(targets, "targets", rig.signer("targets", 1), rig.signer("targets", 2))
    rig.point_at(targets=targets.signed.version)
    with pytest.raises(CheckFailed, match="is for 'pi5', and this is a pi4"):
        rig.device("other", device_class="pi4").latest("door")


def test_a_server_that_lacks_something_is_an_error_of_the_surroundings(updated: Rig) -> None:
    for name in ("timestamp.json", "/targets/"):
        updated.web.misbehave = {name: "cut"}
        updated.publish("3")
        with pytest.raises(EnvironmentFailed, match="ended"):
            updated.get()
    updated.web.misbehave = {"timestamp.json": "moved"}
    with pytest.raises(EnvironmentFailed, match="302"):
        updated.get()
    updated.web.misbehave = {}
    (updated.folder / "metadata/timestamp.json").unlink()
    with pytest.raises(EnvironmentFailed, match="404"):
        updated.get()


def test_a_channel_comes_back_after_every_attack(updated: Rig) -> None:
    kept = updated.copy()
    timestamp = updated.load("timestamp")
    timestamp.signed.expires = later(-1)
    timestamp.signed.version += 1
    updated.forge(timestamp, "timestamp", updated.signer("timestamp"))
    with pytest.raises(CheckFailed):
        updated.get()
    shutil.rmtree(updated.folder)
    shutil.copytree(kept, updated.folder)
    refresh(updated.folder, [updated.keys])
    content = updated.publish("4")
    assert updated.get() == content


def test_a_revoked_key_counts_no_more(updated: Rig) -> None:
    stolen = updated.signer("targets", 1), updated.signer("targets", 2)
    assert len(rotate(updated.folder, "targets", [updated.keys])) == 2
    updated.get()
    targets = updated.load("targets")
    targets.signed.version += 1
    targets.signed.targets[PATH] = TargetFile.from_data(PATH, b"evil", ["sha256"])
    updated.forge(targets, "targets", *stolen)
    updated.point_at(targets=targets.signed.version)
    with pytest.raises(CheckFailed, match="targets was signed by 0/2 keys"):
        updated.get()


def test_a_fast_forward_is_undone_by_new_keys(updated: Rig) -> None:
    """Stolen keys drive the versions so high that honest ones look old; new keys make devices forget them."""
    kept = updated.copy()
    updated.point_at(targets=updated.load("targets").signed.version)
    timestamp = updated.load("timestamp")
    timestamp.signed.version = 2**31
    updated.forge(timestamp, "timestamp", updated.signer("timestamp"))
    updated.get()
    shutil.rmtree(updated.folder)
    shutil.copytree(kept, updated.folder)
    content = updated.publish("3")
    with pytest.raises(CheckFailed, match="timestamp version"):
        updated.get()
    rotate(updated.folder, "snapshot", [updated.keys])
    rotate(updated.folder, "timestamp", [updated.keys])
    assert updated.get() == content


def test_a_clock_that_runs_behind_is_found_out(updated: Rig) -> None:
    (updated.home / "device/clock").write_text(later(1000).isoformat())
    with pytest.raises(EnvironmentFailed, match="the clock says") as caught:
        updated.get()
    assert "set the clock" in caught.value.hint
    (updated.home / "device/clock").write_text("not a date")
    updated.get()


def test_a_bundle_larger_than_the_device_takes_is_not_fetched(updated: Rig) -> None:
    updated.web.asked.clear()
    with pytest.raises(CheckFailed, match="this device takes 100"):
        updated.get(max_bytes=100)
    assert not [path for path in updated.web.asked if "/targets/" in path]


def test_a_bundle_larger_than_the_disk_is_not_fetched(rig: Rig) -> None:
    rig.publish("1")
    targets = rig.load("targets")
    targets.signed.version += 1
    targets.signed.targets[PATH].length = 1 << 50
    rig.forge(targets, "targets", rig.signer("targets", 1), rig.signer("targets", 2))
    rig.point_at(targets=targets.signed.version)
    client = rig.device(max_bytes=1 << 60)
    offer = client.latest("door")
    with pytest.raises(DiskFull, match="are needed"):
        client.download(offer, rig.home / "got.edge")
    assert not [path for path in rig.web.asked if "/targets/" in path]


def test_a_device_that_was_given_no_root_begins_nothing(rig: Rig) -> None:
    (rig.keys / "root.json").write_text("{}")
    with pytest.raises(BadInput, match="is no root metadata"):
        rig.device()
    (rig.keys / "root.json").unlink()
    with pytest.raises(BadInput, match="cannot read"):
        rig.device()


def test_a_damaged_memory_is_rebuilt(updated: Rig) -> None:
    """A power cut without a battery: files of the state folder that are empty or gone are fetched again."""
    for name in ("timestamp.json", "snapshot.json", "targets.json", "root_history/1.root.json"):
        (updated.home / "device/metadata" / name).write_bytes(b"")
        updated.get()
    content = updated.publish("3")
    assert updated.get() == content


def test_nothing_is_offered_where_nothing_was_published(rig: Rig) -> None:
    assert rig.device().latest("door") is None
    rig.publish("1")
    assert rig.device().latest("window") is None
    assert rig.device("other", device_class="pi4").latest("door") is None


def test_a_release_number_rises_with_every_bundle(rig: Rig) -> None:
    rig.publish("1")
    first = rig.device().latest("door")
    make_bundle(rig.home / "door.edge", "1")
    publish(rig.folder, rig.home / "door.edge", [rig.keys])
    second = rig.device().latest("door")
    assert (first.release, second.release) == (1, 2)
    assert first.sha256 == second.sha256


def test_two_looks_at_a_time_take_turns(updated: Rig) -> None:
    content = updated.publish("3")
    with ThreadPoolExecutor(4) as pool:
        offers = list(pool.map(lambda _: updated.device().latest("door"), range(8)))
    assert {offer.release for offer in offers if offer is not None} == {3}
    assert len(offers) == 8
    assert updated.get() == content
