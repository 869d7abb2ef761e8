"""The models that all toolkits are given, with their data: each a recipe, our own side, and files for the peers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.artifact import Artifact, Format
from edge.quiet import quiet
from edge.report import Skipped
from edgetool.candidates import Made, baseline_sequences, make, make_all
from edgetool.conversion_worker import ConversionWorker, describe_model, load_source
from edgetool.passes import check_sequence, default_sequences
from edgetool.passes.step import calibration_samples
from edgetool.progress import At, Silent
from edgetool.recipe import Recipe, read_recipe
from edgetool.task import Examples, Task, batches
from edgetool.workspace import Workspace

REPOSITORY = Path(__file__).resolve().parent.parent.parent
OUT = REPOSITORY / "out" / "peers"
RECIPES = Path(__file__).parent / "recipes"
CALIBRATION_EXAMPLES = 512  # as many, and the same ones, as quantize.int8 calibrates on


@dataclass(frozen=True)
class Ours:
    """What this toolkit makes of a model: its float32 files by format, the candidates, and those that were not made."""

    floats: Mapping[str, Artifact]
    candidates: tuple[Made, ...]
    skipped: tuple[Skipped, ...]
    task: Task


@dataclass(frozen=True)
class Given:
    """What a peer may be given: the float model by form, and an .npz: `calibration`; `x` and `y` to train on."""

    files: Mapping[str, Path]
    data: Path


def recipe_of(name: str, resnet_epochs: int) -> Recipe:
    """The recipe of a model; what it names and is made here is made where it is not there yet."""
    if name == "resnet8":
        _train_resnet(resnet_epochs)
    elif name == "keywords":
        _write_keywords()
    return read_recipe(RECIPES / f"{name}.toml")


def run_ours(recipe: Recipe, out: Path, *, train: bool) -> Ours:
    """Every candidate of the recipe as `edgetool compress` makes it; finished passes of an earlier run are taken up.

    Without `train` the candidates with a pass that trains are left out.
    """
    workspace = Workspace(out, resume=True)
    try:
        with ConversionWorker() as worker:
            source, _, _ = worker.call(describe_model, recipe.model, recipe.trust, progress=_nothing)
            task = load_source(recipe.task, source)
            with_task = (source, recipe, task.sha256, workspace, worker, Silent())
            floats = {
                kind: make(f"{kind}-float32", sequence, *with_task)
                for kind, sequence in baseline_sequences(source, recipe.target.engines).items()
            }
            sequences = recipe.sequences or default_sequences(source.format)
            if not train:
                sequences = tuple(one for one in sequences if not any(hasattr(step, "epochs") for step in one))
            formats: list[Format] = [check_sequence(source.format, sequence) for sequence in sequences]
            made, skipped = make_all(sequences, formats, floats, *with_task)
    finally:
        workspace.close()
    return Ours({kind: one.artifact for kind, one in floats.items()}, tuple(made), tuple(skipped), task)


def files_for_peers(recipe: Recipe, ours: Ours, forms: set[str], out: Path) -> Given:
    """Write what the peers take: our float32 files, the model in tf_keras where asked for, the data."""
    out.mkdir(parents=True, exist_ok=True)
    files = {form: artifact.path for form, artifact in ours.floats.items()}
    if "h5" in forms:
        files["h5"] = out / "model.h5"
        if not files["h5"].is_file():
            with ConversionWorker() as worker:
                worker.call(_write_tf_keras, recipe.model, files["h5"], progress=_nothing)
    data = out / "data.npz"
    if not data.is_file():
        rows = [
            next(iter(row.values()))[0] for row in calibration_samples(ours.task, CALIBRATION_EXAMPLES, recipe.seed)()
        ]
        x, y = all_of(ours.task.train)
        np.savez(data, calibration=np.stack(rows), x=x, y=y)
    return Given(files, data)


def all_of(examples: Examples) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """All inputs [n, ...] of a model with one input, and their labels [n]."""
    parts = [next(iter(inputs.values())) for inputs, _ in batches(examples, 1024)]
    return np.concatenate(parts), examples.labels()


def _write_tf_keras(model: Path, out: Path, *, progress: At) -> None:
    from convert.bridge.crossing import to_tf_keras
    from convert.load import load_keras

    progress(0.0, "crossing to tf_keras")
    with quiet():
        to_tf_keras(load_keras(model), inline=True).model.save(out)


def _nothing(fraction: float, what: str) -> None:
    del fraction, what


def _train_resnet(epochs: int) -> None:
    from benchmarks.channel_pruning import load, source

    kept = OUT / "models" / "resnet8"
    trained = kept / f"source-{epochs}.keras"
    if not trained.is_file():
        source("resnet8", load(), epochs, kept)
    chosen = OUT / "models" / "resnet8.keras"
    if not chosen.is_file() or chosen.read_bytes() != trained.read_bytes():
        chosen.write_bytes(trained.read_bytes())


def _write_keywords() -> None:
    """MLPerf Tiny's model is not ours to copy: the recipe names a copy below out/. The data are words under noises."""
    from benchmarks.mlperf_tiny import KEYWORDS, keyword_inputs
    from benchmarks.trained_models import SHARED

    data, model = OUT / "models" / "keywords.npz", OUT / "models" / "keywords.keras"
    if data.is_file() and model.is_file():
        return
    from convert.load import load_keras

    with quiet():
        loaded = load_keras(SHARED / "models" / "mlperf_tiny" / "keyword_spotting" / "kws_ref_model")
        inputs, clean, words = keyword_inputs(SHARED)
    classes = np.array([KEYWORDS.index(word if word in KEYWORDS else "_unknown_") for word in words])
    noises = len(inputs.calibration) - 8 * len(words)
    y_test = np.concatenate([classes, classes.repeat(8)])
    groups = np.concatenate([np.arange(len(words)), np.arange(len(words)).repeat(8)])
    # a noise is silence: no word is in it
    y_train = np.concatenate([classes.repeat(8), np.full(noises, KEYWORDS.index("_silence_"))])
    assert len(clean) + 8 * len(words) == len(inputs.evaluation)
    model.parent.mkdir(parents=True, exist_ok=True)
    loaded.save(model)
    np.savez(
        data, x_train=inputs.calibration, y_train=y_train, x_val=inputs.calibration, y_val=y_train,
        x_test=inputs.evaluation, y_test=y_test, groups_test=groups,
    )  # fmt: skip
