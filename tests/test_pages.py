"""The tables in README and docs say what benchmarks/results says, and the commands in README exist."""

import re

import pytest

from benchmarks.pages import PAGES, made
from tests.conftest import REPOSITORY
from tests.test_coverage_page import commands

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_those_of_the_results(page: str) -> None:
    assert made(page) == (REPOSITORY / page).read_text(encoding="utf-8"), "run python -m benchmarks.pages"


def test_commands_of_the_readme_exist() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    lines = [line.split("#")[0].split() for block in blocks for line in block.splitlines() if line.strip()]
    makefile = (REPOSITORY / "Makefile").read_text()
    assert any(words[0] == "edgetool" for words in lines)
    for words in lines:
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), words
        elif words[0] == "edgetool":
            assert words[1] in commands(), words


def test_links_lead_somewhere() -> None:
    pages = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *REPOSITORY.glob("docs/**/*.md")]
    for page in pages:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page.name}: {link}"
