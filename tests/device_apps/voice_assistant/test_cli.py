"""The command line, and the app as a process: refusals, a file to its end, mute, kill -9, faults."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from device_apps.voice_assistant.cases import wav
from tests.device_apps.mosquitto import soon
from tests.device_apps.voice_assistant.running import COMMAND, ENVIRONMENT, App, command, initialised
from tests.device_apps.voice_assistant.speech import clip, silence, spoken


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return initialised(tmp_path_factory.mktemp("voice"))


@pytest.fixture
def state(made: Path, tmp_path: Path) -> Path:
    """A copy of its own."""
    subprocess.run(["cp", "-r", str(made), str(tmp_path / "state")], check=True)
    return tmp_path / "state"


@pytest.fixture(scope="module")
def spoken_command(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    """A real person's "alexa", and a command."""
    word = clip(shared_data / "speech/microww_tests/alexa/1.wav")
    path = tmp_path_factory.mktemp("sound") / "command.wav"
    sound = np.concatenate([silence(1.5), word, silence(0.4), spoken("switch off the radio"), silence(1.5)])
    path.write_bytes(wav(sound))
    return path


def test_help_shows_examples_and_needs_nothing() -> None:
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True, timeout=60)
    assert "examples:" in done.stdout
    assert "--mic pulse" in done.stdout
    code = "import runpy, sys, contextlib\nsys.argv = ['voice-assistant', '--help']\n"
    code += "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(None):\n"
    code += "    runpy.run_module('device_apps.voice_assistant', run_name='__main__')\n"
    code += "print(bool({'numpy', 'cryptography', 'onnxruntime', 'ai_edge_litert'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["--mic", "x.wav"], 2, "there is no assistant at"),
        (["meter"], 2, "there is no assistant at"),
        (["init", "--wake", "micro:alexo"], 2, "did you mean alexa?"),
        (["init", "--wake", "none.tflite"], 2, "cannot read the model"),
        (["init", "--wake", "micro:alexa", "--recogniser", "sphynx"], 2, "did you mean sphinx?"),
        (["init", "--wake", "micro:alexa", "--recogniser", "letters"], 2, "needs a model"),
        (["init", "--wake", "a b=micro:alexa"], 2, "cannot name a wake word"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    tmp_path: Path, words: list[str], code: int, reason: str
) -> None:
    pytest.importorskip("pymicro_wakeword")
    done = command(*words, state=tmp_path / "state")
    assert (done.returncode, reason in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "state" / "voice-assistant.toml").exists()


@pytest.mark.shared_data
def test_a_file_is_heard_to_its_end(state: Path, spoken_command: Path) -> None:
    done = command("--mic", str(spoken_command), "--fast", "--json", state=state)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds == ["started", "wake", "heard", "intent", "stopped"]
    intent = events[3]
    assert (intent["intent"], intent["slots"], intent["done"]) == ("HassTurnOff", {"name": "radio"}, True)
    assert json.loads(command("meter", state=state).stdout)["accepts"] == 1
    kept = b"".join(path.read_bytes() for path in state.rglob("*") if path.is_file() and path.parent.name != "models")
    assert b"radio" not in kept  # neither words nor sound
    assert not (state / "feedback").exists() or not list((state / "feedback").iterdir())


@pytest.mark.shared_data
def test_for_people_it_prints_what_it_heard(state: Path, spoken_command: Path) -> None:
    done = command("run", "--mic", str(spoken_command), "--fast", state=state)
    assert "heard    'switch off the radio'" in done.stdout
    assert "done     HassTurnOff: name radio" in done.stdout


def test_another_assistant_on_the_same_state_is_refused(state: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mic")
    app = App(state, "--mic", f"fifo:{tmp_path / 'mic'}")
    app.until("started")
    done = command("--mic", f"fifo:{tmp_path / 'mic'}", state=state)
    assert done.returncode == 3
    assert "another voice assistant runs" in done.stderr
    assert app.stop() == 0


def test_mute_closes_the_pipe_of_a_running_assistant_and_lasts_over_kill_9(state: Path, tmp_path: Path) -> None:
    path = tmp_path / "mic"
    os.mkfifo(path)
    app = App(state, "--mic", f"fifo:{path}")
    app.until("started")

    def holds() -> bool:
        folder = Path(f"/proc/{app.process.pid}/fd")
        return any(link.readlink() == path for link in folder.iterdir() if link.is_symlink())

    writer = os.open(path, os.O_RDWR)
    os.write(writer, bytes(32000))
    assert soon(holds)
    assert command("mute", state=state).returncode == 0
    app.until("muted")
    assert not holds()
    app.process.send_signal(signal.SIGKILL)
    app.process.wait()
    again = App(state, "--mic", f"fifo:{path}")
    assert again.until("started")["muted"]
    again.until("muted")
    time.sleep(0.5)
    folder = Path(f"/proc/{again.process.pid}/fd")
    assert not any(link.readlink() == path for link in folder.iterdir() if link.is_symlink())
    assert command("unmute", state=state).returncode == 0
    again.until("unmuted")
    again.until("fault")  # nobody plays: the microphone is silent
    os.close(writer)
    assert again.stop() == 0


KILLED = """
import sys, numpy as np
from pathlib import Path
from device_apps.voice_assistant.state import open_state
from device_apps.voice_assistant.wake import Wake
state = open_state(Path(sys.argv[1]))
meter, cases = state.meter(), state.cases(14)
print("writing", flush=True)
while True:
    meter.listened(1.0)
    number = meter.accepted(Wake("a", 0, 0.9), np.zeros(100, np.float32), 0.0)
    meter.was_false(number)
    name = cases.add({"word": "a"}, np.zeros(100, np.float32), 1e9)
    print(meter.reading.accepts, name, flush=True)
    cases.delete(name) if meter.reading.accepts % 2 else cases.label(name, "alexa")
    for old in cases.names()[:-3]:
        cases.delete(old)
"""


def test_no_kill_leaves_damaged_counts_or_cases(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from device_apps.voice_assistant.state import open_state

    rng, seen = np.random.default_rng(3), 0
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        said = [line.split() for line in process.stdout.read().splitlines() if line.count(" ") == 1]
        process.wait()
        state = open_state(tmp_path)
        reading = state.meter().reading
        assert reading.accepts >= seen
        if said:
            assert reading.accepts >= int(said[-1][0]) - 1
        seen = reading.accepts
        cases = state.cases(14)
        for name in cases.names():
            assert cases.case(name)[0] == {"word": "a"}
    assert seen > 0


def test_cases_are_labelled_exported_and_expire(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from device_apps.voice_assistant.state import open_state
    from edge.audio import read_wav

    state = open_state(tmp_path / "state")
    cases = state.cases(1)
    now = 1_700_000_000.0
    sound = np.linspace(-0.5, 0.5, 1600, dtype=np.float32)
    first = cases.add({"word": "alexa", "score": 0.9}, sound, now)
    second = cases.add({"word": "alexa", "score": 0.8}, sound, now)
    cases.label(first, "not-alexa")
    assert cases.export(tmp_path / "out") == 1
    (path,) = (tmp_path / "out" / "not-alexa").iterdir()
    assert np.abs(read_wav(path)[0][:, 0] - sound).max() < 1e-4
    sealed = b"".join(one.read_bytes() for one in (tmp_path / "state" / "feedback").iterdir())
    assert b"alexa" not in sealed
    assert cases.expire(now + 80_000) == 0
    assert cases.expire(now + 90_000) == 2
    assert cases.names() == ()
    third = cases.add({}, sound, now)
    assert cases.expire(now - 90_000) == 1  # a clock that was set back keeps nothing for ever
    assert third not in cases.names()
    assert second not in cases.names()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("[listen]\nhangover_ms = 900\n", "hangover_ms is 150 to 500"),
        ("[actions.HassTurnOn]\nkind = 'mqt'\n", "did you mean mqtt"),
        ("[actions.HassTurnOn]\nkind = 'mqtt'\n", "there is no .mqtt."),
        ("[action]\n", "did you mean actions"),
        ("[activity]\nkind = 'tiny'\n", "need a model"),
        ("[recogniser]\nkind = 'ctc'\n", "need a model"),
        ("[intents]\nvocabulary = 'x'\n", "a model needs its vocabulary"),
        ("[wake.b]\nthreshold = 2.0\nmodel = { file = 'a', sha256 = 'x' }\n", "sha256"),
        ("[wyoming]\nport = 99999\n", "port is 0"),
        ("[feedback]\ndays = 365\n", "days is 1 to 90"),
    ],
)
def test_settings_that_are_wrong_name_the_key(tmp_path: Path, more: str, reason: str) -> None:
    from device_apps.voice_assistant.policy import read_policy
    from edge.errors import BadInput

    good = f"[wake.alexa]\nmodel = {{ file = 'a.tflite', sha256 = '{'0' * 64}' }}\n"
    (tmp_path / "s.toml").write_text(good)
    assert read_policy(tmp_path / "s.toml").wake["alexa"].threshold == 0.9
    (tmp_path / "s.toml").write_text(good + more)
    with pytest.raises(BadInput) as found:
        read_policy(tmp_path / "s.toml")
    assert re.search(reason, f"{found.value.message} {found.value.hint}")
    (tmp_path / "s.toml").write_text("wake = 3\n")
    with pytest.raises(BadInput, match="wake is 3"):
        read_policy(tmp_path / "s.toml")


def test_a_model_that_was_exchanged_is_never_opened(state: Path) -> None:
    (state / "models" / "wake-alexa.tflite").write_bytes(b"another")
    done = command("--mic", "fifo:/tmp/none", state=state)
    assert done.returncode == 1
    assert "another file than the settings say" in done.stderr
