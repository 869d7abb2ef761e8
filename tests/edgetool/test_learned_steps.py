"""quantize.lsq on a recurrent model, with its one-step form, down to `python -m edge run --stream`."""

from pathlib import Path

import keras
import numpy as np
import pytest

from convert.load import describe
from edge.__main__ import main
from edge.bundle import Golden, write_bundle
from edge.engines import open_engine
from edge.errors import BadRecipe, CheckFailed
from edge.preprocess import ArrayInput
from edgetool.conversion_worker import load_source
from edgetool.passes import pass_from_settings
from edgetool.recipe import TaskSource

STEPS, WIDTH, PER_CLASS = 6, 4, 40


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Noise whose later frames lean to one side: which one is the class."""
    rng = np.random.default_rng(0)
    labels = np.arange(3 * PER_CLASS) % 3
    x = rng.normal(size=(len(labels), STEPS, WIDTH)).astype(np.float32)
    x[:, 2:, 0] += 2.0 * (labels[:, None] - 1)
    path = tmp_path_factory.mktemp("data") / "frames.npz"
    half = len(labels) // 2
    np.savez(path, x_train=x[:half], y_train=labels[:half], x_test=x[half:], y_test=labels[half:])
    return path


def saved(folder: Path, *inside):
    keras.utils.set_random_seed(1)
    frames = keras.Input((STEPS, WIDTH), name="frames")
    x = frames
    for layer in inside:
        x = layer(x)
    path = folder / "model.keras"
    keras.Model(frames, keras.layers.Dense(3, activation="softmax", name="scores")(x)).save(path)
    return describe(path)


def quantized(source, data, folder, **settings):
    step = pass_from_settings("quantize.lsq", {"samples": 32, "epochs": 1, "batch_size": 20, **settings})
    task = load_source(TaskSource(str(data), "accuracy"), source)
    return step(source, task, folder, seed=0, trust=False, progress=lambda *_: None)


def test_a_streaming_model_answers_after_each_frame(tmp_path, data, capsys):
    source = saved(tmp_path, keras.layers.GRU(8))
    made = quantized(source, data, tmp_path, streaming=True)
    assert made.artifact.steps == ("quantize.lsq(samples=32, epochs=1, batch_size=20, streaming=True)",)
    # the state is float, and the report says so
    assert {entry.what.split(" x ")[1] for entry in made.skipped} == {"ADD", "MUL", "SUB"}
    examples = np.load(data)["x_test"][:2]
    engine = open_engine(made.artifact.path, "tflite")
    answers = np.concatenate([engine.run({"frames": row[None]})["scores"] for row in examples])
    write_bundle(
        tmp_path / "gru.edge",
        made.artifact,
        Golden({"frames": examples}, {"scores": answers}),
        name="gru",
        target="generic-x86_64",
        task="frames",
        preprocess={"frames": ArrayInput()},
        labels=("low", "middle", "high"),
    )
    for row, example in enumerate(examples):
        np.save(tmp_path / f"{row}.npy", example)
    assert main(["verify", str(tmp_path / "gru.edge")]) == 0
    capsys.readouterr()
    files = [str(tmp_path / f"{row}.npy") for row in range(len(examples))]
    assert main(["run", str(tmp_path / "gru.edge"), *files, "--stream"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 2 * STEPS
    for row, scores in enumerate(answers):
        name, label, probability = lines[(row + 1) * STEPS - 1]
        assert name.endswith(f"[{STEPS - 1}]")
        assert label == ("low", "middle", "high")[scores.argmax()]
        assert float(probability) == pytest.approx(scores.max(), abs=1e-4)


def test_what_cannot_stream_says_so_before_it_trains(tmp_path, data):
    source = saved(
        tmp_path, keras.layers.GRU(4, return_sequences=True), keras.layers.GlobalAveragePooling1D(name="pool")
    )
    with pytest.raises(CheckFailed, match="layer pool averages over the steps"):
        quantized(source, data, tmp_path, streaming=True)
    assert not (tmp_path / "model.tflite").exists()
    with pytest.raises(BadRecipe, match="one-step form"):
        pass_from_settings("quantize.lsq", {"streaming": True, "format": "onnx"})


def test_layers_that_cannot_be_treated_fail_the_check_by_name(tmp_path, data):
    source = saved(
        tmp_path, keras.layers.Conv1D(4, 3, name="ears"), keras.layers.GRU(4, go_backwards=True, name="back")
    )
    with pytest.raises(CheckFailed, match="ears: there is no rule for Conv1D"):
        quantized(source, data, tmp_path)
