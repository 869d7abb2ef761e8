"""Making the candidates: each sequence of passes run in the conversion worker, finished steps kept."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from edge.artifact import Artifact, sha256_of
from edge.errors import BadModel, CheckFailed, ProcessCrashed
from edge.probe import environment
from edge.report import Skipped
from edgetool.conversion_worker import ConversionWorker, run_pass
from edgetool.passes.conversions import ConvertLiteRT, ConvertONNX
from edgetool.passes.step import KERAS, Pass, PassResult, label, settings
from edgetool.progress import Progress
from edgetool.recipe import Recipe
from edgetool.results import Results, key_of

FORMAT_OF_ENGINE = {"litert": "tflite", "onnxruntime": "onnx"}
ENGINE_OF_FORMAT = {file_format: engine for engine, file_format in FORMAT_OF_ENGINE.items()}


@dataclass(frozen=True)
class Made:
    """A candidate's file. `reference` is the model it must agree with: the last one before it was converted or
    quantized (a pruned candidate is held against the pruned Keras model, not against the one that came in).
    """

    id: str
    artifact: Artifact
    reference: Artifact
    skipped: tuple[Skipped, ...] = ()


def baseline_sequences(
    source: Artifact, engines: Sequence[str], sequences: Sequence[tuple[Pass, ...]] = ()
) -> dict[str, tuple[Pass, ...]]:
    """The float32 file of each engine: by file format the passes that make it, the target's first engine first.

    A .tflite of which all `sequences` make ONNX is compared as ONNX, converted as the first of them converts it.
    """
    if source.format in KERAS:
        steps: dict[str, tuple[Pass, ...]] = {"tflite": (ConvertLiteRT(),), "onnx": (ConvertONNX(),)}
        return {FORMAT_OF_ENGINE[engine]: steps[FORMAT_OF_ENGINE[engine]] for engine in engines}
    converted = [step for sequence in sequences for step in sequence[:1] if isinstance(step, ConvertONNX)]
    if converted and len(converted) == len(sequences):
        return {"onnx": (converted[0],)}
    return {source.format: ()}


def identify(sequences: Sequence[tuple[str, tuple[Pass, ...]]]) -> list[str]:
    """A short id for each (file format, passes): `tflite-magnitude-int8`; a number tells equal ones apart."""
    ids: list[str] = []
    for file_format, sequence in sequences:
        names = [step.name.split(".")[1] for step in sequence if not step.name.startswith("convert.")]
        base = "-".join([file_format, *(names or ["float32"])])
        taken = sum(1 for other in ids if other == base or other.startswith(f"{base}."))
        ids.append(base if taken == 0 else f"{base}.{taken + 1}")
    return ids


@lru_cache(maxsize=1)
def code_sha256() -> str:
    """The hash of all code that changes or converts models: a result of other code is another result."""
    root = Path(__file__).parent.parent
    files = [path for place in ("compress", "convert", "edgetool/passes") for path in (root / place).rglob("*.py")]
    return hashlib.sha256("".join(map(sha256_of, sorted(files))).encode()).hexdigest()


def make(
    name: str,
    sequence: tuple[Pass, ...],
    source: Artifact,
    recipe: Recipe,
    task_sha256: str,
    results: Results,
    worker: ConversionWorker,
    progress: Progress,
) -> Made:
    """Run the passes of one candidate; steps that other candidates share, or that an earlier run finished, are kept.

    Raises whatever a pass raises; `ProcessCrashed` where it killed the worker.
    """
    current, reference = source, source
    skipped: tuple[Skipped, ...] = ()
    for step in sequence:
        before = current

        def run_it(folder: Path, step: Pass = step, before: Artifact = before) -> PassResult:
            return worker.call(
                run_pass, step, before, recipe.task, folder, recipe.seed, recipe.trust,
                progress=lambda fraction, what: progress.at(fraction, f"{name}: {what}"),
            )  # fmt: skip

        # a teacher or a student that a pass reads is an input of it like the model
        read = [sha256_of(path) for path in getattr(step, "reads", ())]
        versions = {**environment().versions, "edgetool": code_sha256()}
        key = key_of(before.sha256, step.name, settings(step), read, task_sha256, recipe.seed, versions)
        result = results.cached_pass(key, run_it)
        current = dataclasses.replace(result.artifact, steps=(*before.steps, *result.artifact.steps[-1:]))
        skipped = (*skipped, *(Skipped(f"{label(step)}: {s.what}", s.reason) for s in result.skipped))
        if current.format in KERAS:
            reference = current
    return Made(name, current, reference, skipped)


def make_all(
    sequences: Sequence[tuple[Pass, ...]],
    formats: Sequence[str],
    baselines: Mapping[str, Made],
    source: Artifact,
    recipe: Recipe,
    task_sha256: str,
    results: Results,
    worker: ConversionWorker,
    progress: Progress,
) -> tuple[list[Made], list[Skipped]]:
    """Every candidate that could be made, and the others with the reason.

    `baselines` are the float32 models by file format. A pass that does not fit this model, or that crashes its
    process, costs its candidate, not the run.
    """
    made: list[Made] = []
    skipped: list[Skipped] = []
    ids = identify(list(zip(formats, sequences, strict=True)))
    for number, (name, sequence) in enumerate(zip(ids, sequences, strict=True)):
        progress.at(number / len(sequences), name)
        if formats[number] not in baselines:
            skipped.append(Skipped(name, f"there is no float32 .{formats[number]} to compare it with"))
            continue
        try:
            made.append(make(name, sequence, source, recipe, task_sha256, results, worker, progress))
        except (BadModel, CheckFailed, ProcessCrashed) as error:
            skipped.append(Skipped(name, error.message))
    return made, skipped
