"""What a person sees of a rollout: the picture of a terminal, and the lines of a log."""

import dataclasses
import io

import pytest
from rich.console import Console

from edgetool.cli.fleet_display import _Lines, _Live
from edgetool.fleet.rollout import DeviceState, Rollout

ROLLOUT = Rollout(
    "shops",
    "/b.edge",
    "door",
    "ab" * 32,
    (1, 3, 6),
    tuple(DeviceState(f"d{number}", "pi4", f"ssh://pi@10.0.0.{number}") for number in range(1, 7)),
)


def test_the_picture() -> None:
    written = io.StringIO()
    console = Console(file=written, width=100, force_terminal=False)
    shown = _Live(console)
    shown.doing(0.5, "asking devices: d3")
    console.print(shown)
    assert "asking devices: d3  50%" in written.getvalue()
    shown.state(ROLLOUT)
    now = ROLLOUT.changed("d1", state="updated", release="0002-x", seconds=4.0)
    now = dataclasses.replace(now.changed("d2", state="updating").changed("d3", state="unreached"), proven=1)
    shown.state(now.changed("d4", state="failed", reason="its service ended"))
    shown.step(now.named("d2"), 0.4, "replaying the golden vectors")
    written.truncate(0)
    written.seek(0)
    console.print(shown)
    lines = written.getvalue().splitlines()
    assert lines[0].startswith("# | +? | X..   wave 2 of 3, 1 of 6 updated, 1 failed, 1 unreached")
    assert "d2" in lines[1]
    assert "replaying the golden vectors" in lines[1]


def test_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    lines = _Lines()
    lines.doing(0.1, "asking devices: d1")
    lines.doing(0.2, "asking devices: d2")
    lines.state(ROLLOUT)
    lines.state(ROLLOUT.changed("d1", state="updated", release="0002-x", seconds=4.0))
    told = [line.split("s  ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert told == [
        "asking devices: 10%",
        "door to 6 devices in 3 waves: 1, then 3, then 6",
        "wave 1 of 3  d1: updated to 0002-x in 4.0 s",
    ]
