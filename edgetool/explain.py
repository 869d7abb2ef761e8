"""`edgetool inspect MODEL --explain INPUT`: which parts of an input counted, by occlusion, in any format."""

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.artifact import Artifact
from edge.bundle import MODEL_NAMES, Bundle, open_bundle
from edge.durable import write_whole
from edge.errors import BadData, BadRecipe, UnknownName
from edge.occlusion import BUDGET, Occlusion, occlude
from edge.preprocess import Preprocess
from edge.runtime_process import RuntimeProcess
from edge.tensors import TensorSpec
from edgetool.conversion_worker import ConversionWorker, describe_model, load_source
from edgetool.data.load import require_data
from edgetool.explain_input import Subject, read_example, steps_for_file, subject_of
from edgetool.explanation import ExplainedRegion, Explanation
from edgetool.passes.step import KERAS
from edgetool.progress import At, Progress
from edgetool.recipe import TaskSource
from edgetool.task import Task
from edgetool.workspace import require_writable

Array = npt.NDArray[Any]
Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]
MOST_FOR_MEAN = 512  # examples that a table's means are taken over
FROM_SPLIT = re.compile(r"(train|val|test):(\d+)")


@dataclass(frozen=True)
class Question:
    """What is to be explained: `path` is a file, or `test:17`, example 17 of that split of the data.

    None leaves a choice to the model: its first input and output, the class that it names, the usual baseline.
    """

    path: str
    source: TaskSource | None = None
    pixels: str | None = None
    input_name: str | None = None
    output_name: str | None = None
    class_name: str | None = None
    kind: str | None = None
    baseline: str | None = None
    example: int = 0
    budget: int = BUDGET


@dataclass(frozen=True)
class _Score:
    """Which number of an output is explained. `index` is along the last axis; other axes are averaged over."""

    output: TensorSpec
    index: int
    negated: bool = False  # one probability of two classes, and the first class is explained
    value: bool = False

    def of(self, outputs: Mapping[str, Array]) -> npt.NDArray[np.float64]:
        values = np.asarray(outputs[self.output.name], np.float64)
        rows = values.reshape(len(values), -1, values.shape[-1] if values.ndim > 1 else 1)
        score: npt.NDArray[np.float64] = rows[:, :, 0 if self.negated else min(self.index, rows.shape[2] - 1)].mean(
            axis=1
        )
        return 1 - score if self.negated else score


def explain_model(path: Path, question: Question, *, out: Path | None, trust: bool, progress: Progress) -> Explanation:
    """Explain one score of one input of a model or bundle, and write the picture to `out`.

    Raises:
        BadInput: the model, the input or a choice does not fit; the hint says what is missing.

    """
    if out is not None:
        if out.suffix.lower() != ".png":
            raise BadRecipe(f"the picture {out} is no .png", "give it a name that ends in .png")
        require_writable(out)
    if question.source is not None:
        require_data(question.source.data)
    with ConversionWorker() as worker, _unpacked(path) as (file, bundle):
        artifact, _, _ = worker.call(describe_model, file, trust, progress=progress.at)
        task = None if question.source is None else load_source(question.source, artifact)
        steps, said_by = _steps(question, artifact, bundle, task)
        name, feeds = _example(question, steps, task)
        spec = _named(artifact.inputs, question.input_name, "input")
        subject = _subject(question, spec, steps[spec.name], feeds[spec.name], bundle, task)
        with _runner(artifact, trust, worker, progress) as run:
            score = _score(question, artifact, bundle, task, run(_batch(feeds, artifact, spec.name, None)))
            found = _occlude(question, subject, score, artifact, feeds, spec, run, progress)
    explanation = _explanation(path, artifact, question, name, spec, said_by, subject, score, found, bundle, task)
    if out is None:
        return explanation
    from edgetool.render.heat import draw

    explanation = replace(explanation, picture=str(out))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, draw(explanation, subject, found))
    return explanation


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[tuple[Path, Bundle | None]]:
    """The model's file, which of a bundle is written to a temporary folder."""
    if path.suffix != ".edge":
        yield path, None
        return
    bundle = open_bundle(path)
    with tempfile.TemporaryDirectory(prefix="edgetool-") as folder:
        file = Path(folder) / MODEL_NAMES[bundle.manifest.format]
        file.write_bytes(bundle.model)
        yield file, bundle


def _steps(
    question: Question, artifact: Artifact, bundle: Bundle | None, task: Task | None
) -> tuple[Mapping[str, Preprocess], str]:
    if bundle is not None:
        if question.pixels is not None:
            raise BadRecipe(f"the bundle says what its pixels are, so no --pixels {question.pixels}", "leave it out")
        return bundle.preprocess, "preprocessed as the bundle says"
    if task is not None:
        return task.preprocess, f"preprocessed as {task.name} says"
    if FROM_SPLIT.fullmatch(question.path):
        raise BadRecipe(f"{question.path} is an example of data, but there is no data", "add --data")
    path = Path(question.path)
    steps = steps_for_file(path, artifact.inputs, question.pixels)
    if path.suffix.lower() == ".wav":
        return steps, "taken at 16 kHz"
    return steps, f"pixels {question.pixels}" if question.pixels else "taken as it is"


def _example(question: Question, steps: Mapping[str, Preprocess], task: Task | None) -> tuple[str, dict[str, Array]]:
    match = FROM_SPLIT.fullmatch(question.path)
    if match is None or task is None:
        return read_example(Path(question.path), steps, question.example)
    examples, number = getattr(task, match[1]), int(match[2])
    if number >= examples.n:
        raise BadData(f"{task.name} has {examples.n} examples in {match[1]}, so no {question.path}")
    inputs, _ = examples.take(np.array([number], np.int64))
    return f"{task.name} {question.path}", {key: values[0] for key, values in inputs.items()}


def _subject(
    question: Question, spec: TensorSpec, step: Preprocess, example: Array, bundle: Bundle | None, task: Task | None
) -> Subject:
    mean, mean_of = None, ""
    if task is not None:
        drawn = np.sort(np.random.default_rng(0).permutation(task.train.n)[:MOST_FOR_MEAN])
        inputs = task.train.take(drawn)[0] if example.ndim == 1 else {}
        mean = inputs[spec.name].mean(axis=0, dtype=np.float64) if inputs else None
        mean_of = f"{len(drawn):,} rows of {task.name}"
    elif bundle is not None and example.ndim == 1 and step.kind != "table":
        golden = bundle.golden.inputs[spec.name]
        mean, mean_of = golden.mean(axis=0, dtype=np.float64), f"the bundle's {len(golden)} golden inputs"
    return subject_of(spec, step, example, kind=question.kind, baseline=question.baseline, mean=mean, mean_of=mean_of)


def _named(specs: tuple[TensorSpec, ...], name: str | None, what: str) -> TensorSpec:
    if name is None:
        return specs[0]
    by_name = {spec.name: spec for spec in specs}
    if name not in by_name:
        raise UnknownName(f"{what} of the model", name, by_name)
    return by_name[name]


@contextlib.contextmanager
def _runner(artifact: Artifact, trust: bool, worker: ConversionWorker, progress: Progress) -> Iterator[Run]:
    """What runs stacked inputs: the runtime of the format in a process of its own, or Keras in the worker."""
    if artifact.format in KERAS:
        yield lambda feeds: worker.call(keras_outputs, artifact, dict(feeds), trust)
        return
    with RuntimeProcess() as process:
        progress.at(0.0, f"loading {artifact.path.name}")
        process.load(artifact.path, artifact.format)
        yield process.predict


def keras_outputs(artifact: Artifact, inputs: Mapping[str, Array], trust: bool, *, progress: At) -> dict[str, Array]:
    """The outputs of a Keras model, called in the worker, which loads the model once."""
    from convert.reference import run

    del progress  # each call is short
    return run(_loaded(str(artifact.path), artifact.sha256, trust), inputs)


@lru_cache(maxsize=1)
def _loaded(path: str, sha256: str, trust: bool) -> Any:
    from convert.load import load_keras

    del sha256  # a part of the key: another content is another model
    return load_keras(Path(path), trust=trust)


def _batch(feeds: Mapping[str, Array], artifact: Artifact, name: str, examples: Array | None) -> dict[str, Array]:
    """Stacked inputs: `examples` for the input `name`, the others repeated; filled up to the model's fixed batch."""
    values = feeds[name][None] if examples is None else examples
    fixed = artifact.inputs[0].shape[0] or 1
    n = -(-len(values) // fixed) * fixed
    filled = np.concatenate([values, np.repeat(values[-1:], n - len(values), axis=0)])
    return {key: filled if key == name else np.repeat(value[None], n, axis=0) for key, value in feeds.items()}


def _score(
    question: Question, artifact: Artifact, bundle: Bundle | None, task: Task | None, outputs: Mapping[str, Array]
) -> _Score:
    """The number that is explained: the class that is asked for, else the one that the model names."""
    output = _named(artifact.outputs, question.output_name, "output")
    values = np.asarray(outputs[output.name], np.float64)[:1]
    count = values.shape[-1] if values.ndim > 1 else 1
    labels = _labels(bundle, task)
    values = values.reshape(-1, count).mean(axis=0)
    is_value = not labels and (count == 1 or task is not None)
    if question.class_name is not None:
        index = _class_index(question.class_name, labels, max(count, len(labels) or 2 if not is_value else count))
    elif count == 1 and len(labels) == 2:
        index = int(values[0] >= 0.5)
    else:
        index = int(values.argmax()) if not is_value else 0
    return _Score(output, index, negated=count == 1 and not is_value and index == 0, value=is_value)


def _labels(bundle: Bundle | None, task: Task | None) -> tuple[str, ...]:
    return bundle.manifest.labels if bundle is not None else () if task is None else task.labels


def _class_index(name: str, labels: tuple[str, ...], count: int) -> int:
    if name in labels:
        return labels.index(name)
    if name.isdigit() and int(name) < count:
        return int(name)
    raise UnknownName("class", name, labels or tuple(map(str, range(count))))


def _occlude(
    question: Question,
    subject: Subject,
    score: _Score,
    artifact: Artifact,
    feeds: Mapping[str, Array],
    spec: TensorSpec,
    run: Run,
    progress: Progress,
) -> Occlusion:
    def scores(examples: Array) -> Array:
        return score.of(run(_batch(feeds, artifact, spec.name, examples)))[: len(examples)]

    def told(done: int, total: int) -> None:
        progress.at(done / total, f"occluded {done} of at most {total} times")

    tick = 0.0 if score.output.quantization is None else score.output.quantization.scale
    return occlude(
        subject.example, subject.baseline, subject.axes, scores,
        two_sided=score.value, parts=subject.parts, budget=question.budget, tick=tick, progress=told,
    )  # fmt: skip


def _explanation(
    path: Path,
    artifact: Artifact,
    question: Question,
    name: str,
    spec: TensorSpec,
    said_by: str,
    subject: Subject,
    score: _Score,
    found: Occlusion,
    bundle: Bundle | None,
    task: Task | None,
) -> Explanation:
    labels = _labels(bundle, task)
    held = [other.name for other in artifact.inputs if other.name != spec.name]
    return Explanation(
        model=str(path),
        format=artifact.format,
        input=name if not held else f"{name}, input {spec.name}; {', '.join(held)} left as it is",
        input_name=spec.name,
        kind=subject.kind,
        preprocessing=said_by,
        output=score.output.name,
        class_index=None if score.value else score.index,
        label=labels[score.index] if not score.value and score.index < len(labels) else None,
        score=found.score,
        baseline=subject.baseline_words,
        explains=found.explains,
        deletion=found.deletion,
        regions=tuple(
            ExplainedRegion(subject.place(region.start, region.stop), region.start, region.stop, region.drop)
            for region in found.regions
        ),
        noise=found.noise,
        runs=found.runs,
        budget=question.budget,
        verdict=_verdict(subject, found),
    )


def _verdict(subject: Subject, found: Occlusion) -> str:
    if np.array_equal(subject.example, subject.baseline):
        return f"nothing is explained: the input is {subject.baseline_words} itself; choose another --baseline"
    if not found.explains:
        return "nothing is explained: no part of this input moves the score"
    if found.deletion.faithful is None:
        return "there is one part only, so the map cannot be checked"
    if not found.deletion.faithful:
        return "the map means little: what it calls important moves the score no more than the rest"
    return "the map holds: what it calls important moves the score more than the rest"
