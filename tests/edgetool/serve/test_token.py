import base64
import os
import re
import stat

import pytest

from edge.errors import BadInput, BadRecipe
from edgetool.progress import Silent
from edgetool.serve.server import serve
from edgetool.serve.settings import Settings
from edgetool.serve.token import checked_token, is_right, new_token, token_from_file
from tests.edgetool.serve import bundles
from tests.edgetool.serve.server import TOKEN, Server

GUARDED = ("/", "/metrics", "/openapi.json", "/v1/models")


def test_every_form_of_the_right_token_and_no_other():
    token = new_token()
    basic = base64.b64encode(f"me:{token}".encode())
    assert is_right(f"Bearer {token}".encode(), token)
    assert is_right(b"bearer  " + token.encode(), token)
    assert is_right(b"Basic " + basic, token)
    for wrong in (
        None,
        b"",
        b"Bearer",
        b"Bearer " + token[:-1].encode(),
        b"Digest " + token.encode(),
        b"Basic !",
        basic,
    ):
        assert not is_right(wrong, token)
    assert not is_right(b"Bearer \xff\xff", token)
    assert new_token() != token


@pytest.mark.parametrize("token", ["", "short", "a b" * 10, "ä" * 20, "x" * 513])
def test_what_is_no_token(token):
    with pytest.raises(BadRecipe, match="is no token"):
        checked_token(token, "--token")


def test_a_file_is_made_for_its_owner_only(tmp_path):
    path = tmp_path / "token"
    os.umask(os.umask(0))
    token, is_new = token_from_file(path)
    assert is_new
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token_from_file(path) == (token, False)
    path.chmod(0o640)
    with pytest.raises(BadInput, match="read by others"):
        token_from_file(path)


def test_nothing_is_told_without_the_token(served):
    for path in GUARDED:
        for token in (False, "wrong-token-0123456789"):
            status, headers, content = served.ask(path, token=token)
            assert (status, content["error"]["kind"]) == (401, "no_token")
            assert headers["www-authenticate"].startswith("Basic")
    body = {"inputs": {"input": [0, 0, 0, 0]}}
    assert served.ask("/v1/models/fake/predict", body, token=False)[0] == 401
    for path in ("/health", "/ready"):
        assert served.ask(path, token=False)[::2] == (200, {"status": "ok"})
    basic = base64.b64encode(f":{TOKEN}".encode()).decode()
    assert served.ask("/v1/models", headers={"Authorization": f"Basic {basic}"})[0] == 200


def test_a_new_token_is_printed_once_with_a_line_that_works(tmp_path):
    with Server(bundles.fake(tmp_path), options=("--token-file", str(tmp_path / "secret"))) as server:
        token = (tmp_path / "secret").read_text().strip()
        assert sum(token in line for line in server.lines) == 2  # by itself, and in the curl line
        assert re.search(
            rf"curl -H 'Authorization: Bearer {re.escape(token)}'.*/v1/models/fake/predict", server.lines[-1]
        )
        assert server.ask("/v1/models", token=token)[0] == 200
        code, err = server.stop()
    assert (code, token in err) == (0, False)


def test_without_a_token_only_loopback_and_its_names(tmp_path):
    bundle = bundles.fake(tmp_path)
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(BadRecipe, match="let everybody on the network in"):
            serve([bundle], Settings(host=host), None, progress=Silent(), announce=print)
    with Server(bundle, options=("--no-token",), token=None) as server:
        assert server.ask("/v1/models")[0] == 200
        assert server.ask("/v1/models", headers={"Host": f"localhost:{server.port}"})[0] == 200
        status, _, content = server.ask("/v1/models", headers={"Host": "rebound.example.org"})
        assert (status, content["error"]["kind"]) == (403, "foreign_host")
