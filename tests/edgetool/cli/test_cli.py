"""The command line as a user meets it: help, lists, and one clear line with a hint for every bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

MODEL = REPOSITORY / "recipes/models/breast_cancer.keras"
TINY = REPOSITORY / "tests/edge/data"


def edgetool(*arguments: object, cwd: Path = REPOSITORY, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgetool", *map(str, arguments)]
    path = {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **path, **environment}, capture_output=True, text=True, check=False
    )


def expect_refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """One error line with these words, one hint at most, no traceback, nothing on stdout."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if not line.lstrip()[:1].isdigit()]
    assert said[0].startswith("error: "), done.stderr
    assert len(said) <= 2, done.stderr
    for word in words:
        assert word in done.stderr


def test_help_loads_no_framework_and_shows_every_command() -> None:
    code = "import sys; sys.argv = ['edgetool', '--help']\nfrom edgetool.cli.main import app\n"
    code += "try:\n    app()\nexcept SystemExit:\n    pass\nprint(sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    for module in ("tensorflow", "keras", "numpy", "rich", "onnx"):
        assert f"'{module}'" not in done.stderr
    for name in ("compress", "inspect", "convert", "evaluate", "passes", "targets", "report"):
        assert f"  {name}" in done.stdout


@pytest.mark.parametrize("name", ["compress", "inspect", "convert", "evaluate", "passes", "targets", "report"])
def test_every_command_helps_with_an_example(name: str) -> None:
    done = edgetool(name, "--help")
    assert done.returncode == 0
    assert f"edgetool {name}" in done.stdout.replace("python -m ", "")
    assert "Example" in done.stdout


@pytest.mark.parametrize(("name", "known"), [("passes", "quantize.int8"), ("targets", "raspberrypi5")])
def test_lists_are_readable_and_json(name: str, known: str) -> None:
    assert known in edgetool(name).stdout
    assert known in {row["name"] for row in json.loads(edgetool(name, "--json").stdout)}


def test_inspect_every_runnable_format() -> None:
    for file in ("tiny.tflite", "tiny_int8.tflite", "tiny.onnx"):
        done = edgetool("inspect", TINY / file)
        assert done.returncode == 0, done.stderr
        assert "operations" in done.stdout
        assert "placement" in done.stdout
    found = json.loads(edgetool("inspect", TINY / "tiny.onnx", "--json").stdout)
    assert found["format"] == "onnx"
    assert found["params"] > 0


def test_inspect_convert_evaluate_a_keras_model(tmp_path: Path) -> None:
    written = tmp_path / "m.onnx"
    done = edgetool("convert", MODEL, "--to", "onnx", "--out", written)
    assert done.returncode == 0, done.stderr
    assert "synthetic inputs" in done.stdout
    assert f"m.onnx: {written.stat().st_size / 1000:.1f} kB" in done.stdout
    keras = json.loads(edgetool("evaluate", MODEL, "--data", "breast_cancer", "--metric", "auc", "--json").stdout)
    onnx = json.loads(edgetool("evaluate", written, "--data", "breast_cancer", "--metric", "auc", "--json").stdout)
    assert keras["accuracy"]["value"] == pytest.approx(onnx["accuracy"]["value"], abs=1e-6)
    assert keras["accuracy"]["n"] == 171
    assert keras["accuracy"]["ci95"][0] < keras["accuracy"]["value"]


def test_inspect_sensitivity_refuses_what_it_cannot_honour() -> None:
    for arguments, words in (
        (("--sensitivity",), "--sensitivity needs data"),
        (("--data", "breast_cancer"), "--data is for --explain and --sensitivity"),
        (("--sensitivity", "--data", "breast_cancer", "--out", "x.png"), "--out is for --explain"),
        (("--sensitivity", "--data", "breast_cancer", "--target", "jetson-orin-nano"), "--target and --sensitivity"),
        (("--sensitivity", "--data", "nowhere/"), "unknown data"),
    ):
        expect_refused(edgetool("inspect", TINY / "tiny.tflite", *arguments), 2, words)


def test_convert_onnx_with_calibration(tmp_path: Path) -> None:
    source, written = tmp_path / "m.onnx", tmp_path / "m-int8.onnx"
    assert edgetool("convert", MODEL, "--to", "onnx", "--out", source).returncode == 0
    expect_refused(edgetool("convert", source, "--to", "onnx", "--precision", "int8"), 2, "int8 needs data", "--data")
    done = edgetool("convert", source, "--to", "onnx", "--precision", "int8", "--data", "breast_cancer")
    assert done.returncode == 0, done.stderr
    assert written.is_file()
    expect_refused(edgetool("convert", source, "--to", "tflite"), 2, "onnx")


BAD_MODELS = {
    "missing.tflite": None,
    "empty.onnx": b"",
    "noise.keras": b"PK\x03\x04 not a zip",
    "text.h5": b"hello",
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_bad_models(name: str, tmp_path: Path) -> None:
    content = BAD_MODELS[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = edgetool("compress", tmp_path / name, "--data", "breast_cancer", "--out", tmp_path / "out")
    expect_refused(done, 2, name)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("file", ["tiny.tflite", "tiny.onnx"])
def test_truncated_and_mislabelled_models(file: str, tmp_path: Path) -> None:
    content = (TINY / file).read_bytes()
    half = tmp_path / f"half-{file}"
    half.write_bytes(content[: len(content) // 2])
    expect_refused(edgetool("inspect", half), 2, half.name)
    other = tmp_path / ("m.onnx" if file.endswith("tflite") else "m.tflite")
    other.write_bytes(content)
    expect_refused(edgetool("inspect", other), 2, other.name)


def test_a_training_pass_on_a_flatbuffer_names_the_formats_that_have_it(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        f'model = "{TINY / "tiny.tflite"}"\ntask = "fashion_mnist"\npasses = [["prune.magnitude", "quantize.int8"]]\n'
    )
    expect_refused(edgetool("compress", recipe), 2, "prune.magnitude cannot treat a tflite model", "takes: keras")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--target", "rasberrypi5"], ["unknown target", "did you mean raspberrypi5"]),
        (["--max-drop", "lots"], ["max_drop", "1pp"]),
        (["--max-size", "12 parsecs"], ["max_size", "300kB"]),
        (["--metric", "acuracy"], ["unknown metric", "accuracy"]),
        (["--max-drop", "2%", "--metric", "accuracy"], ["the drop of accuracy is in points", "1pp"]),
        (["--data", "brest_cancer"], ["breast_cancer"]),
        (["--data", "diabetes"], ["diabetes"]),
        (["--seed", "-3"], ["seed"]),
    ],
)
def test_bad_options(arguments: list[str], words: list[str], tmp_path: Path) -> None:
    given = arguments if "--data" in arguments else ["--data", "breast_cancer", *arguments]
    done = edgetool("compress", MODEL, *given, "--out", tmp_path / "out")
    expect_refused(done, 2, *words)
    assert not (tmp_path / "out").exists()


def test_a_model_without_data_asks_for_it() -> None:
    expect_refused(edgetool("compress", MODEL), 2, "on which data", "--data")


def test_an_output_folder_with_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("important")
    done = edgetool("compress", MODEL, "--data", "breast_cancer", "--out", tmp_path)
    expect_refused(done, 2, "holds something else", "--out")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_ctrl_c_keeps_finished_work_and_resume_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["compress", "recipes/diabetes.toml", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgetool", *arguments],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        # as a terminal starts it: a shell's background jobs, and all below them, ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # one call, no lock
    )
    end = time.monotonic() + 120
    while not list(out.glob("work/*/result.json")) and time.monotonic() < end:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to every process of the group
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr.decode()
    assert b"finished work is kept" in stderr
    assert b"Traceback" not in stderr
    kept = list(out.glob("work/*/result.json"))
    assert kept
    before = {path: path.stat().st_mtime_ns for path in kept}
    done = edgetool(*arguments, "--resume")
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in kept} == before
    assert "SHIPS" in done.stdout


def test_a_full_disk_is_exit_3_and_keeps_what_was_there(tmp_path: Path) -> None:
    """A file system of its own, too small for the work; needs root, as CI has it."""
    small = tmp_path / "small"
    small.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.decode().strip()}")
    try:
        done = edgetool("compress", "recipes/diabetes.toml", "--out", small / "out")
        expect_refused(done, 3, "disk is full", "--resume")
        assert not list((small / "out").glob("*.edge"))
    finally:
        subprocess.run(["umount", small], check=True)


def test_report_is_written_anew(tmp_path: Path) -> None:
    expect_refused(edgetool("report", tmp_path), 2, "no readable report.json")


def test_a_terminal_that_knows_ascii_only_loses_a_sign_not_the_run() -> None:
    done = edgetool("inspect", TINY / "tiny.onnx", PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert done.returncode == 0, done.stderr
    code = "import sys\nfrom edgetool.cli import main\nmain.app = lambda **_: print('\\u00b5s')\nmain.main()"
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, env=ascii_only, capture_output=True, text=True, check=False
    )
    assert done.stdout == "?s\n"


def test_without_the_host_packages_it_says_what_to_install() -> None:
    code = "import sys, importlib.util\nfind = importlib.util.find_spec\n"
    code += "importlib.util.find_spec = lambda name, *rest: None if name == 'typer' else find(name, *rest)\n"
    code += "from edgetool.__main__ import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    expect_refused(done, 3, "host side are not installed", "edgetool[host]")


def test_places_that_cannot_be_written_are_refused_at_once(tmp_path: Path) -> None:
    out = tmp_path / "locked"
    out.mkdir()
    if os.geteuid() == 0:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(out)], check=False).returncode != 0:
            pytest.skip("cannot mount a read-only file system here")
    else:
        out.chmod(0o500)
    try:
        expect_refused(edgetool("compress", "recipes/diabetes.toml", "--out", out / "x"), 3, "cannot be written")
        expect_refused(edgetool("convert", MODEL, "--to", "tflite", "--out", out / "x.tflite"), 3, "cannot be written")
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", out], check=True)
    expect_refused(edgetool("convert", MODEL, "--to", "tflite", "--out", tmp_path), 2, "is a folder")
    expect_refused(edgetool("compress", MODEL, "--data", "breast_cancer", "--dry-run", "--json"), 2, "--json")
