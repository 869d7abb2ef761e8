import json
import secrets
from pathlib import Path

import numpy as np
import pytest

from device_apps.door_lock.people import SCHEMA, People, Person, checked_name, new_id
from device_apps.door_lock.pins import Pins, checked_pin
from device_apps.sealed_store import SealedStore
from edge.errors import BadData, BadInput

KEY, MODEL = b"k" * 32, "a" * 64


def person(name: str = "Ann", model: str = MODEL) -> Person:
    vectors = np.random.default_rng(3).normal(size=(5, 16)).astype(np.float32)
    return Person(new_id(), name, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), model, 1700000000.0)


def people_in(folder: Path) -> People:
    return People(SealedStore(folder, KEY, "person"))


def test_a_person_comes_back_as_they_were(tmp_path: Path) -> None:
    ann = person("Änn O'Hara")
    people_in(tmp_path).add(ann)
    (found,), refused = people_in(tmp_path).load(MODEL)
    assert refused == ()
    assert (found.id, found.name, found.model_sha256, found.enrolled_at) == (ann.id, ann.name, MODEL, ann.enrolled_at)
    np.testing.assert_array_equal(found.templates, ann.templates)
    everything = b"".join(path.read_bytes() + path.name.encode() for path in tmp_path.iterdir())
    assert b"Hara" not in everything


def test_templates_of_another_model_are_refused_and_said(tmp_path: Path) -> None:
    people_in(tmp_path).add(person(model="b" * 64))
    people, refused = people_in(tmp_path).load(MODEL)
    assert people == ()
    assert "made by another model" in refused[0].reason


def test_templates_of_another_device_or_under_another_id_are_refused(tmp_path: Path) -> None:
    ann, ben = person("Ann"), person("Ben")
    People(SealedStore(tmp_path, b"o" * 32, "person")).add(ann)
    people_in(tmp_path).add(ben)
    (tmp_path / f"{new_id()}.sealed").write_bytes((tmp_path / f"{ben.id}.sealed").read_bytes())
    people, refused = people_in(tmp_path).load(MODEL)
    assert [one.name for one in people] == ["Ben"]
    reasons = " ".join(one.reason for one in refused)
    assert "another device" in reasons
    assert "another record's" in reasons


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "x"},
        {"id": "y"},
        {"name": ""},
        {"name": 3},
        {"model": "short"},
        {"shape": [5]},
        {"shape": [0, 16]},
        {"templates": "?"},
    ],
)
def test_records_that_are_sealed_but_damaged(tmp_path: Path, change: dict[str, object]) -> None:
    store, name = SealedStore(tmp_path, KEY, "person"), new_id()
    record = {
        "schema": SCHEMA,
        "id": name,
        "name": "Ann",
        "model": MODEL,
        "enrolled_at": 1,
        "shape": [1, 1],
        "templates": "AACAPw==",
    }
    store.write(name, json.dumps(record).encode())
    assert len(People(store).load(MODEL)[0]) == 1
    store.write(name, json.dumps({**record, **change}).encode())
    people, refused = People(store).load(MODEL)
    assert (people, len(refused)) == ((), 1)


def test_removing_leaves_nothing(tmp_path: Path) -> None:
    ann = person()
    people_in(tmp_path).add(ann)
    people_in(tmp_path).remove(ann.id)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(BadInput, match="no record"):
        people_in(tmp_path).remove(ann.id)


def test_finding_by_name_or_id(tmp_path: Path) -> None:
    people, first, second = people_in(tmp_path), person("Ann"), person("Ann")
    people.add(first)
    assert people.find("Ann").id == people.find(first.id).id == first.id
    people.add(second)
    with pytest.raises(BadInput, match="2 people"):
        people.find("Ann")
    with pytest.raises(BadInput, match="nobody"):
        people.find("Ben")


@pytest.mark.parametrize("name", ["", "  ", "x" * 65, "a\nb", "\x1b[31mred"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(BadData):
        checked_name(name)


def pins_in(folder: Path) -> Pins:
    return Pins(SealedStore(folder, KEY, "pins"))


def test_only_the_right_pin_is_right(tmp_path: Path) -> None:
    pins = pins_in(tmp_path)
    pins.set("ann", "4711")
    pins.set("ben", "08150815")
    assert pins_in(tmp_path).check("4711") == ("ann",)
    assert pins.check("08150815") == ("ben",)
    assert pins.check("4712") == pins.check("471") == pins.check("47110") == ()
    assert pins.holders() == ("ann", "ben")


@pytest.mark.parametrize("pin", ["", "abc", "12.4", "-123", "123", "1" * 13, "\uff11\uff12\uff13\uff14", "4711\n"])
def test_what_is_no_pin_is_wrong_and_cannot_be_set(tmp_path: Path, pin: str) -> None:
    pins = pins_in(tmp_path)
    pins.set("ann", "4711")
    assert pins.check(pin) == ()
    with pytest.raises(BadData) as caught:
        checked_pin(pin)
    assert not pin or pin not in str(caught.value)
    with pytest.raises(BadData):
        pins.set("ann", pin)
    assert pins.check("4711") == ("ann",)


def test_a_pin_can_be_shared_changed_and_taken_away(tmp_path: Path) -> None:
    pins = pins_in(tmp_path)
    for one in ("ann", "ben"):
        pins.set(one, "1234")
    assert pins.check("1234") == ("ann", "ben")
    pins.set("ben", "5678")
    pins.remove("ann")
    pins.remove("nobody")
    assert (pins.check("1234"), pins.check("5678")) == ((), ("ben",))


def test_no_pin_opens_where_none_was_set(tmp_path: Path) -> None:
    assert pins_in(tmp_path).check("1234") == ()
    assert pins_in(tmp_path).check("") == ()


@pytest.mark.parametrize(
    "content", [b"{}", b"[]", b"no", b'{"salt": "zz", "hashes": {}}', b'{"salt": "00", "hashes": {"a": 1}}']
)
def test_a_damaged_record_of_pins(tmp_path: Path, content: bytes) -> None:
    SealedStore(tmp_path, KEY, "pins").write("pins", content)
    with pytest.raises(BadInput, match="damaged"):
        pins_in(tmp_path).check(str(secrets.randbelow(9000) + 1000))
