"""Every pass of the one table: documented, in a recipe, and run on a real model in every format it takes."""

import dataclasses
from pathlib import Path

import pytest

from convert.load import describe
from edge.artifact import Artifact, Format
from edge.errors import BadModel, BadRecipe, CheckFailed, UnknownName
from edgetool.candidates import baseline_sequences
from edgetool.conversion_worker import load_source
from edgetool.judge import golden_inputs, parity_of, run_on
from edgetool.passes import PASSES, check_sequence, default_sequences, pass_from_settings
from edgetool.passes.post_training import Int8
from edgetool.passes.step import KERAS, label
from edgetool.recipe import TaskSource, read_recipe
from tests.conftest import REPOSITORY

MODEL = REPOSITORY / "recipes/models/breast_cancer.keras"
SOURCE = TaskSource("breast_cancer", "f1")
FORMATS: tuple[Format, ...] = ("keras", "onnx", "tflite")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """The same trained model in every format."""
    keras = describe(MODEL)
    made: dict[str, Artifact] = {"keras": keras}
    for file_format, steps in baseline_sequences(keras, ("litert", "onnxruntime")).items():
        folder = tmp_path_factory.mktemp(file_format)
        made[file_format] = steps[0](keras, None, folder, seed=0, trust=False, progress=lambda *_: None).artifact
    return made


def test_every_pass_has_a_page_and_a_recipe() -> None:
    recipes = [read_recipe(path) for path in (REPOSITORY / "recipes").glob("*.toml")]
    used = {step.name for recipe in recipes for sequence in recipe.sequences or () for step in sequence}
    # Every Keras recipe makes its float32 baselines by these two.
    used |= {"convert.litert", "convert.onnx"}
    assert used == set(PASSES)
    pages = {path.stem for path in (REPOSITORY / "docs/passes").glob("*.md")}
    assert pages == set(PASSES)


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_states_what_it_takes(name: str) -> None:
    step = pass_from_settings(name, {})
    assert label(step) == name
    for source in ("keras", "h5", "savedmodel", "onnx", "tflite"):
        if source in step.accepts:
            assert check_sequence(source, (step,)) in ("keras", "onnx", "tflite")
        else:
            with pytest.raises(BadRecipe, match=f"{name} cannot treat a {source} model") as caught:
                check_sequence(source, (step,))
            assert ", ".join(sorted(step.accepts)) in (caught.value.hint or "")


def test_settings_are_checked_and_shown() -> None:
    assert label(pass_from_settings("quantize.int8", {"samples": 64})) == "quantize.int8(samples=64)"
    assert dataclasses.replace(Int8(), samples=3).samples == 3
    with pytest.raises(UnknownName, match=r"setting of quantize\.int8"):
        pass_from_settings("quantize.int8", {"sample": 64})
    with pytest.raises(UnknownName, match=r"calibration of quantize\.int8"):
        pass_from_settings("quantize.int8", {"calibration": "entropie"})
    for settings in ({"sparsity": 1.0}, {"epochs": 0}, {"end": 0.0}, {"learning_rate": True}):
        with pytest.raises(BadRecipe, match=r"prune\.magnitude"):
            pass_from_settings("prune.magnitude", settings)


@pytest.mark.parametrize("name", [name for name in PASSES if name.startswith("quantize.")])
@pytest.mark.parametrize("source", FORMATS)
def test_post_training_on_every_format(name: str, source: Format, sources: dict[str, Artifact], tmp_path: Path) -> None:
    artifact = sources[source]
    task = load_source(SOURCE, artifact)
    step = pass_from_settings(name, {})
    if source not in step.accepts:
        pytest.skip(f"{name} takes no {source}")
    if (name, source) == ("quantize.dynamic", "keras"):
        # The converter leaves weights this small alone and says nothing; the pass does not.
        with pytest.raises(CheckFailed, match="quantized no operation"):
            step(artifact, task, tmp_path, seed=0, trust=False, progress=lambda *_: None)
        return
    made = step(artifact, task, tmp_path, seed=0, trust=False, progress=lambda *_: None).artifact
    assert made.format == ("onnx" if source == "onnx" else "tflite")
    assert made.steps[-1].startswith(name)
    assert [spec.name for spec in made.inputs] == [spec.name for spec in artifact.inputs]
    golden = golden_inputs(task.val, 0)
    reference = run_on(sources["tflite"], golden)
    parity = parity_of(made, reference, run_on(made, golden), "tflite")
    assert parity.first_divergence is None
    assert parity.sqnr_db is not None
    assert parity.sqnr_db > 15
    assert made.sha256 != artifact.sha256


def test_a_quantized_model_is_not_quantized_again(sources: dict[str, Artifact], tmp_path: Path) -> None:
    task = load_source(SOURCE, sources["tflite"])
    once = Int8()(sources["tflite"], task, tmp_path, seed=0, trust=False, progress=lambda *_: None).artifact
    (tmp_path / "again").mkdir()
    with pytest.raises(BadModel, match="quantized"):
        Int8()(once, task, tmp_path / "again", seed=0, trust=False, progress=lambda *_: None)


def test_pruning_reaches_its_sparsity(sources: dict[str, Artifact], tmp_path: Path) -> None:
    import keras
    import numpy as np

    task = load_source(SOURCE, sources["keras"])
    step = pass_from_settings("prune.magnitude", {"sparsity": 0.6, "epochs": 4, "batch_size": 32})
    result = step(sources["keras"], task, tmp_path, seed=0, trust=False, progress=lambda *_: None)
    kernels = [w.numpy() for w in keras.models.load_model(result.artifact.path).weights if w.path.endswith("kernel")]
    zeros = sum(int(np.sum(kernel == 0)) for kernel in kernels) / sum(kernel.size for kernel in kernels)
    assert zeros == pytest.approx(0.6, abs=0.01)
    assert result.artifact.steps == ("prune.magnitude(epochs=4, batch_size=32, sparsity=0.6)",)


def test_passes_that_need_data_say_so(sources: dict[str, Artifact], tmp_path: Path) -> None:
    for name in ("quantize.int8", "quantize.int16x8", "prune.magnitude"):
        with pytest.raises(BadRecipe, match=f"{name} needs data"):
            pass_from_settings(name, {})(
                sources["keras"], None, tmp_path, seed=0, trust=False, progress=lambda *_: None
            )


def test_defaults_fit_their_format() -> None:
    for source in ("keras", "h5", "savedmodel", "onnx", "tflite"):
        for sequence in default_sequences(source):
            assert check_sequence(source, sequence) in ("onnx", "tflite")
    assert any(step.name == "convert.onnx" for sequence in default_sequences("keras") for step in sequence)
    assert {"keras", "h5", "savedmodel"} == KERAS
