"""The generic names at the repository's root (decision 1): nobody else installs them."""

from importlib import metadata

OURS = {"edge", "compress", "convert", "device_apps", "edgetool", "recipes"}


def test_no_other_distribution_installs_our_names() -> None:
    owners = metadata.packages_distributions()
    for name in OURS:
        assert set(owners.get(name, ["edgetool"])) == {"edgetool"}, f"{name} is also installed by {owners[name]}"


def test_the_one_clash_we_know_of_is_still_there() -> None:
    """tf2onnx installs `tests`; if it stops, decision 1 can be simplified."""
    assert "tf2onnx" in metadata.packages_distributions().get("tests", [])
