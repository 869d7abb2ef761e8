"""The publisher's side: what is signed, by whom, in what order, and what is refused before anything is signed."""

import json
import shutil
from pathlib import Path

import pytest
from tuf.api.metadata import TargetFile

from edge.errors import BadInput, BadRecipe, CheckFailed, UnknownName
from edgetool.channel.repository import Quorum, begin, describe, publish, quorum, refresh, rotate
from tests.edgetool.channel.rig import PATH, Rig, later, make_bundle


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_a_channel_begins_with_the_thresholds_it_was_given(rig: Rig) -> None:
    roles = rig.load("root").signed.roles
    found = {name: (role.threshold, len(role.keyids)) for name, role in roles.items()}
    assert found == {"root": (2, 3), "targets": (2, 2), "snapshot": (1, 1), "timestamp": (1, 1)}
    assert (rig.keys / "root.json").read_bytes() == (rig.folder / "metadata/1.root.json").read_bytes()
    assert not list(rig.folder.rglob("*.key"))


def test_a_channel_is_not_begun_twice(rig: Rig) -> None:
    before = tree(rig.home)
    with pytest.raises(BadInput, match="not empty"):
        begin(rig.folder, rig.home / "other", Quorum(1, 1), Quorum(1, 1))
    with pytest.raises(BadInput, match="not empty"):
        begin(rig.home / "other", rig.keys, Quorum(1, 1), Quorum(1, 1))
    assert tree(rig.home) == before


@pytest.mark.parametrize("text", ["3/2", "0/1", "2", "a/b", "2/3/4", "-1/2"])
def test_a_quorum_that_cannot_sign(text: str) -> None:
    with pytest.raises(BadRecipe, match="keys"):
        quorum(text)


def test_a_damaged_bundle_is_not_published(rig: Rig) -> None:
    content = make_bundle(rig.home / "door.edge", "1")
    (rig.home / "door.edge").write_bytes(content[:-20])
    before = tree(rig.folder)
    with pytest.raises(BadInput, match="damaged or no bundle"):
        publish(rig.folder, rig.home / "door.edge", [rig.keys])
    assert tree(rig.folder) == before


@pytest.mark.parametrize("name", ["../door", "a/b", "", ".hidden"])
def test_a_name_that_climbs_out_is_refused(rig: Rig, name: str) -> None:
    make_bundle(rig.home / "door.edge", "1")
    before = tree(rig.folder)
    with pytest.raises(BadInput, match="cannot stand in an address"):
        publish(rig.folder, rig.home / "door.edge", [rig.keys], name=name or "..")
    with pytest.raises(BadInput, match="cannot stand in an address"):
        publish(rig.folder, rig.home / "door.edge", [rig.keys], device_class=name or "..")
    assert tree(rig.folder) == before


def test_keys_in_several_folders_publish_together(rig: Rig) -> None:
    other = rig.home / "stick"
    other.mkdir()
    shutil.move(rig.keys / "targets-2.key", other)
    make_bundle(rig.home / "door.edge", "1")
    before = tree(rig.folder)
    with pytest.raises(BadInput, match="targets needs 2 of its 2 keys, and 1 are here"):
        publish(rig.folder, rig.home / "door.edge", [rig.keys])
    assert tree(rig.folder) == before
    assert publish(rig.folder, rig.home / "door.edge", [rig.keys, other]).release == 1


def test_what_an_intruder_wrote_on_the_server_is_not_signed(rig: Rig) -> None:
    rig.publish("1")
    path = rig.folder / f"metadata/{rig.load('targets').signed.version}.targets.json"
    plain = json.loads(path.read_text())
    plain["signed"]["targets"][PATH] = TargetFile.from_data(PATH, b"evil", ["sha256"]).to_dict()
    path.write_text(json.dumps(plain))
    before = tree(rig.folder)
    for act in (
        lambda: publish(rig.folder, rig.home / "door.edge", [rig.keys]),
        lambda: refresh(rig.folder, [rig.keys]),
        lambda: rotate(rig.folder, "root", [rig.keys]),
        lambda: describe(rig.folder, [rig.keys]),
    ):
        with pytest.raises(CheckFailed, match="not to be believed"):
            act()
    assert tree(rig.folder) == before


def test_refresh_needs_the_key_of_the_timestamp_alone(rig: Rig) -> None:
    first = rig.publish("1")
    daily = rig.home / "daily"
    daily.mkdir()
    for name in ("root.json", "timestamp-1.key"):
        shutil.copy(rig.keys / name, daily)
    before = rig.load("timestamp").signed.version
    done = refresh(rig.folder, [daily])
    assert done.signed == ("timestamp",)
    assert done.waiting == ()
    assert rig.load("timestamp").signed.version == before + 1
    assert rig.get() == first


def test_refresh_signs_what_is_in_the_second_half_of_its_time(rig: Rig) -> None:
    first = rig.publish("1")
    targets, root = rig.load("targets"), rig.load("root")
    targets.signed.version, root.signed.version = targets.signed.version + 1, 2
    targets.signed.expires, root.signed.expires = later(10), later(100)
    rig.forge(targets, "targets", rig.signer("targets", 1), rig.signer("targets", 2))
    rig.forge(root, "root", rig.signer("root", 1), rig.signer("root", 3))
    rig.point_at(targets=targets.signed.version)
    daily = rig.home / "daily"
    daily.mkdir()
    for name in ("root.json", "timestamp-1.key", "snapshot-1.key"):
        shutil.copy(rig.keys / name, daily)
    done = refresh(rig.folder, [daily])
    assert done.signed == ("snapshot", "timestamp")  # the rig's snapshot has five days left of thirty
    assert [role for role, _ in done.waiting] == ["root", "targets"]
    done = refresh(rig.folder, [rig.keys])
    assert done.signed == ("root", "targets", "snapshot", "timestamp")
    assert done.waiting == ()
    assert rig.load("root").signed.version == 3
    assert rig.get() == first


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
def test_every_role_gets_new_keys_and_devices_follow(rig: Rig, role: str) -> None:
    rig.publish("1")
    rig.get()
    old = list(rig.load("root").signed.roles[role].keyids)
    assert list(rotate(rig.folder, role, [rig.keys])) == old
    after = rig.load("root").signed.roles[role]
    assert not set(after.keyids) & set(old)
    assert len(after.keyids) == len(old)
    second = rig.publish("2")
    assert rig.get() == second
    assert rig.get("new device") == second  # it begins with the first root, and follows the chain


def test_one_key_alone_is_replaced(rig: Rig) -> None:
    first, second = rig.load("root").signed.roles["targets"].keyids
    assert rotate(rig.folder, "targets", [rig.keys], first[:12]) == (first,)
    after = rig.load("root").signed.roles["targets"].keyids
    assert second in after
    assert first not in after
    with pytest.raises(UnknownName, match="one key of targets"):
        rotate(rig.folder, "targets", [rig.keys], first[:12])
    with pytest.raises(UnknownName, match="unknown role: 'target'"):
        rotate(rig.folder, "target", [rig.keys])


def test_too_few_root_keys_change_nothing(rig: Rig) -> None:
    for number in (1, 2):
        (rig.keys / f"root-{number}.key").unlink()
    before, keys = tree(rig.folder), sorted(path.name for path in rig.keys.iterdir())
    with pytest.raises(BadInput, match="root needs 2 of its 3 keys, and 1 are here"):
        rotate(rig.folder, "timestamp", [rig.keys])
    assert tree(rig.folder) == before
    assert sorted(path.name for path in rig.keys.iterdir()) == keys


def test_where_there_is_no_channel(rig: Rig) -> None:
    with pytest.raises(BadInput, match="there is no channel"):
        refresh(rig.home / "nowhere", [rig.keys])
    (rig.home / "empty").mkdir()
    with pytest.raises(BadInput, match="is no channel"):
        refresh(rig.home / "empty", [rig.keys])
    with pytest.raises(BadInput, match=r"there is no .*root\.json"):
        refresh(rig.folder, [rig.home / "empty"])


def test_it_is_shown_what_is_there(rig: Rig) -> None:
    rig.publish("1")
    rows = describe(rig.folder, [rig.keys])
    assert [row[0] for row in rows] == ["role", "root", "targets", "snapshot", "timestamp", "offer", PATH]
    assert rows[1][1] == "2/3"
    assert rows[-1][1] == "1"
