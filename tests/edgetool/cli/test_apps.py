"""The device apps behind edgetool: what follows goes to them as it is, and so does what they answer."""

from pathlib import Path

from typer.testing import CliRunner

from edge.errors import BadRecipe, UnknownName
from edgetool.cli.main import app

runner = CliRunner()


def test_the_apps_help_is_the_apps() -> None:
    done = runner.invoke(app, ["door-lock", "--help"])
    assert done.exit_code == 0
    assert "audit" in done.output
    assert "--keypad" in runner.invoke(app, ["run", "door-lock", "--help"]).output
    assert "door-lock" in runner.invoke(app, ["run", "--help"]).output


def test_the_apps_exit_code_is_ours_and_nothing_is_made(tmp_path: Path) -> None:
    for command in (["door-lock", "people"], ["door-lock", "audit", "verify"], ["run", "door-lock", "--camera", "0"]):
        done = runner.invoke(app, [*command, "--state", str(tmp_path / "none")])
        assert done.exit_code == 2
        assert "there is no lock at" in done.output
    assert not (tmp_path / "none").exists()


def test_an_app_that_there_is_not() -> None:
    assert isinstance(runner.invoke(app, ["run", "dor-lock"]).exception, UnknownName)
    assert isinstance(runner.invoke(app, ["run"]).exception, BadRecipe)
