"""Passes through tensorflow-model-optimization, in the conversion worker, one after the other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.load import describe
from edge.artifact import Artifact
from edge.errors import BadModel
from edgetool.conversion_worker import load_source
from edgetool.passes import pass_from_settings
from edgetool.recipe import TaskSource
from tests.conftest import REPOSITORY

SOURCE = TaskSource("breast_cancer", "f1")


@pytest.fixture(scope="module")
def source() -> Artifact:
    return describe(REPOSITORY / "recipes/models/breast_cancer.keras")


def run(name: str, settings: dict[str, Any], artifact: Artifact, folder: Path) -> Any:
    folder.mkdir(exist_ok=True)
    step = pass_from_settings(name, settings | {"batch_size": 32})
    task = load_source(SOURCE, artifact)
    return step(artifact, task, folder, seed=0, trust=False, progress=lambda *_: None)


def test_pruned_clustered_and_quantized_in_one_chain(source: Artifact, tmp_path: Path) -> None:
    """PCQAT; and Keras 3 still works in the process afterwards."""
    import keras

    from compress.quantize.litert_model import read_model

    pruned = run("prune.magnitude", {"sparsity": 0.6, "scope": "per_layer"}, source, tmp_path / "p").artifact
    clustered = run("cluster.weights", {"clusters": 8}, pruned, tmp_path / "c").artifact
    for weight in keras.models.load_model(clustered.path).weights:
        if weight.path.endswith("kernel") and weight.shape[-1] > 1:
            assert np.mean(weight.numpy() == 0) >= 0.59
            assert np.unique(weight.numpy()).size <= 8
    result = run("quantize.qat", {"epochs": 1}, clustered, tmp_path / "q")
    model = read_model(result.artifact.path.read_bytes())
    kernels = [
        np.frombuffer(bytes(model.buffers[t.buffer].data), np.int8)
        for t in model.subgraphs[0].tensors
        if t.type == 9 and t.shape is not None and len(t.shape) == 2 and model.buffers[t.buffer].data is not None
    ]
    large = [kernel for kernel in kernels if kernel.size > 16]
    assert len(large) == 2
    for kernel in large:
        assert np.mean(kernel == 0) >= 0.59
        assert np.unique(kernel).size <= 8
    assert [spec.name for spec in result.artifact.inputs] == ["features"]
    again = run("prune.magnitude", {"epochs": 1}, source, tmp_path / "again").artifact
    assert again.format == "keras"


def test_a_fine_tune_that_harms_is_undone(source: Artifact, tmp_path: Path) -> None:
    for name in ("cluster.weights", "quantize.qat"):
        said = run(name, {"learning_rate": 30.0, "epochs": 1}, source, tmp_path / name).skipped
        assert any(entry.what == "fine-tune" and "are kept" in entry.reason for entry in said)


def test_a_layer_that_cannot_cross_is_named(tmp_path: Path) -> None:
    import keras

    row = keras.Input((30,), name="features")
    x = keras.layers.RMSNormalization(name="rms")(keras.layers.Dense(4, activation="celu", name="first")(row))
    keras.Model(row, keras.layers.Dense(1, activation="sigmoid")(x)).save(tmp_path / "model.keras")
    with pytest.raises(BadModel, match=r"2 layers .*first \(Dense\).*rms \(RMSNormalization\)"):
        run("quantize.qat", {}, describe(tmp_path / "model.keras"), tmp_path / "out")
    two = keras.Model(row, [keras.layers.Dense(1, name="a")(row), keras.layers.Dense(1, name="b")(row)])
    two.save(tmp_path / "two.keras")
    with pytest.raises(BadModel, match="2 outputs"):
        run("cluster.weights", {}, describe(tmp_path / "two.keras"), tmp_path / "out")
