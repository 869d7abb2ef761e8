"""docs/coverage.md tells the truth: what it calls done exists, and what exists stands there."""

import importlib.util
import re

import pytest

from edgetool.cli.main import app
from edgetool.data.load import BUILT_IN
from edgetool.metrics import METRICS
from edgetool.passes import PASSES
from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs/coverage.md").read_text(encoding="utf-8")
ROWS = [
    tuple(cell.strip() for cell in line.strip("|").split("|"))
    for line in PAGE.splitlines()
    if line.startswith("|") and not line.startswith("|---")
]
BODY = [row for row in ROWS if row[1] != "state"]
DONE = [row for row in BODY if row[1] == "done"]


def commands() -> set[str]:
    groups = {info.name for info in app.registered_groups if info.name}
    return groups | {
        (info.name or info.callback.__name__).replace("_", "-") for info in app.registered_commands if info.callback
    }


def test_every_row_has_a_state() -> None:
    assert len(BODY) > 30
    for what, state, _ in BODY:
        assert state == "done" or re.match(r"(planned: \w|refused with the reason)", state), what


@pytest.mark.parametrize("row", DONE, ids=[row[0][:40] for row in DONE])
def test_the_command_of_a_done_row_exists(row: tuple[str, str, str]) -> None:
    named = re.findall(r"`([^`]+)`", row[2])
    assert named, f"{row[0]} has no command"
    for words in (command.split() for command in named):
        if words[0] == "edgetool":
            assert words[1] in commands()
        elif words[0] == "pytest":
            assert (REPOSITORY / words[1]).exists()
        else:
            assert words[:2] == ["python", "-m"]
            assert importlib.util.find_spec(words[2]) is not None
        for word in words[1:]:
            if word.startswith("recipes/"):
                assert (REPOSITORY / word).is_file()


def test_everything_that_exists_stands_there() -> None:
    done = " ".join(row[0] for row in DONE)
    for name in (*PASSES, *METRICS, *BUILT_IN):
        assert f"`{name}`" in done, name
    for name in commands():
        assert f"`edgetool {name}`" in done, name
