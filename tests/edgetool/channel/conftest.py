from collections.abc import Iterator
from pathlib import Path

import pytest

from edgetool.channel.repository import Quorum, begin
from edgetool.keys import PASSWORD
from tests.edgetool.channel.rig import Rig
from tests.edgetool.channel.web import serving


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.delenv(PASSWORD, raising=False)
    begin(tmp_path / "channel", tmp_path / "keys", Quorum(2, 3), Quorum(2, 2))
    with serving(tmp_path / "channel") as web:
        yield Rig(tmp_path, web, tmp_path / "channel", tmp_path / "keys")
