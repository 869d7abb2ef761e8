"""docs/delegates.md names every delegate of the table, and the pages name every setting."""

import dataclasses
import re

from edge.delegates import DELEGATES
from tests.conftest import REPOSITORY

INDEX = (REPOSITORY / "docs/delegates.md").read_text(encoding="utf-8")
PAGES = "".join(page.read_text(encoding="utf-8") for page in sorted((REPOSITORY / "docs/delegates").glob("*.md")))


def test_every_delegate_stands_in_the_index() -> None:
    rows = "\n".join(line for line in INDEX.splitlines() if line.startswith("| `"))
    assert {name for name in DELEGATES if f"`{name}`" in rows} == set(DELEGATES)


def test_every_delegate_and_setting_has_its_words() -> None:
    for name, delegate in DELEGATES.items():
        assert re.search(rf"^## {name}$|^\| `{name}` |^- \*\*{name}\*\*", PAGES, re.MULTILINE), name
        for setting in dataclasses.fields(delegate.settings):
            assert f"`{setting.name}`" in PAGES, f"{name}: {setting.name}"
