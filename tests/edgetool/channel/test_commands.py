"""The commands, from keys to a bundle on a device, as docs/trust.md has them."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from edge.__main__ import main as edge_main
from edge.errors import BadInput, BadRecipe, CheckFailed
from edgetool.cli.main import app
from tests.edgetool.channel.rig import Rig, make_bundle

runner = CliRunner()


def say(*words: object):
    return runner.invoke(app, [str(word) for word in words])


def test_a_bundle_is_signed_and_verified(tmp_path, capsys):
    bundle, keys = tmp_path / "door.edge", tmp_path / "keys"
    make_bundle(bundle, "1")
    assert say("keys", "new", keys / "maker").exit_code == 0
    assert say("keys", "new", keys / "other").exit_code == 0
    assert isinstance(say("verify", bundle, "--key", keys / "maker.pub").exception, CheckFailed)
    assert say("sign", bundle, "--key", keys / "maker.key").exit_code == 0
    done = say("verify", bundle, "--key", keys / "maker.pub")
    assert done.exit_code == 0
    assert "content whole" in done.output
    assert isinstance(say("verify", bundle, "--key", keys / "other.pub").exception, CheckFailed)
    assert isinstance(say("verify", bundle).exception, BadInput)

    assert edge_main(["info", str(bundle)]) == 0
    assert "signature not checked" in capsys.readouterr().out
    assert edge_main(["verify", str(bundle), "--key", str(keys / "maker.pub")]) == 0
    assert "signature of key" in capsys.readouterr().out
    for command in ("verify", "info", "bench"):
        assert edge_main([command, str(bundle), "--key", str(keys / "other.pub")]) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert f"error: {bundle}: it is signed by another key" in said.err


def test_a_signature_is_looked_at_before_the_content(tmp_path, capsys):
    """Noise is refused for its signature, not for what it is."""
    noise = tmp_path / "noise.edge"
    noise.write_bytes(bytes(range(256)))
    assert say("keys", "new", tmp_path / "maker").exit_code == 0
    assert edge_main(["verify", str(noise), "--key", str(tmp_path / "maker.pub")]) == 1
    assert "not signed" in capsys.readouterr().err


def test_options_that_do_not_belong_together(tmp_path):
    bundle = tmp_path / "door.edge"
    make_bundle(bundle, "1")
    for words in (
        ("sign", bundle),
        ("sign", bundle, "--key", "a", "--sigstore"),
        ("sign", bundle, "--sigstore", "--certificate", "a"),
        ("sign", bundle, "--key", "a", "--chain", "b"),
        ("verify", bundle, "--identity", "me"),
        ("verify", bundle, "--identity", "me", "--identity-provider", "https://example.org", "--key", "a"),
    ):
        assert isinstance(say(*words).exception, BadRecipe), words
    assert say("verify", bundle, "--identity", "me", "--identity-provider", "https://example.org").exit_code != 0


def test_from_keys_to_a_device(rig: Rig, capsys):
    folder, keys = rig.home / "other", rig.home / "other keys"
    assert say("channel", "init", folder, "--keys", keys, "--targets", "1/2").exit_code == 0
    make_bundle(rig.home / "door.edge", "1")
    done = say("channel", "publish", folder, rig.home / "door.edge", "--keys", keys)
    assert "pi5/door.edge: release 1" in done.output
    assert "signed anew: timestamp" in say("channel", "refresh", folder, "--keys", keys).output
    assert "counts no more" in say("channel", "rotate", folder, "snapshot", "--keys", keys).output
    assert "pi5/door.edge\t1" in say("channel", "show", folder, "--keys", keys).output

    rig.web.folder = folder
    out, state = rig.home / "got.edge", rig.home / "state"
    words = ["update", "door", "--channel", rig.web.url, "--root", str(keys / "root.json"), "--state", str(state)]
    words += ["--device", "pi5", "--out", str(out)]
    assert edge_main(words) == 0
    assert "release 1, fetched" in capsys.readouterr().out
    assert out.read_bytes() == (rig.home / "door.edge").read_bytes()
    assert edge_main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fetched"] is False
    words[words.index(rig.web.url)] = folder.as_uri()
    assert edge_main(words) == 0
    assert "there already" in capsys.readouterr().out
    words[1] = "window"
    assert edge_main(words) == 2
    assert "no 'window' for pi5" in capsys.readouterr().err


@pytest.mark.parametrize("step", ["timestamp.json", "snapshot.json", "targets.json", "/targets/"])
def test_a_device_that_is_killed_has_the_old_release_and_takes_the_new_one_later(rig: Rig, step: str):
    """Killed while half of a file is there: at each step the file that runs is whole, and nothing stands in the way."""
    words = [sys.executable, "-m", "edge", "update", "door", "--channel", rig.web.url, "--device", "pi5"]
    words += ["--root", rig.keys / "root.json", "--state", rig.home / "state", "--out", rig.home / "got.edge"]
    first = rig.publish("1")
    subprocess.run(words, check=True, capture_output=True)
    second = rig.publish("2")
    rig.web.misbehave[step] = "half"
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as device:
        assert rig.web.halfway.wait(60)
        device.kill()
    assert (rig.home / "got.edge").read_bytes() == first
    rig.web.misbehave.clear()
    subprocess.run(words, check=True, capture_output=True)
    assert (rig.home / "got.edge").read_bytes() == second
    assert {path.name for path in (rig.home / "state").iterdir()} == {"metadata", "clock", "lock"}


def test_looking_for_updates_needs_no_numpy():
    code = "import sys, edge.trust.update, edge.trust.signature, edge.trust.envelope\nprint('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
