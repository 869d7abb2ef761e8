"""Fixtures that all tests share."""

import importlib.util
import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

# The device-side environments have no hypothesis. A shared machine makes single examples slow at times.
if importlib.util.find_spec("hypothesis") is not None:
    from hypothesis import settings

    settings.register_profile("shared_machine", deadline=None)
    settings.load_profile("shared_machine")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of shared data, or a skip that says where it was looked for."""
    places = [Path(p) for p in (os.environ.get("EDGETOOL_DATA", ""), str(REPOSITORY.parent / "shared" / "data")) if p]
    for place in places:
        if (place / "MANIFEST.tsv").is_file():
            return place
    pytest.skip(f"shared data is in none of: {', '.join(map(str, places))}")
