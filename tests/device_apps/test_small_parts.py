"""Clocks, events, faults and settings."""

import io
import json
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from device_apps.clock import ClockWatch, FakeClock, SystemClock
from device_apps.events import Background, Event, Events, JsonLines
from device_apps.faults import Faults
from device_apps.toml_settings import read_settings
from edge.errors import BadRecipe, UnknownName


def test_a_clock_that_is_set_is_noticed_once_and_slewing_is_not() -> None:
    clock = FakeClock()
    watch = ClockWatch(clock)
    clock.advance(3600)
    assert watch.jump() == 0
    clock.set_wall(clock.wall() - 7200)
    assert watch.jump() == pytest.approx(-7200)
    assert watch.jump() == 0
    clock.set_wall(clock.wall() + 1.5)
    assert watch.jump() == 0


def test_the_machines_clocks_go_forward() -> None:
    clock = SystemClock()
    assert clock.monotonic() <= clock.monotonic()
    assert clock.wall() > 1.7e9


def test_events_are_lines_of_json_and_a_failing_listener_is_dropped() -> None:
    out = io.StringIO()
    heard: list[str] = []

    def fails(event: Event) -> None:
        heard.append(event.kind)
        raise OSError("the pipe is closed")

    events = Events((fails, JsonLines(out, frozenset({"unlock"}))))
    for kind in ("frame", "unlock"):
        events.tell(Event(kind, 1700000000.1234, {"person": "Änn"}))
    assert heard == ["frame"]
    assert "the pipe is closed" in events.dropped[0]
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [
        {"at": 1700000000.123, "event": "unlock", "person": "Änn"}
    ]


def test_a_listener_that_hangs_costs_nothing_but_its_events() -> None:
    hangs, heard = threading.Event(), []

    def listener(event: Event) -> None:
        heard.append(event.kind)
        hangs.wait(20)

    background = Background(listener, limit=3)
    for number in range(10):
        background(Event(str(number), 0.0))
    assert background.lost >= 6
    hangs.set()
    background.close(10)
    assert heard[0] == "0"
    assert len(heard) + background.lost == 10


def test_a_listener_that_fails_in_the_background_is_named() -> None:
    heard = []

    def listener(event: Event) -> None:
        heard.append(event.kind)
        raise OSError("the pipe is closed")

    background = Background(listener)
    background(Event("first", 0.0))
    background(Event("second", 0.0))
    background.close(10)
    assert heard == ["first"]
    assert background.failure == "OSError: the pipe is closed"


def test_faults_say_when_they_begin_and_end() -> None:
    faults = Faults()
    assert not faults
    assert faults.set("camera", "gone")
    assert not faults.set("camera", "gone")
    assert faults.set("camera", "still gone")  # another reason is news
    assert faults.set("mqtt", "broker gone")
    assert faults.reasons() == ("still gone", "broker gone")
    assert faults.set("camera", None)
    assert not faults.set("camera", None)
    assert faults.reasons() == ("broker gone",)


@dataclass(frozen=True)
class Inner:
    ratio: float = 0.5
    kind: Literal["print", "gpio"] = "print"
    pin: int | None = None

    def __post_init__(self) -> None:
        if self.ratio > 1:
            raise ValueError("ratio is at most 1")


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)
    enabled: bool = False


def read(tmp_path: Path, text: str) -> Outer:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    return read_settings(Outer, path)


def test_settings_are_read_with_their_defaults(tmp_path: Path) -> None:
    found = read(tmp_path, 'name = "door"\n[inner]\nratio = 1\npin = 4\n')
    assert found == Outer("door", Inner(ratio=1.0, pin=4))
    assert isinstance(found.inner.ratio, float)


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ('name = "x"\nenabeld = true', UnknownName, "enabeld"),
        ('name = "x"\n[inner]\nratoi = 1', UnknownName, "ratoi"),
        ('name = "x"\nenabled = 1', BadRecipe, "enabled is 1"),
        ('name = "x"\n[inner]\nratio = true', BadRecipe, "ratio is True"),
        ('name = "x"\n[inner]\nratio = nan', BadRecipe, "ratio is nan"),
        ('name = "x"\n[inner]\nratio = 2', BadRecipe, "ratio is at most 1"),
        ('name = "x"\n[inner]\nkind = "gpoi"', UnknownName, "gpoi"),
        ('name = "x"\n[inner]\npin = 1.5', BadRecipe, "pin is 1.5"),
        ('name = "x"\ninner = 3', BadRecipe, "inner is 3"),
        ("enabled = true", BadRecipe, "lacks name"),
        ("name = ", BadRecipe, "no TOML"),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, text: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        read(tmp_path, text)


def test_an_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownName) as caught:
        read(tmp_path, 'name = "x"\nenabeld = true')
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("did you mean enabled")


def test_files_that_are_missing_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="cannot read"):
        read_settings(Outer, tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadRecipe, match="no TOML"):
        read_settings(Outer, tmp_path / "binary.toml")


@pytest.mark.parametrize("left", [False, True])
def test_a_process_ends_with_its_code_and_all_it_said_whatever_is_left(left: bool) -> None:
    code = "import threading, time\nfrom device_apps.leaving import leave\nprint('said')\n"
    if left:
        code += "threading.Thread(target=time.sleep, args=(600,)).start()\n"  # no daemon: Python would wait for it
    done = subprocess.run([sys.executable, "-c", code + "leave(3)"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "said\n")
