"""`edgetool bundle`: a finished .tflite or .onnx with all that a device needs, without a run of compress."""

from collections.abc import Mapping
from pathlib import Path

from edge import __version__
from edge.bundle import MODEL_NAMES, Golden, write_bundle
from edge.errors import BadInput, BadModel, UnknownName
from edge.probe import environment
from edge.target import target as target_named
from edgetool.bundling.origin import Origin, documents
from edgetool.bundling.parts import requirements
from edgetool.conversion_worker import ConversionWorker, describe_model, load_source
from edgetool.data.load import require_data
from edgetool.judge import golden_inputs, run_on
from edgetool.progress import Progress
from edgetool.recipe import TaskSource
from edgetool.workspace import require_writable


def make_bundle(
    model: Path,
    source: TaskSource,
    out: Path,
    *,
    target: str,
    thresholds: Mapping[str, float],
    progress: Progress,
) -> str:
    """Write the bundle of a model as it is to `out`; its golden vectors are drawn from `val` and run here.

    `thresholds` are by the names of labels or outputs. Returns a sentence on it.

    Raises:
        BadInput: the model or the data cannot be used, a threshold names nothing, or `out` cannot be a bundle.

    """
    require_data(source.data)
    target_named(target)
    if out.suffix != ".edge":
        raise BadInput(f"the output {out} is no *.edge", "give another with --out")
    require_writable(out)
    with ConversionWorker() as worker:
        artifact, _, _ = worker.call(describe_model, model, False, progress=progress.at)
    if artifact.format not in MODEL_NAMES:
        raise BadModel(f"{model} is a {artifact.format} model", "edgetool convert makes a .tflite or .onnx of it")
    task = load_source(source, artifact)
    known = (*task.labels, *(spec.name for spec in artifact.outputs))
    for name in thresholds:
        if name not in known:
            raise UnknownName("label or output", name, known)
    golden = golden_inputs(task.val, source.seed)
    requires = requirements(artifact.format)
    settings = {"target": target, "seed": source.seed, "thresholds": dict(sorted(thresholds.items()))}
    versions = {"edgetool": __version__, **environment().versions}
    origin = Origin("bundle", artifact, task.name, task.sha256, settings, versions, requires=requires)
    digest = write_bundle(
        out,
        artifact,
        Golden(dict(golden), run_on(artifact, golden)),
        name=model.stem,
        target=target,
        task=task.name,
        preprocess=task.preprocess,
        labels=task.labels,
        versions=versions,
        thresholds=thresholds,
        requires=requires,
        documents=documents(model.stem, artifact, origin),
    )
    return f"{out}: {out.stat().st_size} bytes, sha256 {digest}; unsigned"
