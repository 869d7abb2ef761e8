import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge.__main__ import main
from edge.artifact import Artifact
from edge.bundle import Golden, write_bundle
from edge.engines import open_engine, predict
from edge.engines.fake import FakeModel
from edge.image import ImageInput
from edge.preprocess import ArrayInput
from edge.table import TableInput
from edge.tensors import TensorSpec

DATA = Path(__file__).parent / "data"
REPOSITORY = Path(__file__).resolve().parents[2]
HAS_LITERT = any(importlib.util.find_spec(name) for name in ("ai_edge_litert", "tflite_runtime"))
HAS_ONNX = importlib.util.find_spec("onnxruntime") is not None
MODELS = [
    pytest.param("tiny.tflite", marks=pytest.mark.skipif(not HAS_LITERT, reason="LiteRT is not installed")),
    pytest.param("tiny_int8.tflite", marks=pytest.mark.skipif(not HAS_LITERT, reason="LiteRT is not installed")),
    pytest.param("tiny.onnx", marks=pytest.mark.skipif(not HAS_ONNX, reason="ONNX Runtime is not installed")),
]


def real_bundle(folder, file):
    """A bundle of one of the tiny networks [8, 8, 1] -> [3], with golden vectors from the runtime itself."""
    model = DATA / file
    engine = open_engine(model, model.suffix[1:])
    artifact = Artifact(model, model.suffix[1:], engine.inputs, engine.outputs, "")
    layout = "CHW" if model.suffix == ".onnx" else "HWC"
    step = ImageInput(8, 8, 1, layout=layout)
    pictures = np.random.default_rng(0).integers(0, 256, (6, 8, 8), np.uint8)
    inputs = np.stack([step(picture) for picture in pictures])
    outputs = np.concatenate([predict(engine, {"image": row[None]})["scores"] for row in inputs])
    engine.close()
    path = folder / "tiny.edge"
    write_bundle(
        path,
        artifact,
        Golden({"image": inputs}, {"scores": outputs}),
        name="tiny",
        target="generic-x86_64",
        task="pictures",
        preprocess={"image": step},
        labels=("cat", "dog", "owl"),
        versions={"numpy": np.__version__},
    )
    for index, picture in enumerate(pictures):
        (folder / f"{index}.pgm").write_bytes(b"P5 8 8 255\n" + picture.tobytes())
    return path, outputs


def fake_bundle(folder, model=None, preprocess=None, labels=(), shift=0.0, **settings):
    """A bundle of the fake engine, whose golden outputs are off by `shift`."""
    model = model or FakeModel()
    source = folder / "source.fake"
    source.write_bytes(model.to_bytes())
    engine = open_engine(source, "fake")
    inputs = {spec.name: np.ones((2, *spec.shape[1:]), np.float32) for spec in model.inputs}
    once = predict(engine, {spec.name: np.ones((spec.shape[0], *spec.shape[1:]), np.float32) for spec in model.inputs})
    outputs = {name: np.stack([values[0] + np.float32(shift)] * 2) for name, values in once.items()}
    path = folder / "fake.edge"
    write_bundle(
        path,
        Artifact(source, "fake", model.inputs, model.outputs, ""),
        Golden(inputs, outputs),
        name="fake",
        target="generic-x86_64",
        task="numbers",
        preprocess=preprocess or {spec.name: ArrayInput() for spec in model.inputs},
        labels=labels,
        **settings,
    )
    return path


@pytest.mark.parametrize("file", MODELS)
def test_run_names_the_class_of_every_picture(tmp_path, capsys, file):
    bundle, outputs = real_bundle(tmp_path, file)
    files = [str(tmp_path / f"{index}.pgm") for index in range(6)]
    assert main(["run", str(bundle), *files]) == 0
    for line, name, scores in zip(capsys.readouterr().out.splitlines(), files, outputs, strict=True):
        label = ("cat", "dog", "owl")[scores.argmax()]
        assert line == f"{name}\t{label}\t{scores.max():.4f}"


@pytest.mark.parametrize("file", MODELS)
def test_verify_replays_the_golden_vectors(tmp_path, capsys, file):
    bundle, _ = real_bundle(tmp_path, file)
    assert main(["verify", str(bundle)]) == 0
    out = capsys.readouterr().out
    assert "2 members have their hashes" in out
    assert "scores: max difference 0 on 6 vectors" in out


def test_run_json_ranks_the_classes(tmp_path, capsys):
    bundle = fake_bundle(tmp_path, labels=("a", "b", "c"))
    np.save(tmp_path / "x.npy", np.full(4, 0.25, np.float32))
    assert main(["run", str(bundle), str(tmp_path / "x.npy"), "--top", "2", "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert [entry["label"] for entry in result["top"]] == ["a", "b"]
    # cosines are no probabilities, and are not called so
    assert result["top"][0]["score"] == pytest.approx(np.cos(1), abs=1e-5)


def test_run_prints_the_value_of_a_regression_for_every_row(tmp_path, capsys):
    model = FakeModel(outputs=(TensorSpec("price", (1, 1), "float32"),))
    step = TableInput(tuple("abcd"), (1.0,) * 4, (2.0,) * 4)
    bundle = fake_bundle(tmp_path, model, {"input": step})
    (tmp_path / "x.csv").write_text("d,c,b,a\n1,1,1,1\n1,1,1,3\n")
    assert main(["run", str(bundle), str(tmp_path / "x.csv")]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{tmp_path / 'x.csv'}:2\t1", f"{tmp_path / 'x.csv'}:3\t0.540302"]


def test_run_names_several_outputs_and_takes_several_inputs(tmp_path, capsys):
    two = tuple(TensorSpec(name, (1, 2), "float32") for name in ("left", "right"))
    out = (TensorSpec("sum", (1, 1), "float32"), TensorSpec("more", (1, 20), "float32"))
    bundle = fake_bundle(tmp_path, FakeModel(two, out))
    np.savez(tmp_path / "x.npz", left=np.zeros((1, 2)), right=np.zeros((1, 2)))
    assert main(["run", str(bundle), str(tmp_path / "x.npz")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'x.npz'}:0\tsum=1\tmore=[20] from -0.989992 to 1\n"


def test_one_probability_stands_for_two_classes(tmp_path, capsys):
    model = FakeModel(outputs=(TensorSpec("p", (1, 1), "float32"),))
    bundle = fake_bundle(tmp_path, model, labels=("no", "yes"))
    np.save(tmp_path / "x.npy", np.full(4, 0.25, np.float32))
    main(["run", str(bundle), str(tmp_path / "x.npy"), "--top", "2"])
    assert capsys.readouterr().out.rstrip().split("\t")[1:] == ["yes", "0.5403", "no", "0.4597"]


def test_a_fixed_batch_is_filled(tmp_path, capsys):
    bundle = fake_bundle(
        tmp_path, FakeModel((TensorSpec("input", (3, 4), "float32"),), (TensorSpec("y", (3, 1), "float32"),))
    )
    np.save(tmp_path / "x.npy", np.zeros(4, np.float32))
    assert main(["run", str(bundle), str(tmp_path / "x.npy")]) == 0
    assert capsys.readouterr().out.endswith("\t1\n")
    assert main(["verify", str(bundle)]) == 0


def test_verify_fails_where_the_runtime_answers_otherwise(tmp_path, capsys):
    bundle = fake_bundle(tmp_path, shift=0.5)
    assert main(["verify", str(bundle)]) == 1
    printed = capsys.readouterr()
    assert "FAILED" in printed.out
    assert "output 'output' differs by 0.5" in printed.err
    assert "hint: " in printed.err
    assert main(["verify", str(bundle), "--json"]) == 1
    plain = json.loads(capsys.readouterr().out)
    assert plain["ok"] is False
    assert plain["outputs"][0]["max_difference"] == pytest.approx(0.5)


def test_info(tmp_path, capsys):
    bundle = fake_bundle(tmp_path, labels=("a", "b", "c"))
    assert main(["info", str(bundle)]) == 0
    out = capsys.readouterr().out
    for expected in ("generic-x86_64", "input [1, 4] float32 <- array(scale=1", "a, b, c", "2 vectors"):
        assert expected in out
    assert main(["info", str(bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["manifest"]["schema"] == "edgetool.bundle/3"


@pytest.mark.parametrize("file", MODELS)
def test_bench_of_a_bundle_and_of_a_model(tmp_path, capsys, file):
    bundle, _ = real_bundle(tmp_path, file)
    for model in (bundle, DATA / file):
        assert main(["bench", str(model), "--seconds", "0.1", "--json"]) == 0
        plain = json.loads(capsys.readouterr().out)
        assert 0 < plain["p50_ms"] <= plain["p90_ms"] <= plain["p95_ms"] <= plain["p99_ms"]
        assert plain["n"] >= 20
        assert plain["load_ms"] > 0
        assert plain["first_ms"] > 0
        assert plain["peak_rss_bytes"] > 10**6


def test_bad_input_is_one_line_and_a_hint(tmp_path, capsys):
    bundle = fake_bundle(tmp_path)
    np.save(tmp_path / "wrong.npy", np.zeros(5, np.float32))
    (tmp_path / "x.txt").write_text("")
    for arguments, says in (
        (["run", str(tmp_path / "nowhere.edge"), "x"], "nowhere.edge"),
        (["run", str(bundle), str(tmp_path / "wrong.npy")], "wrong.npy: input 'input' takes shape [1, 4], got [1, 5]"),
        (["run", str(bundle), str(tmp_path / "x.txt")], "takes .npy and .npz"),
        (["bench", str(tmp_path / "x.txt")], "cannot be timed"),
        (["bench", str(tmp_path / "x.tflite")], "there is no file"),
    ):
        assert main(arguments) == 2
        first, *rest = capsys.readouterr().err.splitlines()
        assert first.startswith("error: ")
        assert says in first
        assert all(line.startswith("hint: ") for line in rest)


def test_a_crash_of_the_runtime_is_exit_3(tmp_path, capsys):
    bundle = fake_bundle(tmp_path, dataclasses.replace(FakeModel(), crash_at=5))
    assert main(["bench", str(bundle), "--seconds", "0.1"]) == 3
    assert "SIGSEGV" in capsys.readouterr().err


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom edge.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "print([m for m in ('numpy', 'typing', 'json.tool', 'ai_edge_litert', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "numpy" not in done.stdout.splitlines()[-1]
    assert "verify" in done.stdout


@pytest.mark.parametrize(
    "arguments", [[], ["run"], ["jump"], ["run", "a.edge", "x", "--top", "0"], ["bench", "a", "--seconds", "0"]]
)
def test_a_wrong_command_line_is_exit_2(arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_a_reader_that_stops_early_is_no_error(tmp_path):
    bundle = fake_bundle(tmp_path)
    np.savez(tmp_path / "x.npz", input=np.zeros((20000, 4), np.float32))
    command = [sys.executable, "-m", "edge", "run", str(bundle), str(tmp_path / "x.npz")]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0
